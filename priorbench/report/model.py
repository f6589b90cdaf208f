"""The figures of a report as data. The page draws them on screen, :mod:`.static` for papers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isnan
from typing import Any

import pandas as pd

from ..tables.columns import LABEL, choosing, contenders, reported, succeeded
from ..tables.flags import unfair
from ..tables.words import floor, named
from .style import Style, styles

FID = "FID (squared feature units)"  # the title of an axis

# The columns of a file in fits/, besides the prior's.
CURVE = ["t_trunc", "fit_budget", "share", "step", "seconds", "loss", "distance", "floor"]


@dataclass
class Series:
    """Points or a line.

    ``low`` and ``high`` are the ends of a 95 % interval (NaN where there is none). They are drawn
    as a band along a line, and as bars at points. A ``hidden`` series is drawn once the reader
    switches it on.
    """

    name: str
    style: Style
    x: list[float]
    y: list[float]
    text: list[str] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    mode: str = "markers"  # "lines", "lines+markers"
    band: bool = False
    step: bool = False
    hidden: bool = False


@dataclass
class Axis:
    """An axis: its name with the unit, and ``ticks`` (value, text) that replace the library's."""

    title: str
    log: bool = False
    ticks: list[tuple[float, str]] | None = None


@dataclass
class Figure:
    """A figure with a caption in words, and one or more views. One view is shown at a time."""

    id: str
    title: str
    caption: str
    x: Axis
    y: Axis
    views: dict[str, list[Series]]
    first: str = ""  # the view that is shown first; by default the first of ``views``

    def __post_init__(self) -> None:
        self.first = self.first if self.first in self.views else next(iter(self.views), "")
        every = [s for view in self.views.values() for s in view] if self.y.log else []
        # A logarithmic axis has no place for an interval that reaches below 0.
        least = min((y for s in every for y in s.y if y > 0), default=1.0) / 2
        for series in every:
            series.low = [max(low, least) if low == low else low for low in series.low]

    @property
    def empty(self) -> bool:
        return not any(s.x for view in self.views.values() for s in view)


class Book:
    """The rows behind the figures: means over seeds on the test split, with labels and styles.

    All are of one budget of the fit, but ``budgets``: those of best.csv for every budget.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        means: pd.DataFrame,
        best: pd.DataFrame,
        curves: pd.DataFrame | None = None,
        budgets: pd.DataFrame | None = None,
    ) -> None:
        self.judged = bool(len(choosing(table)))
        self.alpha_bar: dict[int, float] = table.groupby("t_trunc").alpha_bar.first().to_dict()
        self.means = _labelled(reported(means))
        if len(self.means):
            self.means["ms"] = 1000 * (self.means.prior_seconds + self.means.denoise_seconds)
            self.means["gflops"] = (self.means.flops_prior + self.means.flops_chain) / 1e9
            self.means["setting"] = [setting(r.solver, r.nfe) for r in self.means.itertuples()]
        self.best = _labelled(best)
        self.budgets = self.best if budgets is None else _labelled(budgets)
        self.floor = floor(reported(succeeded(table)))
        # A prior may have been fitted with other budgets only.
        rows = [part[["label", "control"]] for part in (self.means, self.budgets) if len(part)]
        labels = pd.concat(rows).drop_duplicates() if rows else self.means
        self.styles = styles([(row.label, bool(row.control)) for row in labels.itertuples()])
        curves = curves if curves is not None else pd.DataFrame(columns=[*LABEL, *CURVE])
        curves = _labelled(curves)
        self.curves = curves[curves.label.isin(self.styles)]
        self.noise = self._of("noise", full=True)
        self.oracle = self._of("oracle")

    def _of(self, prior: str, full: bool = False) -> pd.DataFrame:
        found = self.means[self.means.prior == prior] if len(self.means) else self.means
        return found[found.t_trunc == found["T"]] if full and len(found) else found

    @property
    def has_rivals(self) -> bool:
        """Whether break-evens can be known: they need rivals and FIDs on a choosing split."""
        return bool(len(self.noise)) and self.judged

    @property
    def chain(self) -> pd.DataFrame:
        """The full chain: the row that every speed-up is measured against."""
        return self.noise[(self.noise.speedup - 1).abs() < 1e-9] if len(self.noise) else self.noise

    def groups(self, frame: pd.DataFrame) -> Iterator[tuple[str, bool, pd.DataFrame]]:
        """(label, whether it is a control, its rows), contenders first.

        Pure noise over the whole chain is left out.
        """
        if not len(frame):
            return
        frame = frame[~((frame.prior == "noise") & (frame.t_trunc == frame["T"]))]
        ranked = contenders(frame)
        for control, rows in ((False, ranked), (True, frame.drop(ranked.index))):
            for label, of_label in rows.groupby("label", sort=False):
                yield str(label), control, of_label


def _labelled(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.assign(flag=frame.flag.fillna("")) if "flag" in frame else frame.assign(flag="")
    frame = frame.assign(fit_budget=frame.fit_budget.fillna("") if "fit_budget" in frame else "")
    return frame.assign(label=[named(*pair) for pair in frame[LABEL].itertuples(index=False)])


def setting(solver: Any, nfe: float) -> str:
    """``dpm++, NFE 5``."""
    return f"{solver}, NFE {nfe:.0f}"


def fid_and_ends(row: Any) -> str:
    """``5.43 (5.15 to 5.71)``: a row's FID with the ends of its interval."""
    ends = f" ({row.fid_low:.3g} to {row.fid_high:.3g})" if row.fid_low == row.fid_low else ""
    return f"{row.fid:.3g}{ends}"


def hover(rows: pd.DataFrame, *columns: tuple[str, str]) -> list[str]:
    """The text that hovering over each row shows, one fact per line.

    Arguments:
        columns: (name, column) pairs to show after the FID.
    """
    found = []
    for row in rows.itertuples():
        lines = [
            row.label,
            f"t_trunc {row.t_trunc:.0f}, {setting(row.solver, row.nfe)}",
            f"FID {fid_and_ends(row)}",
        ]
        lines += [f"fitted in {row.fit_budget}"] if row.fit_budget else []
        lines += [f"{name} {getattr(row, column):.4g}" for name, column in columns]
        found.append("\n".join([*lines, *([f"flagged: {row.flag}"] if row.flag else [])]))
    return found


def wide(*values: Any) -> bool:
    """Whether positive values span more than a factor of 15, and so need a logarithmic axis."""
    every = [float(v) for part in values for v in part if v == v]
    every = [v for v in every if abs(v) != float("inf")]
    return bool(every) and min(every) > 0 and max(every) / min(every) > 15


def points(
    label: str, style: Style, rows: pd.DataFrame, x: str, y: str, text: list[str], **more: Any
) -> Series:
    """The series of the columns ``x`` and ``y`` of ``rows``, with the interval of ``y``."""
    ends = [rows[f"{y}_{end}"].tolist() if f"{y}_{end}" in rows else [] for end in ("low", "high")]
    return Series(label, style, rows[x].tolist(), rows[y].tolist(), text, *ends, **more)


def shown(label: str, control: bool, rows: pd.DataFrame) -> str:
    """The name of a series; it says whether the prior is a control or flagged."""
    if control:
        return f"{label} (control)"
    return f"{label} (flagged)" if rows.flag.map(unfair).any() else label


def level(name: str, style: Style, value: float, x: list[float], said: str) -> list[Series]:
    """A horizontal line over the range of x, or nothing if its value is not known."""
    if not x or isnan(value):
        return []
    return [Series(name, style, [min(x), max(x)], [value] * 2, [said] * 2, mode="lines")]

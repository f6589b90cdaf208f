"""What the figures of a report show, as data: the page draws them for looking at, :mod:`.static`
for papers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ..tables.columns import LABEL
from ..tables.words import floor, named
from .style import Style, styles


@dataclass
class Series:
    """Points or a line. ``low`` and ``high`` are the ends of a 95 % interval (NaN where there is
    none), drawn as a band along a line and as bars at points. ``hidden`` until it is asked for.
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
    """Its name with the unit; ``ticks`` (value, text) in place of the library's own."""

    title: str
    log: bool = False
    ticks: list[tuple[float, str]] | None = None


@dataclass
class Figure:
    """A figure with a caption in words, and one or several views of which one is shown at a time."""

    id: str
    title: str
    caption: str
    x: Axis
    y: Axis
    views: dict[str, list[Series]]
    first: str = ""  # the view that is shown; the only one if left out

    def __post_init__(self) -> None:
        self.first = self.first if self.first in self.views else next(iter(self.views), "")
        every = [s for view in self.views.values() for s in view] if self.y.log else []
        least = min((y for s in every for y in s.y if y > 0), default=1.0) / 2
        for (
            series
        ) in every:  # an interval that reaches below 0 would have no place on a logarithmic axis
            series.low = [max(low, least) if low == low else low for low in series.low]

    @property
    def empty(self) -> bool:
        return not any(s.x for view in self.views.values() for s in view)


class Book:
    """The rows that figures are made of: means over seeds on the test split, with labels, styles
    and times.
    """

    def __init__(self, table: pd.DataFrame, means: pd.DataFrame, best: pd.DataFrame) -> None:
        means = means[means.split == "test"] if len(means) else means
        self.judged = bool((table.split != "test").any())
        self.alpha_bar: dict[int, float] = table.groupby("t_trunc").alpha_bar.first().to_dict()
        self.means = _labelled(means)
        if len(means):
            self.means["ms"] = 1000 * (self.means.prior_seconds + self.means.denoise_seconds)
            self.means["setting"] = [setting(r.solver, r.nfe) for r in self.means.itertuples()]
        self.best = _labelled(best)
        self.floor = floor(table[(table.status == "ok") & (table.split == "test")])
        order = [
            (r.label, bool(r.control))
            for r in self.means[["label", "control"]].drop_duplicates().itertuples()
        ]
        self.styles = styles(order)
        self.noise = self._of("noise", full=True)
        self.oracle = self._of("oracle")

    def _of(self, prior: str, full: bool = False) -> pd.DataFrame:
        found = self.means[self.means.prior == prior] if len(self.means) else self.means
        return found[found.t_trunc == found["T"]] if full and len(found) else found

    @property
    def has_rivals(self) -> bool:
        """Whether a break-even can be known: rivals, and FIDs on a choosing split."""
        return bool(len(self.noise)) and self.judged

    @property
    def chain(self) -> pd.DataFrame:
        """The full chain: the row that speed-ups are measured against."""
        return self.noise[(self.noise.speedup - 1).abs() < 1e-9] if len(self.noise) else self.noise

    def groups(self, frame: pd.DataFrame) -> Iterator[tuple[str, bool, pd.DataFrame]]:
        """Label, whether it is a control, rows: contenders first, pure noise over the whole chain
        left out.
        """
        if not len(frame):
            return
        frame = (
            frame[~((frame.prior == "noise") & (frame.t_trunc == frame["T"]))]
            if "T" in frame
            else frame
        )
        for control in (False, True):
            for label, rows in frame[frame.control.astype(bool) == control].groupby(
                "label", sort=False
            ):
                yield str(label), control, rows


def _labelled(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.assign(flag=frame.flag.fillna("")) if "flag" in frame else frame.assign(flag="")
    return frame.assign(label=[named(*pair) for pair in frame[LABEL].itertuples(index=False)])


def setting(solver: Any, nfe: float) -> str:
    return f"{solver}, NFE {nfe:.0f}"


def interval(row: Any, column: str = "fid") -> str:
    """``5.43 (5.15 to 5.71)``."""
    value, low, high = (
        getattr(row, f"{column}{end}", float("nan")) for end in ("", "_low", "_high")
    )
    return f"{value:.3g}" + (f" ({low:.3g} to {high:.3g})" if low == low else "")


def hover(rows: pd.DataFrame, *columns: tuple[str, str]) -> list[str]:
    """What hovering shows of each row, a line a fact."""
    found = []
    wanted = [
        "label",
        "t_trunc",
        "solver",
        "nfe",
        "fid",
        "fid_low",
        "fid_high",
        "flag",
        *(c for _, c in columns),
    ]
    for row in rows[list(dict.fromkeys(wanted))].itertuples():
        lines = [
            row.label,
            f"t_trunc {row.t_trunc:.0f}, {setting(row.solver, row.nfe)}",
            f"FID {interval(row)}",
        ]
        lines += [f"{name} {getattr(row, column):.4g}" for name, column in columns]
        found.append("\n".join([*lines, *([f"flagged: {row.flag}"] if row.flag else [])]))
    return found


def wide(*values: Any) -> bool:
    """Whether positive values range over more than a factor of 15, and so ask for a logarithm."""
    every = [float(v) for part in values for v in part if v == v]
    every = [v for v in every if abs(v) != float("inf")]
    return bool(every) and min(every) > 0 and max(every) / min(every) > 15


def points(
    label: str, style: Style, rows: pd.DataFrame, x: str, y: str, text: list[str], **more: Any
) -> Series:
    ends = [rows[f"{y}_{end}"].tolist() if f"{y}_{end}" in rows else [] for end in ("low", "high")]
    return Series(label, style, rows[x].tolist(), rows[y].tolist(), text, *ends, **more)

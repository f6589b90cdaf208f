"""``report.html``: one self-contained file that loads nothing, behind a content-security policy of
its own.

Whatever users named (priors, parameters, paths, errors) goes through jinja2's escaping, or through
JSON whose ``<`` are escaped. The only scripts that the policy lets run are the three that are
hashed here.
"""

import base64
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from ..files import write_atomically
from ..tables.columns import LABEL
from ..tables.words import floor, named, warnings
from ..version import __version__
from .gather import Report, Run, gather
from .model import Figure

# What a reader wants of a row first; the other columns are there on demand.
FIRST = [
    "run", "prior", "params", "t_trunc", "solver", "nfe", "seed", "split", "fid", "relative_nfe", "relative_time",
    "excess", "precision", "recall", "sw2_xt", "sw2_x0", "fit_seconds", "ms_per_image", "speedup", "status",
    "flag", "error",
]  # fmt: skip
LONG = ("flag", "failed_checks", "error", "warning")


@dataclass(frozen=True)
class Column:
    name: str
    numeric: bool
    first: bool

    @property
    def css(self) -> str:
        """Classes of the column's cells."""
        given = {"n": self.numeric, "more": not self.first, "long": self.name in LONG}
        return " ".join(
            [*(css for css, it in given.items() if it), *({self.name} & {"flag", "status"})]
        )


def write_report(paths: list[str], target: Path) -> Report:
    """Write the page of one or more runs.

    Raises:
        UserError: where a run cannot be read or the page cannot be written.
    """
    report = gather(paths)
    write_atomically(target, render(report, target.parent).encode())
    return report


@cache
def _part(name: str) -> str:
    return resources.files("priorbench.report").joinpath("parts", name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """The library's script, from its Python package; nothing of that package is imported."""
    return (
        resources.files("plotly")
        .joinpath("package_data", "plotly.min.js")
        .read_text(encoding="utf-8")
    )


def _policy(scripts: list[str]) -> str:
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'"
        for s in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def render(report: Report, beside: Path) -> str:
    """The page, with links as seen from the folder ``beside``."""
    from jinja2 import Environment
    from markupsafe import Markup

    theme, script = _part("theme.js"), _part("page.js")
    scripts = [theme, script, *([_plotly()] if report.figures else [])]
    columns, rows, same = _table(report)
    good = report.table[(report.table.status == "ok") & (report.table.split == "test")]
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_part("page.html")).render(
        report=report, beside=beside, version=__version__, policy=_policy(scripts), columns=columns, rows=rows,
        same=same,
        css=Markup(_part("page.css")), theme=Markup(theme), script=Markup(script),
        plotly=Markup(scripts[-1]), data=Markup(as_json([_figure(f) for f in report.figures])),
        warnings=warnings(good), measured=_measured(good),
        unshown=_unshown(report), starts=sorted({grid.t_trunc for grid in report.grids}),
        splits=sorted(report.table.split.unique(), key=lambda s: (s != "test", s)),
        abouts=[(run.name, _about(run)) for run in report.runs],
    )  # fmt: skip


def as_json(value: Any) -> str:
    """JSON that may stand within a script element: nothing in it can end that."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _figure(figure: Figure) -> dict[str, Any]:
    return _finite(asdict(figure) | {"caption": ""})  # the caption stands in the page


def _finite(value: Any) -> Any:
    """NaN and infinity as null, numbers to six figures."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


def _table(report: Report) -> tuple[list[Column], list[Any], list[tuple[str, str]]]:
    """Columns, rows, and the columns that are the same all over."""
    table = report.table.assign(
        ms_per_image=1000 * (report.table.prior_seconds + report.table.denoise_seconds)
    )
    table = table.drop(columns=["run"] if len(report.runs) == 1 else []).dropna(axis=1, how="all")
    table = table.loc[:, [not (table[c].astype(str) == "").all() for c in table]]
    constant = [c for c in table if c not in FIRST and table[c].nunique(dropna=False) == 1]
    same = [(c, _text(table[c].iloc[0])) for c in constant] if len(table) > 1 else []
    names = [c for c in FIRST if c in table] + [
        c for c in table if c not in FIRST and c not in dict(same)
    ]
    numeric = {
        c for c in names if pd.api.types.is_numeric_dtype(table[c]) and table[c].dtype != bool
    }
    columns = [Column(c, c in numeric, c in FIRST) for c in names]
    return columns, [_row(record, columns) for record in table.to_dict("records")], same


def _row(
    record: dict[Any, Any], columns: list[Column]
) -> tuple[str, str, list[tuple[str, str, str]]]:
    """Classes and split of a row, and for each cell its classes, its text, and the number that it
    is sorted by.
    """
    states = {
        "control": record["control"],
        "flagged": record.get("flag"),
        "failed": record["status"] != "ok",
    }
    values = [(c, record[c.name]) for c in columns]
    cells = [(c.css, _text(v), f"{v:.9g}" if c.numeric and v == v else "") for c, v in values]
    return (
        " ".join(name for name, it in states.items() if it is not None and it == it and it),
        record["split"],
        cells,
    )


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return ""
    return "never" if value == math.inf else f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def _unshown(report: Report) -> str:
    """Which priors have no grid at some t_trunc, though they did not fail."""
    good = report.table[report.table.status == "ok"].fillna({"params": ""})
    shown = {(grid.label, grid.t_trunc) for grid in report.grids}
    found: dict[str, list[str]] = {}
    for row in good.drop_duplicates([*LABEL, "t_trunc"]).itertuples():
        if (label := named(row.prior, row.params), row.t_trunc) not in shown:
            found.setdefault(label, []).append(str(row.t_trunc))
    return "; ".join(f"{label} at t_trunc {', '.join(at)}" for label, at in found.items())


def _measured(good: pd.DataFrame) -> str:
    """What the figures are of, in a sentence."""
    if not len(good):
        return "No row has a figure."
    first, seeds = good.iloc[0], good.seed.nunique()
    known = (
        f" Floor (as many training images): FID {floor(good)}."
        if good.fid_floor.notna().any()
        else ""
    )
    return (
        f"FID in features of {first.extractor}, {first.n_samples} samples of {first.dataset} against the test split, "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}; less is better.{known}"
    )


def _about(run: Run) -> list[tuple[str, str]]:
    """What run.json says, as names and values."""
    about = run.about
    found = [(k, str(about[k])) for k in ("command", "commit") if about.get(k)]
    for part in ("machine", "versions"):
        values = about.get(part)
        found += [(str(k), str(v)) for k, v in values.items()] if isinstance(values, dict) else []
    if isinstance(about.get("seconds"), int | float):
        found.append(("seconds of the last run", f"{about['seconds']:,}"))
    if isinstance(about.get("config"), dict):
        found.append(
            (
                "configuration",
                ", ".join(
                    f"{k}: {_value(v)}"
                    for k, v in about["config"].items()
                    if v not in (None, [], {})
                ),
            )
        )
    return found


def _value(value: Any) -> str:
    """A value of the configuration in short; names with parameters as they are written on the
    command line.
    """
    if isinstance(value, dict) and "name" in value:
        params = ",".join(f"{k}={v}" for k, v in (value.get("params") or {}).items())
        return f"{value['name']}[{params}]" if params else str(value["name"])
    if isinstance(value, dict):
        return " ".join(f"{k} {v}" for k, v in value.items())
    return " ".join(map(_value, value)) if isinstance(value, list) else str(value)

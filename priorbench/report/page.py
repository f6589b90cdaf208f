"""``report.html``: one self-contained file that loads nothing, under a content-security policy.

All text that users chose (priors, parameters, paths, errors) is escaped by jinja2, or stands in
JSON whose ``<`` are escaped. The policy allows three scripts, by their hashes.
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
from ..tables.columns import LABEL, reported, succeeded
from ..tables.words import earned, floor, named, warnings
from ..version import __version__
from .gather import Report, Run, gather
from .model import Figure

# The columns that every reader needs; "all columns" shows the others.
FIRST = [
    "run", "prior", "params", "fit_budget", "t_trunc", "solver", "nfe", "seed", "split", "fid",
    "relative_nfe", "relative_time", "excess", "precision", "recall", "sw2_xt", "sw2_x0",
    "fit_seconds", "ms_per_image", "speedup", "status", "flag", "error",
]  # fmt: skip
LONG = ("flag", "failed_checks", "error", "warning")


@dataclass(frozen=True)
class PageColumn:
    """A column of the page's table."""

    name: str
    numeric: bool

    @property
    def css(self) -> str:
        """The CSS classes of the column's cells."""
        classes = {
            "n": self.numeric,
            "more": self.name not in FIRST,
            "long": self.name in LONG,
            self.name: self.name in ("flag", "status"),
        }
        return " ".join(css for css, given in classes.items() if given)


def write_report(paths: list[str], target: Path) -> Report:
    """Write the page of one or more runs.

    Raises:
        UserError: if a run cannot be read or the page cannot be written.
    """
    report = gather(paths)
    write_atomically(target, render(report, target.parent).encode())
    return report


@cache
def _part(name: str) -> str:
    return resources.files("priorbench.report").joinpath("parts", name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """The library's script, read from its Python package without importing it."""
    script = resources.files("plotly").joinpath("package_data", "plotly.min.js")
    return script.read_text(encoding="utf-8")


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
    """The page; its links are relative to the folder ``beside``."""
    from jinja2 import Environment
    from markupsafe import Markup

    theme, script = _part("theme.js"), _part("page.js")
    scripts = [theme, script, *([_plotly()] if report.figures else [])]
    columns, rows, same = _table(report)
    good = reported(succeeded(report.table))
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_part("page.html")).render(
        report=report,
        beside=beside,
        version=__version__,
        policy=_policy(scripts),
        css=Markup(_part("page.css")),
        theme=Markup(theme),
        script=Markup(script),
        plotly=Markup(scripts[-1]),
        data=Markup(as_json([_figure(figure) for figure in report.figures])),
        columns=columns,
        rows=rows,
        same=same,
        warnings=warnings(good),
        measured=_measured(good),
        unshown=_unshown(report),
        starts=sorted({grid.t_trunc for grid in report.grids}),
        splits=sorted(report.table.split.unique(), key=lambda split: (split != "test", split)),
        abouts=[(run.name, _about(run)) for run in report.runs],
    )


def as_json(value: Any) -> str:
    """JSON for the inside of a script element: nothing in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _figure(figure: Figure) -> dict[str, Any]:
    found = asdict(figure) | {"caption": ""}  # the page itself holds the caption
    return {name: _finite(value) for name, value in found.items()}


def _finite(value: Any) -> Any:
    """``value`` with null for NaN and infinity, and with numbers to six figures."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


def _table(report: Report) -> tuple[list[PageColumn], list[Any], list[tuple[str, str]]]:
    """The columns, the rows, and the (name, value) of columns that are the same in every row."""
    seconds = report.table.prior_seconds + report.table.denoise_seconds
    table = report.table.assign(ms_per_image=1000 * seconds)
    table = drop_empty(table.drop(columns=["run"] if len(report.runs) == 1 else []))
    varying, same = split_constant(table)
    columns = order_columns(varying)
    return columns, [_row(record, columns) for record in table.to_dict("records")], same


def drop_empty(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` without the columns that hold nothing but NaN or empty strings."""
    table = table.dropna(axis=1, how="all")
    return table.loc[:, [not (table[name].astype(str) == "").all() for name in table]]


def split_constant(table: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """The columns that vary, and the (name, value) of the others. Those of FIRST always stay."""
    if len(table) < 2:
        return table, []
    counts = table.nunique(dropna=False)
    constant = [name for name in table if name not in FIRST and counts[name] == 1]
    return table.drop(columns=constant), [(c, _text(c, table[c].iloc[0])) for c in constant]


def order_columns(table: pd.DataFrame) -> list[PageColumn]:
    """The columns of the page: first those of FIRST, in that order."""
    names = [c for c in FIRST if c in table] + [c for c in table if c not in FIRST]
    is_number = pd.api.types.is_numeric_dtype
    return [PageColumn(c, is_number(table[c]) and table[c].dtype != bool) for c in names]


def _row(
    record: dict[Any, Any], columns: list[PageColumn]
) -> tuple[str, str, list[tuple[str, str, str]]]:
    """The CSS classes of a row, its split and its cells.

    A cell has its classes, its text, and the number that it is sorted by.
    """
    flag = record.get("flag")
    classes = {
        "control": record["control"],
        "flagged": isinstance(flag, str) and flag and not record["control"],
        "failed": record["status"] != "ok",
    }
    values = [(column, record[column.name]) for column in columns]
    cells = [
        (column.css, _text(column.name, v), f"{v:.9g}" if column.numeric and v == v else "")
        for column, v in values
    ]
    return " ".join(css for css, given in classes.items() if given), record["split"], cells


def _text(column: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return ""
    if column == "break_even":
        return earned(value)
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def _unshown(report: Report) -> str:
    """The priors that did not fail and yet have no grid at some t_trunc."""
    good = succeeded(report.table).fillna({"params": ""})
    shown = {(grid.label, grid.t_trunc) for grid in report.grids}
    found: dict[str, list[str]] = {}
    for row in good.drop_duplicates([*LABEL, "t_trunc"]).itertuples():
        if (label := named(row.prior, row.params), row.t_trunc) not in shown:
            found.setdefault(label, []).append(str(row.t_trunc))
    return "; ".join(f"{label} at t_trunc {', '.join(at)}" for label, at in found.items())


def _measured(good: pd.DataFrame) -> str:
    """How the figures of the page were measured, in a sentence."""
    if not len(good):
        return "No row has a figure."
    first, seeds = good.iloc[0], good.seed.nunique()
    said = (
        f"FID in features of {first.extractor}, {first.n_samples} samples of {first.dataset} "
        f"against the test split, {seeds} {'seed' if seeds == 1 else 'seeds'}; less is better."
    )
    if good.fid_floor.notna().any():
        said += f" Floor (as many training images): FID {floor(good)}."
    return said


def _about(run: Run) -> list[tuple[str, str]]:
    """The (name, value) facts of run.json."""
    about = run.about
    found = [(k, str(about[k])) for k in ("command", "commit") if about.get(k)]
    for part in ("machine", "versions"):
        values = about.get(part)
        found += [(str(k), str(v)) for k, v in values.items()] if isinstance(values, dict) else []
    if isinstance(about.get("seconds"), int | float):
        found.append(("seconds of the last run", f"{about['seconds']:,}"))
    config = about.get("config")
    if isinstance(config, dict):
        given = [f"{k}: {_value(v)}" for k, v in config.items() if v not in (None, [], {})]
        found.append(("configuration", ", ".join(given)))
    return found


def _value(value: Any) -> str:
    """A value of the configuration; a name with parameters reads as on the command line."""
    if isinstance(value, dict) and "name" in value:
        params = (value.get("params") or {}).items()
        return named(value["name"], ",".join(f"{k}={v}" for k, v in params))
    if isinstance(value, dict):
        return " ".join(f"{k} {v}" for k, v in value.items())
    return " ".join(map(_value, value)) if isinstance(value, list) else str(value)

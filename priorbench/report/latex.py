"""The best settings as a LaTeX table with booktabs rules."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from ..files import write_atomically
from ..plan.budget import size
from ..tables.columns import budgets_of, contenders, reported
from ..tables.flags import unfair
from ..tables.words import earned, named, plus_minus
from .gather import Report

LEFT_ALIGNED = ["budget", "prior", "solver"]
MEASURED = {  # column -> heading
    "fid": "FID",
    "excess": "excess",
    "relative_nfe": "$\\times$ noise, NFE",
    "relative_time": "$\\times$ noise, time",
    "relative_flops": "$\\times$ noise, operations",
    "fit_seconds": "fit (s)",
    "ms": "ms/image",
    "speedup": "speed-up",
}


def write_latex(report: Report, path: Path) -> Path:
    """Write ``table.tex``: best.csv, or all settings if none could be chosen.

    The table needs ``\\usepackage{booktabs}``.
    """
    chosen = len(contenders(report.best)) > 0
    frame = reported(report.best if chosen else report.means)
    if len(frame):
        frame = frame.assign(size=frame.fit_budget.fillna("").map(size))
        frame = frame.sort_values(["size", "nfe", "control", "fid"])
    several = len(budgets_of(frame)) > 1 if len(frame) else False
    found = pd.DataFrame([_row(row, several) for row in frame.to_dict("records")])
    found = found.loc[:, [not (found[c] == "").all() for c in found]]
    left = [c for c in LEFT_ALIGNED if c in found]
    styled = found.style.hide(axis="index").format(escape="latex", subset=left)
    body = styled.to_latex(
        hrules=True, column_format="".join("l" if c in left else "r" for c in found)
    )
    settings = "best settings, chosen on another split" if chosen else "all settings"
    notes = [
        f"{len(found)} rows: {settings}; means ± half their 95 % intervals. "
        "Needs \\usepackage{booktabs}.",
        *(
            f"flagged: {named(row['prior'], row['params'])} at t_trunc {row['t_trunc']:.0f}, "
            f"NFE {row['nfe']:.0f}: {row['flag']}"
            for row in frame.to_dict("records")
            if flagged(row)
        ),
    ]
    write_atomically(
        path, ("".join(f"% {' '.join(line.split())}\n" for line in notes) + body).encode()
    )
    return path


def flagged(row: dict[str, Any]) -> bool:
    """Whether the row is a contender's whose flag keeps it from winning."""
    return not row["control"] and unfair(row.get("flag"))


def _row(row: dict[str, Any], budgets: bool) -> dict[str, str]:
    """Heading -> text of one row of the table, the budget of the fit first if ``budgets``."""
    seconds = row.get("prior_seconds", math.nan) + row.get("denoise_seconds", math.nan)
    values = row | {"ms": 1000 * seconds}
    budget = row["fit_budget"] if isinstance(row["fit_budget"], str) else ""
    found = {
        **({"budget": budget} if budgets else {}),
        "prior": named(row["prior"], row["params"]) + (" (flagged)" if flagged(row) else ""),
        "$t_{\\mathrm{trunc}}$": f"{row['t_trunc']:.0f}",
        "solver": str(row["solver"]),
        "NFE": f"{row['nfe']:.0f}",
    }
    for column, heading in MEASURED.items():
        names = [column, f"{column}_low", f"{column}_high"]
        known = {name: values.get(name, math.nan) for name in names}
        text = "" if math.isnan(known[column]) else plus_minus(known, column)
        found[heading] = text.replace("±", "$\\pm$")
    if "break_even" in values:
        in_time = float(values.get("relative_time", math.nan))
        found["earned back"] = (
            "" if row["control"] else earned(float(values["break_even"]), in_time)
        )
    return found

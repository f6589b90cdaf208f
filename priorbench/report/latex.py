"""The best settings as a LaTeX table with booktabs rules."""

from pathlib import Path
from typing import Any

import pandas as pd

from ..files import write_atomically
from ..tables.words import earned, named, plus_minus
from .gather import Report

TEXT = ["prior", "solver"]
FIGURES = {  # column -> heading; with its interval where there is one
    "fid": "FID", "excess": "excess", "relative_nfe": "$\\times$ noise, NFE", "relative_time": "$\\times$ noise, time",
    "fit_seconds": "fit (s)", "ms": "ms/image", "speedup": "speed-up",
}  # fmt: skip


def write_latex(report: Report, path: Path) -> Path:
    """``table.tex``: best.csv, or every setting where nothing could be chosen. Needs
    ``\\usepackage{booktabs}``.
    """
    chosen = bool((~report.best.control.astype(bool)).any())
    frame = report.best if chosen else report.means
    frame = frame[frame.split == "test"] if len(frame) else frame
    frame = frame.sort_values(["nfe", "control", "fid"]) if len(frame) else frame
    found = pd.DataFrame([_row(row) for row in frame.to_dict("records")])
    found = found.loc[:, [not (found[c] == "").all() for c in found]]
    text = [c for c in TEXT if c in found]
    styled = found.style.hide(axis="index").format(escape="latex", subset=text)
    body = styled.to_latex(
        hrules=True, column_format="".join("l" if c in text else "r" for c in found)
    )
    settings = "best settings, chosen on another split" if chosen else "all settings"
    note = f"% {len(found)} rows: {settings}; means with half their 95 % intervals. Needs \\usepackage{{booktabs}}.\n"
    write_atomically(path, (note + body).encode())
    return path


def _row(row: dict[str, Any]) -> dict[str, str]:
    values = row | {
        "ms": 1000
        * (row.get("prior_seconds", float("nan")) + row.get("denoise_seconds", float("nan")))
    }
    found = {
        "prior": named(row["prior"], row["params"]), "$t_{\\mathrm{trunc}}$": f"{row['t_trunc']:.0f}",
        "solver": str(row["solver"]), "NFE": f"{row['nfe']:.0f}",
    }  # fmt: skip
    for column, heading in FIGURES.items():
        value = values.get(column, float("nan"))
        ends = {
            f"{column}{end}": values.get(f"{column}{end}", float("nan"))
            for end in ("_low", "_high")
        }
        known = value == value
        found[heading] = (
            plus_minus({column: value, **ends}, column).replace("±", "$\\pm$") if known else ""
        )
    if "break_even" in values:
        found["pays"] = "" if row["control"] else earned(float(values["break_even"]))
    return found

"""Cells of digits on the device against the reference run, which a CPU made."""

from pathlib import Path

import pandas as pd

from priorbench.plugin_manager import load_plugins

from .cells import T_TRUNC, row_of, run_cell, specs
from .section import Figures, NotRun, Section, require

TABLE = Path(__file__).parents[2] / "results/reference/digits/comparison.csv"
Z = 1.96  # of a 95 % interval


def run(section: Section, early: bool) -> None:
    """Priors in closed form ``early``, those that are trained afterwards."""
    priors = load_plugins().of_kind("prior")
    for name in section.size.reference:
        closed = priors[name].control or not priors[name].load().takes_budget
        if closed == early:
            section.check(f"digits, {name}", compared, section, name, closed, needs=8)
    if not early and not section.size.quick:
        section.check("digits, gaussian in bf16", compared, section, "gaussian", True, "bf16")


def compared(section: Section, prior: str, closed: bool, precision: str = "fp32") -> Figures:
    """FID within its interval; W2 to 1e-3, or to 3 % where training or bf16 magnify rounding."""
    if not TABLE.is_file():
        raise NotRun(f"there is no {TABLE.name}")
    table = pd.read_csv(TABLE)
    wanted = table[
        (table.prior == prior) & (table.t_trunc == T_TRUNC) & (table.split == "test")
        & table.params.isna()
    ].iloc[0]  # fmt: skip
    (spec,) = specs([prior], section.device, precision=precision).values()
    row = row_of(run_cell(spec))
    figures: Figures = {
        "fid": row["fid"],
        "reference_fid": float(wanted.fid),
        "reference_fid_se": float(wanted.fid_se),
        **{f"{c}_differs_by": abs(row[c] / wanted[c] - 1) for c in ("w2_xt", "w2_x0")},
        "fit_seconds": row["fit_seconds"],
        "reference_fit_seconds": float(wanted.fit_seconds),
    }
    within = abs(row["fid"] - wanted.fid) <= Z * wanted.fid_se
    require(within, "FID outside the interval of the reference", figures)
    limit = 1e-3 if closed and precision == "fp32" else 0.03
    require(figures["w2_x0_differs_by"] < limit, "another W2 than the reference", figures)
    require(figures["w2_xt_differs_by"] < limit, "another W2 at x_t than the reference", figures)
    return figures

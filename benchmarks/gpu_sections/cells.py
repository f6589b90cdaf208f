"""Cells of digits as a run would compute them, without a folder of results."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from priorbench import add_plugin
from priorbench.bench.cell import run_cell
from priorbench.plan.layout import read_plan
from priorbench.plan.spec import CellResult, CellSpec

T_TRUNC = 200


def plant() -> None:
    """Register the priors of ``planted.py``."""
    add_plugin(Path(__file__).with_name("planted.py"))


def specs(
    priors: list[str],
    device: torch.device,
    n_samples: int | None = None,
    fit_budget: str | None = None,
    precision: str = "fp32",
) -> dict[str, CellSpec]:
    """Cells of the preset ``digits`` at one t_trunc, by their prior; scored on the test split."""
    given = {"priors": priors, "device": device.type, "t_trunc": T_TRUNC, "n_samples": n_samples}
    given |= {"fit_budget": fit_budget}
    sets = ["controls=[]", "rivals=[]", "rival_timesteps=[uniform]", f"precision={precision}"]
    plan = read_plan("digits", given, sets)
    return {
        cell.label: replace(cell, splits=cell.splits[:1], save_samples=False)
        for cell in plan.cells
        if cell.t_trunc == T_TRUNC
    }


def row_of(result: CellResult) -> dict[str, Any]:
    """The one row of ``result``.

    Raises:
        RuntimeError: if the cell failed, with its reason.
    """
    (row,) = result.rows
    if not result.ok:
        raise RuntimeError(str(row["error"]))
    return dict(row)


__all__ = ["T_TRUNC", "plant", "row_of", "run_cell", "specs"]

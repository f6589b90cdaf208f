"""The names of cells and of fits: a hash of all that determines them, and of nothing else."""

import pickle
from dataclasses import fields, replace
from pathlib import Path

import pytest
from helpers.specs import SPEC

from priorbench.plan.spec import CellSpec
from priorbench.task import Source

CHANGES = {
    "dataset": Source("x"), "backbone": "x", "extractor": Source("x"), "metrics": ("x",),
    "prior": "x", "distribution": "x",
    "params": {"depth": 65, "width": 8},
    "settings": "x", "control": True, "t_trunc": 101, "seed": 4, "solvers": (("dpm++", 5),),
    "n_samples": 41, "batch_size": 17, "w2_points": 31, "fit_budget": "1s",
    "splits": (("test", 40), ("validation", 20)), "device": "cuda", "precision": "bf16",
    "compile": True, "save_samples": True, "versions": {"torch": "3"},
    "digests": {"dataset": "d", "backbone": "b", "network": "n", "extractor": "f"},
}  # fmt: skip


def test_all_that_determines_a_cell_is_in_its_name():
    assert set(CHANGES) == {f.name for f in fields(CellSpec)}
    names = {SPEC.cell, *(replace(SPEC, **{name: value}).cell for name, value in CHANGES.items())}
    assert len(names) == 1 + len(CHANGES)


OF_THE_FIT = {
    "prior",
    "params",
    "t_trunc",
    "seed",
    "fit_budget",
    "device",
    "precision",
    "compile",
    "versions",
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_name_of_a_fit_knows_what_determines_the_fit_alone(name):
    """Another metric, solver or number of samples takes the prior that is there."""
    changed = replace(SPEC, **{name: CHANGES[name]})
    if name not in ("digests", "distribution"):
        assert (changed.fit != SPEC.fit) == (name in OF_THE_FIT)
    for digest in SPEC.digests:
        other = replace(SPEC, digests=SPEC.digests | {digest: "x"})
        assert (other.fit != SPEC.fit) == (digest != "extractor")
    for package in SPEC.versions:
        other = replace(SPEC, versions=SPEC.versions | {package: "x"})
        assert (other.fit != SPEC.fit) == (package != "torch-fidelity")


def test_a_cells_name_crosses_processes_and_knows_no_order_of_parameters():
    assert pickle.loads(pickle.dumps(SPEC)).cell == SPEC.cell  # noqa: S301 - made here
    assert replace(SPEC, params={"width": 8, "depth": 64}).cell == SPEC.cell
    assert Path(SPEC.cell).name == SPEC.cell
    assert len(SPEC.cell) == 16

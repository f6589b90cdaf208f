"""A spec, its result and its rows, without anything being computed."""

from dataclasses import replace

import numpy as np

from priorbench.plan.spec import CellResult, CellSpec
from priorbench.task import Source

SPEC = CellSpec(
    dataset=Source("digits"), backbone="digits", extractor=Source("digits"), prior="ot",
    distribution="plugin", params={"depth": 64, "width": 8}, metrics=(),
    settings="depth=64", control=False, t_trunc=100, seed=3,
    solvers=(("dpm++", 5), ("ddim", None)),
    n_samples=40, splits=(("test", 40),), batch_size=16, w2_points=30, fit_budget=None,
    device="cpu", precision="fp32", compile=False, save_samples=False,
    digests={"dataset": "d", "backbone": "b", "network": "n", "extractor": "e"},
    versions={"torch": "2", "plugin": "1", "torch-fidelity": "3"},
)  # fmt: skip


def result(spec=SPEC, status=("ok", "ok")):
    """A result as a cell would yield it: a row a setting."""
    rows = [
        {
            "prior": spec.prior, "seed": spec.seed, "t_trunc": 100, "T": 1000, "solver": solver,
            "steps": steps or 100,
            "nfe": steps or 100, "split": "test", "n_samples": 40, "fid": 1.5 + i, "status": s,
            "concurrency": 2, "cell": replace(spec, solvers=((solver, steps),)).cell,
        }
        for i, ((solver, steps), s) in enumerate(zip(spec.solvers, status, strict=False))
    ]  # fmt: skip
    images = {
        "x_t": np.arange(3 * 64, dtype=np.uint8).reshape(3, 1, 8, 8),
        "x_0 dpm++ 5": np.full((2, 3, 4, 5), 255, np.uint8),
        **({"x_0 ddim 100": np.full((2, 3, 4, 5), 7, np.uint8)} if len(rows) > 1 else {}),
    }
    return CellResult(spec, rows, images, ["a line"])


ONE = replace(SPEC, solvers=SPEC.solvers[:1])


def row(prior="ot", seed=0, seconds=1.0, **changes):
    """A row of a cell: ``seconds`` an image, a fifth of them the prior's."""
    return {
        "dataset": "digits", "backbone": "digits", "prior": prior, "params": "", "emits": "x_t",
        "control": False,
        "t_trunc": 100, "T": 1000, "solver": "dpm++", "steps": 5, "nfe": 5, "seed": seed,
        "split": "test",
        "n_samples": 40, "extractor": "lenet", "device": "cpu", "threads": 1, "concurrency": 1,
        "prior_seconds": 0.2 * seconds, "denoise_seconds": 0.8 * seconds, "status": "ok",
        "error": "", "cell": f"{prior} {seed} {seconds} {changes}",
    } | changes  # fmt: skip


def full(seed=0, seconds=10.0, **changes):
    return row(
        "noise",
        seed,
        seconds,
        **{"t_trunc": 1000, "solver": "ddim", "steps": 50, "nfe": 50, **changes},
    )

"""Runs that are watched, interrupted and repeated."""

import pandas as pd

import priorbench
from priorbench.runner import Observer
from priorbench.tables.columns import VARIES

from . import FOLDER

FAULTY = FOLDER / "faulty.py"
SMALL = {
    "full_chain.steps": 2, "rivals": [], "n_validation": 0, "batch_size": 16, "controls": [],
    "w2_points": 20, "rival_timesteps": ["uniform"],
}  # fmt: skip
BY_CHANCE = [*VARIES, "concurrency", "threads"]


class Watcher(Observer):
    def __init__(self):
        self.cells, self.notes, self.steps = [], [], []

    def cell(self, spec):
        self.cells.append((spec.prior, spec.solvers))

    def progress(self, spec, step, total, loss):
        self.steps.append((spec.prior, step))

    def noted(self, line):
        self.notes.append(line)


def small_run(output, settings=None, watcher=None, **options):
    arguments = {
        "priors": "vae[iterations=6,width=8]",
        "t_trunc": [100],
        "steps": 2,
        "n_samples": 24,
    } | options
    return priorbench.run(
        output=output, settings=SMALL | (settings or {}), observer=watcher, **arguments
    )


def assert_same(one, other):
    """In all but what is timed; a whole number beside a failed row's gap is written as 2.0, and is
    no other.
    """
    one, other = (t.drop(columns=BY_CHANCE).reset_index(drop=True) for t in (one, other))
    pd.testing.assert_frame_equal(one, other, check_exact=True, check_dtype=False)

"""The best setting under a cost, without the whole grid: what ``priorbench tune`` does.

Settings, the pure-noise rivals among them, are tried with few samples and short fits. The best
quarter goes on with more, and of these the best quarter again (successive halving: Jamieson and
Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016).
The best setting of each prior that is learned goes on to the second rung in any case.
Where there are more settings than trials, Optuna's tree-structured Parzen estimator proposes which
to try (Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011). Its pruners are
not used: they decide on a trial before others are measured, and let half of a small grid through.

Settings are judged on the split that settings are chosen on. Those that come through are then
measured as in any run, which is what the tables hold. Each trial's result is kept like that of a
cell, so that a repeated command takes up where the last one ended.
"""

import time
from dataclasses import dataclass
from hashlib import sha256

import pandas as pd

from ..bench.estimate import estimate
from ..errors import UserError
from ..files import write_atomically
from ..plan.layout import Plan
from ..runner import Observer, execute
from ..store.lock import locked
from ..store.results import Store
from .grid import Limit, read_tuning
from .search import Search

__all__ = ["TRIALS", "Limit", "Tuned", "read_tuning", "tune"]

TRIALS = 32  # at least 2: a prior and a rival


@dataclass(frozen=True)
class Tuned:
    """What a tuning found.

    Attributes:
        tried: a row for each setting and rung: tried.csv.
        comparison: comparison.csv, of the settings that came through and their rivals.
        seconds: that all of it took, earlier parts of an interrupted tuning included.
        grid_seconds: that the whole grid should take here, as ``run --dry-run`` estimates it.
        settings: how many settings the grid has.
    """

    tried: pd.DataFrame
    comparison: pd.DataFrame
    seconds: float
    grid_seconds: float
    settings: int


def tune(
    plan: Plan,
    store: Store,
    limit: Limit,
    trials: int = TRIALS,
    report: bool = True,
    observer: Observer | None = None,
) -> Tuned:
    """Find the best setting of a plan from :func:`read_tuning`, and measure it.

    Raises:
        UserError: if there is nothing to try, nothing came through, or the folder is in use or
            cannot be written to. What is done is kept.
    """
    watcher = observer or Observer()
    search = Search(plan, store, limit, trials, watcher)
    if trials < 2:
        raise UserError(f"trials must be at least 2, a prior and a rival, got {trials}")
    if all(arm.is_noise for arm in search.arms):
        raise UserError(search.nothing_to_try())
    with locked(store.folder):
        try:
            search.run()
            final = search.final()
        finally:
            watcher.stopped()
            tried = pd.DataFrame(search.tried)
            write_atomically(store.folder / "tried.csv", tried.to_csv(index=False).encode())
        grid = estimate(plan, plan.cells).seconds
    watcher.noted("measuring what came through, and its rivals")
    started, cells = time.monotonic(), " ".join(spec.cell for spec in final.cells)
    name = f"final {sha256(cells.encode()).hexdigest()[:16]}"
    try:
        table = execute(final, store, report=report, observer=watcher)
    finally:
        search.spend(name, time.monotonic() - started)
    return Tuned(tried, table, search.seconds(name), grid, len(search.arms))

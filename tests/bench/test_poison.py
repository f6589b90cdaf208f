"""No cell depends on the one before: whatever a prior changes, the innocent one after it gets the
row it has alone.
"""

import functools

import helpers
import pytest

from priorbench.bench.executors import process, serial
from priorbench.bench.work import Work
from priorbench.plan.layout import read_plan
from priorbench.plugin_files import FILES
from priorbench.plugin_manager import load_plugins
from priorbench.tables.columns import VARIES

pytestmark = pytest.mark.slow

POISON = helpers.FOLDER / "poison.py"
LABELS = [
    "prior",
    "cell",
    "parameters",
    "failed_checks",
    "peak_memory_mb",
    "prior_batches",
    "denoise_batches",
]
SETTINGS = [
    "n_samples=16", "n_validation=0", "batch_size=8", "w2_points=20", "steps=2", "controls=[]",
    "rivals=[]", "rival_timesteps=uniform", "solver=ddpm", "full_chain.steps=2", "t_trunc=200",
]  # fmt: skip


def figures(result):
    """What a cell found, without seconds and names."""
    (row,) = result.rows
    assert row["status"] == "ok", row["error"]
    return {k: v for k, v in row.items() if k not in (*VARIES, *LABELS) and v == v}


def plan_of(names):
    plan = read_plan(None, {"priors": ["gaussian", *names]}, SETTINGS)
    *_, innocent = (spec for spec in plan.cells if spec.prior == "gaussian")
    return innocent, [spec for spec in plan.cells if spec.prior in names]


# A worker calls what `serial` calls, so there a few of each kind suffice.
IN_WORKERS = {"default-dtype", "hook-on-the-model", "forks", "decimals", "weights", "images"}


@pytest.fixture(scope="module")
def cells():
    """A function of an executor: see :func:`run`."""
    return functools.cache(run)


def run(executor):
    """Each poison and, after it, the innocent prior, in one process; and the innocent prior
    alone.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(FILES, str(POISON))
        load_plugins.cache_clear()
        innocent, poisons = plan_of(names("HARMLESS", executor) + names("FATAL", executor))
        specs = [innocent, *(spec for bad in poisons for spec in (bad, innocent))]
        alone, *results = executor(Work(), specs)
        found = {
            bad.spec.prior: (bad, good)
            for bad, good in zip(results[::2], results[1::2], strict=True)
        }
    load_plugins.cache_clear()
    return figures(alone), found


def names(kind, executor):
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(POISON.parent))
        from helpers import poison

    return [n for n in getattr(poison, kind) if executor is serial or n in IN_WORKERS]


def cases(kind):
    return [(executor, name) for executor in (serial, process) for name in names(kind, executor)]


@pytest.mark.parametrize(("executor", "name"), cases("HARMLESS"))
def test_what_can_be_put_back_touches_no_row(cells, executor, name):
    alone, found = cells(executor)
    bad, good = found[name]
    assert figures(good) == alone
    if name != "autocast":  # its own second batch it samples in bfloat16, as it asked for
        assert figures(bad) == alone


@pytest.mark.parametrize(("executor", "name"), cases("FATAL"))
def test_fails_only_the_cell_whose_changes_stay(cells, executor, name):
    alone, found = cells(executor)
    bad, good = found[name]
    assert figures(good) == alone
    (row,) = bad.rows
    assert row["status"] == "failed"
    assert f"prior {name!r} changed" in row["error"]


@pytest.mark.parametrize("executor", [serial, process])
def test_what_was_put_back_is_told(cells, executor):
    _, found = cells(executor)
    assert any(
        "changed torch's default dtype; it was put back" in line
        for line in found["default-dtype"][0].log
    )
    assert any(
        "left the frozen model's hooks changed" in line
        for line in found["hook-on-the-model"][0].notes
    )
    assert found["decimals"][0].notes == []

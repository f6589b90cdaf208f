"""Seconds in the table: chains share theirs, and what varies is warned of."""

import numpy as np
import pytest
from helpers.specs import row

from priorbench.tables import columns
from priorbench.tables import fold as table

MS = 1e-3


def timed(prior="ot", chain=(), own=(), prior_seconds=None, **changes):
    """A row with its batches in milliseconds, as a cell yields it."""
    seconds = sum(own) / len(own) if prior_seconds is None else prior_seconds
    return row(prior, prior_seconds=MS * seconds, denoise_seconds=MS * float(np.median(chain)),
               prior_batches=[MS * s for s in own], denoise_batches=[MS * s for s in chain],
               **changes)  # fmt: skip


def test_a_chain_costs_the_same_whatever_came_before_it():
    """Two cells and a row of another version: nine batches of 2 to 10 ms and one value of 1."""
    rows = [
        timed("ot", (2, 3, 4, 5), (1,)),
        timed("vae", (6, 7, 8, 9, 10), (3,), t_trunc=200, seed=1),
        row("gan", denoise_seconds=MS, prior_seconds=MS),
    ]
    found = table.comparison(rows, "ddim", 50)
    assert found.denoise_seconds.tolist() == pytest.approx([5.5 * MS] * 3)
    assert found.images_per_second.tolist() == pytest.approx([1000 / 6.5, 1000 / 8.5, 1000 / 6.5])
    assert list(found.columns) == columns.COLUMNS  # the batches are in no table


def test_a_cell_that_has_rows_of_several_budgets_counts_once():
    rows = [timed("ot", (2,), (1,), fit_budget="10s", cell="ot")]
    rows += [timed("gaussian", (4, 4), (1,), fit_budget=b, cell="g") for b in ("10s", "60s")]
    rows += [timed("vae", (2, 2), (1,), fit_budget="60s", cell="vae")]
    found = table.comparison(rows, "ddim", 50)
    assert found.denoise_seconds.tolist() == pytest.approx([2 * MS] * 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"solver": "ddim"},
        {"nfe": 6},
        {"nfe_prior": 0.5},
        {"threads": 2},
        {"device": "cuda"},
        {"hardware": "H100"},
        {"concurrency": 2},
        {"model_precision": "bf16"},
    ],
    ids=lambda c: next(iter(c)),
)
def test_another_chain_has_seconds_of_its_own(changes):
    found = table.comparison(
        [timed(chain=(2,), own=(1,)), timed(chain=(4,), own=(1,), **changes)], "ddim", 50
    )
    assert found.denoise_seconds.tolist() == pytest.approx([2 * MS, 4 * MS])


def test_the_priors_own_evaluations_are_none_of_the_chains():
    found = table.comparison(
        [timed(chain=(2,), own=(1,)), timed("vae", (4,), (9,), nfe=8, nfe_prior=2.5)], "ddim", 50
    )
    assert found.denoise_seconds.tolist() == pytest.approx([3 * MS] * 2)


def test_the_interval_is_of_the_pooled_chain_and_the_priors_own_draw():
    """Quantiles of 1..11 are 2 and 10; the whole draw took longer than its batches say, by its
    first call.
    """
    rows = [
        timed("ot", range(1, 7), (1, 1.0, 1), prior_seconds=4),
        timed("vae", range(7, 12), (2, 2)),
    ]
    found = table.comparison(rows, "ddim", 50)
    assert found.seconds_low.tolist() == pytest.approx([3 * MS, 4 * MS])
    assert found.seconds_high.tolist() == pytest.approx([14 * MS, 12 * MS])


def test_rows_that_settings_are_chosen_by_share_the_seconds_and_measure_none():
    rows = [
        timed("ot", (2, 3, 4), (1,)),
        row(split="validation", denoise_seconds=MS * 99, prior_seconds=MS),
    ]
    found = table.comparison(rows, "ddim", 50)
    assert found.denoise_seconds.tolist() == pytest.approx([3 * MS] * 2)
    assert found.seconds_low.isna().tolist() == [False, True]


def test_seconds_that_vary_are_warned_of_in_one_sentence():
    """The chain's batches over all cells differ by 4 (quantiles 1 and 4); another chain's
    do not.
    """
    wide = (1, 1, 1, 1, 1, 4, 4, 4, 4, 4)
    rows = [timed("ot", wide[:5], (0.01,)), timed("vae", wide[5:], (0.01,), warning="few images"),
            timed("gan", (1, 1.1, 1.2), (0.01, 0.05), solver="ddim"),
            row(prior="sinf", solver="unipc")]  # fmt: skip
    found = table.comparison(rows, "ddim", 50).warning.fillna("").tolist()
    assert found[0].startswith(
        "the same work took up to 4.0 times longer in some batches than in others"
    )
    assert "--exclusive-timing" in found[0]
    assert found[1] == f"few images; {found[0]}"
    assert found[2:] == ["", ""]  # a prior's hundredth of the time may vary as it likes


def test_a_priors_draw_that_varies_is_warned_of_where_it_takes_its_time():
    found = table.comparison([timed("ot", (1, 1, 1), (2, 2, 9, 9))], "ddim", 50)
    assert "up to 3.3 times longer" in found.warning[0]  # (9 + 1) / (2 + 1)

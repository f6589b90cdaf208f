"""When a run measures its backbone more than its priors."""

import pytest
from helpers.rows import both, chosen, folded, noise, verdict

from priorbench.tables.doubt import doubt

GOOD = {"fid_floor": 1.0}


def test_a_full_chain_of_more_than_three_floors():
    groups = noise(40, 40, **GOOD), noise(3.2, 3.2, steps=50, **GOOD), both("ot", 2, 2, **GOOD)
    said = "the full chain (dpm++, NFE 50) scores FID 3.2, 3.2 times the floor"
    assert doubt(folded(*groups)) == said
    assert chosen(*groups).doubt.unique().tolist() == [said]


def test_a_full_chain_that_a_tenth_of_its_steps_equals():
    rest = [*both("ot", 2, 2, **GOOD), *noise(40, 40, **GOOD)]
    quick = noise(2.4, 2.4, steps=5, **GOOD)
    said = doubt(folded(quick, noise(2.5, 2.5, steps=50, **GOOD), rest))
    assert said == "the full chain (dpm++, NFE 50) scores FID 2.5, no better than 2.4 with NFE 5"
    assert doubt(folded(quick, noise(2.5, 2.5, steps=49, **GOOD), rest)) == ""


def test_without_a_full_chain_nothing_is_said():
    """The table's full chain has 3 steps; that of the test is the longest of what was tried."""
    groups = noise(40, 40, steps=5, **GOOD), both("ot", 2, 2, **GOOD)
    assert doubt(folded(*groups)) == ""


def test_better_times_say_nothing_about_the_model():
    better = noise(2.4, 2.4, steps=5, params="timesteps=quadratic", **GOOD)
    assert doubt(folded(better, noise(2.5, 2.5, steps=50, **GOOD), both("ot", 2, 2, **GOOD))) == ""


def test_a_good_model_is_not_doubted():
    groups = noise(40, 40, **GOOD), noise(2, 2, steps=50, **GOOD), both("ot", 2, 2, **GOOD)
    assert doubt(folded(*groups)) == ""
    assert verdict(*groups).doubted == ""


@pytest.mark.parametrize("groups", [[both("ot", 2, 2)], [noise(9, 9), both("ot", 2, 2)]])
def test_where_nothing_is_known_of_it_nothing_is_said(groups):
    assert doubt(folded(*groups)) == ""


def test_the_verdict_begins_with_the_doubt():
    found = verdict(noise(40, 40, **GOOD), both("ot", 2, 2, **GOOD))
    assert found.pays
    assert found.words.startswith(
        "This run measures its backbone more than its priors: the full chain (dpm++, NFE 3) scores "
        "FID 40, 40 times the floor. ot at t_trunc = 100"
    )

"""Ranks and verdicts, from differences that are paired by seed."""

import math

import pandas as pd
import pytest
from helpers.rows import both, chosen, folded, noise, only, three_seeds
from scipy import stats

from priorbench.tables.contest import level
from priorbench.tables.selection import Chosen


def ranks(found):
    return found.set_index("prior")["rank"].dropna().to_dict()


def test_what_all_priors_of_a_seed_have_in_common_cancels():
    """The seeds put both up and down by 2, and vae is 0.5 worse in each: their own intervals
    overlap.
    """
    found = chosen(three_seeds("ot", (1.0, 3.0, 5.0), 1), three_seeds("vae", (1.52, 3.48, 5.5), 2))
    ot, vae = only(found, prior="ot"), only(found, prior="vae")
    assert ot.fid_high > vae.fid_low
    assert ranks(found) == {"ot": 1, "vae": 2}


def test_differences_that_may_be_chance_share_a_rank():
    found = chosen(
        three_seeds("ot", (1.0, 1.3, 0.9), 1), three_seeds("vae", (1.3, 1.0, 1.4), 2),
        three_seeds("gan", (9.0, 9.3, 9.1), 3), three_seeds("oracle", (0.1, 0.2, 0.3), 1),
    )  # fmt: skip
    assert ranks(found) == {"ot": 1, "vae": 1, "gan": 3}
    assert pd.isna(only(found, prior="oracle")["rank"])


def test_the_difference_from_pure_noise_by_hand():
    """Two differences are too few to learn from: Student's t over three seeds."""
    found = chosen(
        three_seeds("noise", (9.0, 10.0, 11.5), 10, t_trunc=1000), three_seeds("ot", (1, 2.5, 3), 1)
    )
    apart = [1 - 9.0, 2.5 - 10.0, 3 - 11.5]
    mine = only(found, prior="ot")
    low, high = stats.t.interval(0.95, 2, sum(apart) / 3, stats.sem(apart))
    assert mine.difference == pytest.approx(-8)
    assert (mine.difference_low, mine.difference_high) == pytest.approx((low, high))
    assert mine.beats_noise_p == pytest.approx(stats.ttest_1samp(apart, 0).pvalue)
    assert mine.beats_noise == "yes"


def test_what_one_prior_shows_may_be_chance_among_many():
    """ot alone is shown to beat pure noise; among six that are no better than it, it is not."""
    rival = three_seeds("noise", (9.0, 10.0, 11.0), 10, t_trunc=1000)
    mine = three_seeds("ot", (7.9, 9.3, 9.8), 8)
    assert only(chosen(rival, mine), prior="ot").beats_noise == "yes"
    others = [three_seeds(f"p{i}", (10.0, 8.0, 12.0 + i / 10), 9) for i in range(6)]
    among = only(chosen(rival, mine, *others), prior="ot")
    assert among.beats_noise == "undecided"
    assert among.difference_high < 0  # its own interval is what it was


def test_seeds_that_no_other_prior_has_say_nothing():
    rival = three_seeds("noise", (39, 40, 41), 40, t_trunc=1000)
    other = [r | {"seed": r["seed"] + 5} for r in three_seeds("ot", (1, 1.1, 1.2), 1)]
    mine = only(chosen(rival, other), prior="ot")
    assert mine.beats_noise == "undecided"
    assert math.isnan(mine.difference)


def test_of_one_seed_the_difference_has_the_error_of_both_fids():
    mine = only(chosen(noise(10, 10, fid_se=0.4), both("ot", 9, 9, fid_se=0.3)), prior="ot")
    assert (mine.difference_low, mine.difference_high) == pytest.approx(
        (-1 - 1.96 * 0.5, -1 + 1.96 * 0.5), abs=1e-4
    )
    assert mine.beats_noise == "yes"


def test_level_are_those_that_are_not_shown_to_be_higher():
    groups = (
        three_seeds("ot", (1.0, 1.3, 0.9), 1), three_seeds("vae", (1.3, 1.0, 1.4), 2),
        three_seeds("gan", (9.0, 9.3, 9.1), 3),
    )  # fmt: skip
    known = Chosen(folded(*groups))
    places = {place[0]: place for place in known.places}
    assert level(places["ot"], known.places, known) == [places["ot"], places["vae"]]
    assert level(places["gan"], known.places, known) == known.places

"""Rivals at equal cost, excess, break-even, choices on another split, ranks, flags: by hand, on
rows made up for it.
"""

import math
from statistics import median

import pandas as pd
import pytest
from helpers.rows import both, chosen, folded, noise, only, row, seeds, three_seeds

from priorbench.tables import fold as table
from priorbench.tables.headline import headline
from priorbench.tables.selection import judged
from priorbench.tables.words import in_words

# --- at equal cost --------------------------------------------------------------------------------


def test_the_rival_is_chosen_on_validation_and_reported_on_test():
    """dpm++ looks better on the test split, dpm++sde on the validation split: the second is the
    rival.
    """
    found = folded(noise(10, 30), noise(20, 15, solver="dpm++sde"), both("ot", 5, 5))
    assert only(found, prior="ot", split="test").relative_nfe == pytest.approx(5 / 20)


def test_the_rival_has_as_many_evaluations_and_starts_from_pure_noise():
    found = folded(
        noise(40, 40),
        noise(8, 8, steps=5),
        both("noise", 1, 1, t_trunc=100),
        both("ot", 10, 10),
        both("ot", 4, 4, steps=5),
    )
    assert only(found, prior="ot", steps=3, split="test").relative_nfe == pytest.approx(10 / 40)
    assert only(found, prior="ot", steps=5, split="test").relative_nfe == pytest.approx(4 / 8)


def test_the_rival_has_the_best_timesteps():
    """Pure noise is one prior in best.csv, whatever its timesteps."""
    groups = (
        noise(10, 30), noise(20, 15, params="timesteps=tuned"),
        noise(15, 20, params="timesteps=quadratic"), both("noise", 1, 1, params="timesteps=tuned"),
        both("ot", 5, 5),
    )  # fmt: skip
    assert only(folded(*groups), prior="ot", split="test").relative_nfe == pytest.approx(5 / 20)
    found = chosen(*groups)
    assert list(found.prior) == ["noise", "ot"]
    assert found.params[0] == "timesteps=tuned"
    assert found.t_trunc[0] == 1000
    assert found.beats_noise[1] == "yes"


def test_speed_is_measured_against_the_full_chain_with_uniform_timesteps():
    found = folded(
        noise(9, 9, ms=6, params="timesteps=quadratic"), noise(10, 10, ms=3), both("ot", 5, 5, ms=3)
    )
    assert only(found, prior="ot", split="test").speedup == pytest.approx(1)


def test_without_a_rival_at_that_nfe_there_is_no_ratio():
    found = folded(noise(40, 40, steps=5), both("ot", 10, 10))
    assert pd.isna(only(found, prior="ot", split="test").relative_nfe)


def test_leaves_open_what_only_the_test_split_could_choose():
    """Two solvers from pure noise and no validation rows: no rival; a single one needs no
    choice.
    """
    test = [row("ot", 10), row("noise", 40, t_trunc=1000)]
    assert folded(test).relative_nfe[0] == pytest.approx(10 / 40)
    two = [*test, row("noise", 30, t_trunc=1000, solver="unipc")]
    assert pd.isna(folded(two).relative_nfe[0])


def test_in_equal_time_a_quick_prior_meets_a_rival_with_more_steps():
    """6 ms with the prior's: the rival may take 6.3, so 5 steps in 6.2 ms count and 10 steps in 9
    ms do not.
    """
    found = folded(
        noise(40, 40, ms=4), noise(8, 8, steps=5, ms=6.2), noise(1, 1, steps=10, ms=9),
        both("ot", 10, 10, ms=4, prior_seconds=0.0024),
    )  # fmt: skip
    mine = only(found, prior="ot", split="test")
    assert mine.relative_nfe == pytest.approx(10 / 40)
    assert mine.relative_time == pytest.approx(10 / 8)


def test_in_equal_time_the_priors_own_time_counts():
    slow = both("ot", 10, 10, ms=6) + both("ot", 9, 9, ms=6, params="deep=True", prior_seconds=0.02)
    found = folded(noise(40, 40, ms=4), noise(1, 1, steps=10, ms=9), slow)
    assert only(found, params="", prior="ot", split="test").relative_time == pytest.approx(10 / 40)
    assert only(found, params="deep=True", split="test").relative_time == pytest.approx(9 / 1)


def test_of_no_more_operations_a_dear_prior_meets_a_rival_with_more_steps():
    """A prior as large as two evaluations meets the rival of 5 steps; a small one that of 3; one
    that is dearer than twice every rival meets the dearest. Seconds have no part in it.
    """
    rivals = [noise(40, 40, flops_prior=0, flops_chain=300)]
    rivals += [noise(8, 8, steps=5, ms=99, flops_prior=0, flops_chain=500)]
    rivals += [noise(2, 2, steps=10, flops_prior=0, flops_chain=1000)]
    sizes = {"small": 1, "large": 200, "huge": 9000}
    found = folded(
        *rivals, *(both(p, 10, 10, flops_prior=n, flops_chain=300) for p, n in sizes.items())
    )
    ratios = {p: only(found, prior=p, split="test").relative_flops for p in sizes}
    assert ratios == {"small": 10 / 40, "large": 10 / 8, "huge": 10 / 2}
    unknown = folded(*rivals, both("ot", 10, 10, flops_prior=math.nan, flops_chain=300))
    assert math.isnan(only(unknown, prior="ot", split="test").relative_flops)


def test_every_seed_is_compared_with_the_rival_of_its_own():
    found = folded(
        *(noise(f, 9, seed=s) for s, f in enumerate((10, 20))),
        *(both("ot", 5, 5, seed=s) for s in (0, 1)),
    )
    mine = found[(found.prior == "ot") & (found.split == "test")]
    assert mine.relative_nfe.tolist() == pytest.approx([0.5, 0.25])


# --- the oracle -----------------------------------------------------------------------------------


def test_excess_is_over_the_oracle_at_its_best_of_all_starts_at_that_nfe():
    found = folded(
        both("oracle", 2.5, 9, t_trunc=100), both("oracle", 3.0, 8, t_trunc=200),
        both("oracle", 1.0, 1, steps=5), both("ot", 4.5, 4),
    )  # fmt: skip
    assert only(found, prior="ot", split="test").excess == pytest.approx(4.5 - 3.0)
    assert only(found, prior="oracle", t_trunc=100, steps=3, split="test").excess == pytest.approx(
        2.5 - 3.0
    )
    assert found[found.split != "test"].excess.isna().all()


def test_without_an_oracle_there_is_no_excess():
    assert folded(noise(40, 40), both("ot", 4, 4)).excess.isna().all()


# --- break-even -----------------------------------------------------------------------------------


def test_a_fit_is_earned_back_by_the_time_saved_against_a_rival_as_good():
    """10 s of fit; 3 ms an image against 9 ms of the rival that is as good: 10 / 0.006 samples."""
    found = folded(
        noise(40, 40),
        noise(8, 8, steps=10, ms=9),
        noise(4, 4, steps=20, ms=18),
        both("ot", 8.5, 8.5),
    )
    assert only(found, prior="ot", split="test").break_even == pytest.approx(10 / 0.006)


def test_a_fit_is_never_earned_back_where_a_rival_is_as_good_and_as_quick():
    found = folded(noise(5, 5), both("ot", 8, 8))
    assert only(found, prior="ot", split="test").break_even == float("inf")


def test_nothing_is_earned_back_where_no_rival_is_as_good():
    found = folded(noise(40, 40), both("ot", 8, 8))
    assert pd.isna(only(found, prior="ot", split="test").break_even)


# --- the draw's evaluations are the prior's too ---------------------------------------------------


def test_a_prior_that_evaluates_the_model_meets_rivals_and_oracles_of_as_many():
    """Three steps and two evaluations of its own: five, where rivals and oracle have five steps."""
    found = folded(
        noise(40, 40), noise(8, 8, steps=5), both("oracle", 1, 1),
        both("oracle", 0.5, 0.5, steps=5),
        both("ot", 4, 4, nfe=5, nfe_prior=1.5), both("vae", 4, 4, nfe=9, nfe_prior=6.0),
    )  # fmt: skip
    mine = only(found, prior="ot", split="test")
    assert mine.relative_nfe == pytest.approx(4 / 8)
    assert mine.excess == pytest.approx(3.5)
    assert pd.isna(only(found, prior="vae", split="test").relative_nfe)  # no rival has nine


def test_the_nfe_of_a_setting_is_the_most_of_its_seeds():
    own = [
        r
        for s, nfe in enumerate((4, 5))
        for r in both("ot", 4, 4, seed=s, nfe=nfe, nfe_prior=nfe - 3.0)
    ]
    rivals = [r for s in (0, 1) for r in noise(40, 40, seed=s) + noise(8, 8, steps=5, seed=s)]
    found = folded(own, rivals)
    assert found[
        (found.prior == "ot") & (found.split == "test")
    ].relative_nfe.tolist() == pytest.approx([0.5, 0.5])
    mine = only(chosen(own, rivals), prior="ot")
    assert (mine.nfe, mine.seeds, mine.steps) == (5, 2, 3)


# --- seconds are intervals ------------------------------------------------------------------------


def batches(*ms, own=0.3):
    """Changes of a row whose chain took so many ms an image in its batches, and its prior
    ``own``.
    """
    seconds = {"denoise_seconds": median(ms) / 1000, "prior_seconds": own / 1000}
    return seconds | {"denoise_batches": [t / 1000 for t in ms], "prior_batches": [own / 1000]}


def test_a_rival_that_cannot_be_shown_to_take_longer_is_one():
    """Five steps take 5 ms in the middle and 3.4 in the quickest tenth, three steps up to 4: nobody
    knows.
    """
    busy = folded(noise(40, 40, **batches(2, 3, 4)), noise(8, 8, steps=5, **batches(3, 5, 9)),
                  both("ot", 10, 10, **batches(2, 3, 4)))  # fmt: skip
    assert only(busy, prior="ot", split="test").relative_time == pytest.approx(10 / 8)
    quiet = folded(
        noise(40, 40, **batches(2.9, 3, 3.1)),
        noise(8, 8, steps=5, **batches(4.9, 5, 5.1)),
        both("ot", 10, 10, **batches(2.9, 3, 3.1)),
    )
    assert only(quiet, prior="ot", split="test").relative_time == pytest.approx(10 / 40)


def test_a_rival_whose_seconds_vary_need_not_use_half_of_the_rows():
    """3.3 ms in the middle are half of 5.9, but 2.3 are not half of 6.9: the next slower one counts
    too.
    """
    slow = both("ot", 2, 2, **batches(2, 3, 4, own=2.9))
    found = folded(noise(8, 8, **batches(2, 3, 4)), noise(1, 1, steps=100, **batches(40)), slow)
    assert only(found, prior="ot", split="test").relative_time == pytest.approx(2)


def test_earns_a_fit_back_only_by_seconds_that_are_surely_saved():
    rivals = noise(8, 8, steps=5, **batches(3, 5, 9))
    busy = folded(
        noise(40, 40, **batches(2, 3, 4)), rivals, both("ot", 8.5, 8.5, **batches(2, 3, 4))
    )
    assert only(busy, prior="ot", split="test").break_even == float("inf")
    quiet = folded(
        noise(40, 40, **batches(3)),
        noise(8, 8, steps=5, **batches(5)),
        both("ot", 8.5, 8.5, **batches(3)),
    )
    assert only(quiet, prior="ot", split="test").break_even == pytest.approx(10 / 0.002)


def test_a_table_of_an_earlier_version_is_judged_by_its_points():
    found = folded(
        noise(40, 40, ms=4),
        noise(8, 8, steps=5, ms=6.2),
        both("ot", 10, 10, ms=4, prior_seconds=0.0024),
    )
    old = found.assign(seconds_low=float("nan"), seconds_high=float("nan"), nfe_prior=float("nan"))
    again = judged(old)
    assert again.relative_time.tolist() == pytest.approx(found.relative_time.tolist(), nan_ok=True)
    assert only(again, prior="ot", split="test").relative_time == pytest.approx(10 / 8)


# --- one seed -------------------------------------------------------------------------------------


def test_one_seed_ranks_nobody_and_calls_nobody_first():
    found = chosen(noise(40, 40), both("ot", 1, 1), both("vae", 5, 5))
    assert found["rank"].isna().all()
    assert only(found, prior="ot").beats_noise == "yes"
    words = in_words(found)
    assert words[0].startswith(
        "ot (this fit) against the best solver from pure noise: at equal NFE wins at NFE 3"
    )
    assert not any("First" in said for said in words)


def test_a_prior_of_one_seed_is_not_ranked_among_those_of_several():
    found = chosen(
        three_seeds("ot", (1, 1.1, 1.2), 1),
        three_seeds("vae", (5, 5.1, 5.2), 5),
        both("gan", 0.1, 0.1),
    )
    assert found.set_index("prior")["rank"].dropna().to_dict() == {"ot": 1, "vae": 2}


# --- unlike conditions, seeds that failed ---------------------------------------------------------


def test_between_two_rivals_a_slow_prior_meets_the_slower_one_too():
    """2 ms for three steps and 40 ms for the full chain: a prior of 15 ms may not be measured by
    the first alone.
    """
    rivals = noise(8, 8, ms=2), noise(1, 1, steps=100, ms=40)
    slow = only(folded(*rivals, both("ot", 2, 2, ms=15)), prior="ot", split="test")
    quick = only(folded(*rivals, both("ot", 2, 2, ms=2)), prior="ot", split="test")
    assert slow.relative_nfe == quick.relative_nfe == quick.relative_time == pytest.approx(2 / 8)
    assert slow.relative_time == pytest.approx(2)


def test_a_seed_timed_otherwise_is_a_seed_all_the_same_and_its_seconds_are_not_averaged():
    groups = [
        seeds("noise", (9, 10, 11), t_trunc=1000),
        seeds("ot", (1.0, 1.1), solver="unipc", ms=2),
    ]
    odd = both("ot", 1.2, 1.2, solver="unipc", seed=2, concurrency=2, threads=1, ms=20)
    (mine,) = [r for r in chosen(*groups, odd).to_dict("records") if r["prior"] == "ot"]
    assert mine["seeds"] == 3
    assert mine["fid"] == pytest.approx(1.1)
    assert mine["beats_noise"] == "yes"
    means = table.summary(folded(*groups, odd))
    (summed,) = means[(means.prior == "ot") & (means.split == "test")].to_dict("records")
    assert summed["threads"] == summed["concurrency"] == "several"
    assert math.isnan(summed["denoise_seconds"])
    found = folded(*groups, odd)
    assert found[found.prior == "ot"].relative_time.isna().all()
    assert math.isnan(only(found, prior="ot", seed=2, split="test").speedup)
    assert only(found, prior="ot", seed=1, split="test").speedup == pytest.approx(1.5)


def test_two_seeds_of_unlike_conditions_have_a_verdict():
    groups = [
        seeds("noise", (9, 10), t_trunc=1000),
        both("ot", 1, 1),
        both("ot", 1.1, 1.1, seed=1, threads=1),
    ]
    (mine,) = [r for r in chosen(*groups).to_dict("records") if r["prior"] == "ot"]
    assert mine["seeds"] == 2
    assert mine["beats_noise_in_time"] == "undecided"


def test_seeds_that_failed_leave_no_rank_and_no_headline():
    """One good seed of three is no mean over three, however good it is."""
    good = [both("gan", 0.1, 0.1)[i] for i in (0, 1)]
    bad = [
        row("gan", math.nan, seed=s, split=split, status="failed", error="diverged")
        for s in (1, 2)
        for split in ("test", "validation")
    ]
    groups = [seeds("noise", (9, 10, 11), t_trunc=1000), seeds("ot", (1, 1.1, 1.2)), good, bad]
    found = chosen(*groups)
    gan = found[found.prior == "gan"].iloc[0]
    assert gan.flag == "failed in 2 of 3 seeds"
    assert math.isnan(gan["rank"])
    assert headline(folded(*groups), found).sentence.startswith("ot at")


def test_a_setting_that_failed_nowhere_is_chosen_before_one_that_did():
    bad = [
        row("ot", math.nan, seed=1, t_trunc=200, split=s, status="failed")
        for s in ("test", "validation")
    ]
    found = chosen(
        seeds("noise", (9, 10), t_trunc=1000),
        seeds("ot", (2, 2.1)),
        both("ot", 1, 1, t_trunc=200),
        bad,
    )
    assert found[found.prior == "ot"].t_trunc.tolist() == [100]


def test_without_intervals_there_is_no_rank():
    found = chosen(
        noise(9, 9), both("ot", 1, 1, fid_se=math.nan), both("vae", 5, 5, fid_se=math.nan)
    )
    assert found["rank"].isna().all()


# --- the best setting of each ---------------------------------------------------------------------


def test_the_best_setting_is_chosen_on_validation_and_reported_on_test():
    found = chosen(both("ot", 1, 9, t_trunc=100), both("ot", 7, 2, t_trunc=200), noise(40, 40))
    mine = only(found, prior="ot")
    assert (mine.t_trunc, mine.fid, mine.split, mine.chosen_on) == (200, 7, "test", "validation")


def test_the_oracle_is_chosen_on_the_training_split():
    found = chosen(both("oracle", 1, 9, t_trunc=100), both("oracle", 7, 2, t_trunc=200))
    assert (only(found, prior="oracle").t_trunc, only(found, prior="oracle").chosen_on) == (
        200,
        "train",
    )


def test_the_verdict_is_undecided_where_the_difference_may_be_chance():
    found = chosen(
        three_seeds("noise", (9, 10, 11), 10, t_trunc=1000), three_seeds("ot", (1, 1.1, 1.2), 1),
        three_seeds("vae", (8, 9, 10), 9), three_seeds("gan", (30, 31, 32), 30),
    )  # fmt: skip
    assert {p: only(found, prior=p).beats_noise for p in ("ot", "vae", "gan")} == {
        "ot": "yes", "vae": "undecided", "gan": "no",
    }  # fmt: skip
    words = in_words(found)
    assert words[0].startswith(
        "ot against the best solver from pure noise: at equal NFE wins at NFE 3"
    )
    assert "First at NFE 3: ot." in words
    assert any("gan" in w and "at equal NFE loses at NFE 3" in w for w in words)


def test_of_one_seed_equal_time_is_judged_by_the_interval_of_the_rival_in_that_time():
    """Three steps of dpm++ take more time than three of unipc, two no more; half-widths are 1.96 *
    0.1.
    """
    found = chosen(
        noise(4, 4, ms=9), noise(10, 10, steps=2, ms=3), both("gan", 3.8, 3.8, ms=9),
        both("ot", 9.7, 9.7, solver="unipc"), both("vae", 9.5, 9.5, solver="unipc"),
    )  # fmt: skip
    three = found[found.nfe == 3]
    assert {p: only(three, prior=p).beats_noise for p in ("ot", "gan")} == {
        "ot": "no",
        "gan": "undecided",
    }
    assert {p: only(three, prior=p).beats_noise_in_time for p in ("ot", "vae", "gan")} == {
        "ot": "undecided", "vae": "yes", "gan": "undecided",
    }  # fmt: skip


def test_a_run_in_which_nothing_can_be_chosen_says_nothing():
    found = chosen([row("ot", 1), row("ot", 2, t_trunc=200)])
    assert len(found) == 0
    assert in_words(found) == []

"""The sentence that answers the question, and what it may not say."""

import pytest
from helpers.rows import both, chosen, folded, noise, row, three_seeds, verdict

from priorbench.tables import fold as table
from priorbench.tables.best import best
from priorbench.tables.headline import headline
from priorbench.tables.words import plus_minus


def test_equal_cost_names_the_lesser_of_the_two_gains():
    found = chosen(noise(40, 40, ms=4), noise(8, 8, steps=5, ms=6), both("ot", 2, 2, ms=6.1))
    sentence = headline(
        folded(noise(40, 40, ms=4), noise(8, 8, steps=5, ms=6), both("ot", 2, 2, ms=6.1)), found
    )
    assert (
        "4.0 times better than the best solver from pure noise at equal cost" in sentence.sentence
    )


def test_a_gain_is_only_said_to_be_lost_where_it_was_one():
    """vae gains at equal NFE and loses in time; ot, nearer, is shown neither."""
    groups = [
        noise(10, 10, ms=1), noise(1, 1, steps=10, ms=9), both("vae", 8, 8, ms=9),
        both("ot", 7, 7, ms=9, fid_se=4.0),
    ]  # fmt: skip
    said = headline(folded(*groups), chosen(*groups)).sentence
    assert said.startswith("No prior is shown to pay. The nearest is ot")
    assert "lost" not in said


def test_the_verdict_names_the_setting_its_interval_and_what_it_gains():
    found = verdict(
        noise(32, 32, ms=3), noise(6, 6, steps=10, ms=54),
        both("ot", 5.4, 5.4, t_trunc=200, fid_se=0.15), both("vae", 9, 9),
    )  # fmt: skip
    assert found.pays
    assert found.sentence == (
        "ot at t_trunc = 200, 3 steps of dpm++, this fit (one seed): FID 5.40 ± 0.29, "
        "5.9 times better than the best "
        "solver from pure noise at equal cost."
    )
    assert found.remark.startswith(
        "One seed says nothing about what other fits would score, and ranks no prior; --seeds 3"
    )
    assert dict(found.facts)["pure noise, equal NFE"] == "32.00 ± 0.20"
    assert dict(found.facts)["FID, 95 % interval of this fit"] == "5.40 ± 0.29"


def test_over_seeds_equal_cost_is_both_nfe_and_time():
    found = verdict(
        three_seeds("noise", (9.9, 10, 10.1), 10, t_trunc=1000),
        three_seeds("ot", (1, 1.1, 1.2), 1),
        three_seeds("noise", (1.9, 2, 2.1), 2, t_trunc=1000, steps=10, ms=9, solver="ddim"),
    )  # fmt: skip
    assert found.sentence.startswith(
        "ot at t_trunc = 100, 3 steps of dpm++: FID 1.10 ± 0.21, 9.1 times better than the "
    )
    assert "the best solver from pure noise at equal cost" in found.sentence
    assert found.remark == ""


def test_of_those_that_pay_the_best_on_the_choosing_split_is_named():
    found = verdict(
        noise(40, 40), noise(20, 20, steps=5), both("ot", 5, 7), both("vae", 6, 4, steps=5, ms=5)
    )
    assert found.sentence.startswith("vae at t_trunc = 100, 5 steps")


def test_no_prior_pays_where_pure_noise_is_as_good():
    found = verdict(noise(5, 5), both("ot", 8, 8))
    assert not found.pays
    assert found.sentence.startswith("No prior pays. The nearest is ot at t_trunc = 100")
    assert "FID 8.00 ± 0.20 against 5.00 ± 0.20" in found.sentence


def test_the_nearest_is_the_nearest_on_the_choosing_split():
    """ot is nearer to its rival on the test split, vae on the other. Where one has no score the
    test split decides.
    """
    rivals = noise(5, 5), noise(4, 4, steps=5)
    found = verdict(*rivals, both("ot", 6, 9), both("vae", 8, 5, steps=5))
    assert found.sentence.startswith(
        "No prior pays. The nearest is vae at t_trunc = 100, 5 steps of dpm++, this fit"
    )
    assert "FID 8.00 ± 0.20 against 4.00 ± 0.20" in found.sentence
    unscored = verdict(*rivals, both("ot", 6, 9), both("gan", 15, 5.5), [row("vae", 8, steps=5)])
    assert unscored.sentence.startswith("No prior pays. The nearest is ot at t_trunc = 100")


def test_what_the_prior_evaluates_itself_stands_beside_the_steps():
    found = verdict(noise(40, 40), noise(9, 9, steps=5), both("ot", 2, 2, nfe=5, nfe_prior=2.0))
    assert found.sentence.startswith(
        "ot at t_trunc = 100, 3 steps of dpm++ (NFE 5), this fit (one seed): FID 2.00"
    )


def test_what_the_intervals_do_not_decide_is_not_decided():
    found = verdict(noise(5, 5), both("ot", 4.9, 4.9))
    assert not found.pays
    assert found.sentence.startswith("No prior is shown to pay.")


def test_a_gain_that_is_lost_in_time_does_not_pay():
    """Ten times the rival's time: a rival with more steps does better in it."""
    found = verdict(noise(40, 40, ms=3), noise(1, 1, steps=20, ms=20), both("ot", 8, 8, ms=30))
    assert not found.pays
    assert "lost in equal time" in found.sentence


@pytest.mark.parametrize(
    "caught", [{"stored_train": 0.9}, {"stored_test": 0.9}, {"distinct": 0.3}, {"noise_xt": 0.8}]
)
def test_a_prior_that_cheats_never_wins(caught):
    cheat = both("cheat", 0.1, 0.1, **caught)
    assert verdict(noise(40, 40), cheat, both("ot", 9, 9)).sentence.startswith("ot at")
    alone = verdict(noise(40, 40), cheat)
    assert alone.sentence == "No prior pays: every contender that did not fail is flagged."


def test_storing_in_one_setting_disqualifies_in_all():
    """Late in the chain nobody can tell what is stored; the prior is the same."""
    cheat = three_seeds("cheat", (5, 5, 5), 5, stored_train=0.9) + three_seeds(
        "cheat", (0.1,) * 3, 0.1, t_trunc=400
    )
    found = folded(
        three_seeds("noise", (39, 40, 41), 40, t_trunc=1000),
        cheat,
        three_seeds("ot", (8, 9, 10), 9),
    )
    chosen = best(found, table.summary(found))
    assert chosen.set_index("prior")["rank"].dropna().to_dict() == {"ot": 1}
    assert headline(found, chosen).sentence.startswith("ot at")


def test_remarks_on_a_missing_choosing_split_in_place_of_a_verdict():
    found = verdict([row("ot", 3), row("ot", 2, t_trunc=200), row("noise", 9, t_trunc=1000)])
    assert found.sentence.startswith("No verdict")
    assert "too low because it was picked by itself, is 2: ot at t_trunc = 200" in found.remark


def test_where_all_failed_nothing_is_judged():
    found = verdict([row("ot", float("nan"), status="failed", error="no")], noise(4, 4))
    assert found.sentence == "No verdict: every contender failed."


@pytest.mark.parametrize(
    ("half", "text"),
    [(0.28, "5.41 ± 0.28"), (0.0123, "5.413 ± 0.012"), (12.3, "5 ± 12"), (float("nan"), "5.41")],
)
def test_an_interval_is_written_to_its_second_figure(half, text):
    assert plus_minus({"fid": 5.4132, "fid_low": 5.4132 - half, "fid_high": 5.4132 + half}) == text


def test_a_fit_whose_seconds_cannot_be_compared_is_not_said_to_have_no_rival():
    """Noise is as good as ot and was timed on another device: nobody knows when ot has paid."""
    found = verdict(noise(5, 5, device="cuda"), both("ot", 5, 5))
    assert dict(found.facts)["fit earned back"] == "unknown"
    alike = verdict(noise(50, 50), both("ot", 5, 5))
    assert dict(alike.facts)["fit earned back"] == "no rival is as good"


def test_priors_that_are_level_are_all_named_and_the_cheapest_to_fit_first():
    rival = three_seeds("noise", (39, 40, 41.5), 40, t_trunc=1000)
    level = (
        three_seeds("ot", (1.0, 1.3, 0.9), 1, fit_seconds=60.0),
        three_seeds("mixture", (1.3, 1.0, 1.4), 2, fit_seconds=0.5),
    )
    found = verdict(rival, *level, three_seeds("gan", (9.0, 9.3, 9.1), 3, fit_seconds=0.1))
    assert found.sentence.startswith(
        "2 priors are level at NFE 3, the cheapest to fit first: mixture (1.23 ± "
    )
    assert "fitted in 0.5 s), ot (1.07 ± " in found.sentence
    assert ". mixture at t_trunc = 100, 3 steps of dpm++: 33 times better than" in found.sentence
    assert "gan" not in found.sentence
    assert found.row["prior"] == "mixture"


def test_fits_of_one_seed_that_are_level_are_all_named():
    found = verdict(
        noise(40, 40), both("ot", 5, 5, fit_seconds=9.0), both("vae", 5.1, 5.1, fit_seconds=2.0)
    )
    assert "first: vae (5.10 ± 0.20, fitted in 2 s), ot (5.00 ± 0.20, fitted" in found.sentence
    assert found.remark.startswith("One seed says nothing")


def test_without_intervals_the_verdict_says_why_and_what_would_give_them():
    few = {"fid_se": float("nan"), "features": 64, "n_reference": 360, "n_samples": 100}
    found = verdict(noise(5, 5, **few), both("ot", 4.9, 4.9, **few))
    assert found.sentence.endswith(
        "there are no intervals to decide it, since with 64 features they take 130 samples and as "
        "many test images, or several seeds, and it has 100 samples."
    )

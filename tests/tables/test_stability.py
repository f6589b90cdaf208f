"""Which priors keep their own variances: those whose fits vary more than the others' do."""

import numpy as np
import pytest
from helpers.rows import folded, only, row
from scipy import stats

from priorbench.tables.columns import PLACE
from priorbench.tables.fold import summary
from priorbench.tables.intervals import Law, Seeds
from priorbench.tables.stability import Stability, owner


def place(prior, t_trunc=100, budget="", steps=3):
    known = {"prior": prior, "params": "", "t_trunc": t_trunc, "fit_budget": budget}
    return tuple((known | {"solver": "dpm++", "steps": steps})[column] for column in PLACE)


def settings(ratios, seeds=3, within=1.0):
    """Settings of (prior, t_trunc, budget), whose variance over seeds is so many times ``within``.

    Their seeds are -1, 0, 1 and so on, in units of that.
    """
    base = np.linspace(-1, 1, seeds)
    base /= base.std(ddof=1)
    return {
        place(*where): Seeds((base * (ratio * within) ** 0.5).tolist(), within)
        for where, ratio in ratios.items()
    }


RATIOS = {
    (prior, t_trunc): ratio
    for prior, several in {
        "ot": (0.5, 1.0), "vae": (1.5, 0.8), "mixture": (0.7, 1.2), "gan": (5.0, 9.0),
    }.items()
    for t_trunc, ratio in zip((100, 200), several, strict=True)
}  # fmt: skip


def test_a_prior_that_stands_out_by_all_its_fits_borrows_in_none():
    found = Stability.of(settings(RATIOS))
    assert found.unstable == {("gan", "", "")}
    assert found.law_for(place("gan")) is None
    assert found.law_for(place("ot")) == found.law
    assert found.law_for(place("ot"), place("gan")) is None
    other = Law(2.0, 3.0)
    assert found.law_for(place("ot"), place("vae"), law=other) == other


def test_a_lucky_setting_of_an_unstable_prior_has_the_interval_of_its_own():
    """gan's seeds at t_trunc 100 happen to be closer together than the others'."""
    lucky = RATIOS | {("gan", 100): 0.9, ("gan", 200): 14.0}
    found = Stability.of(settings(lucky))
    assert found.unstable == {("gan", "", "")}
    alone = found.law.moderated(0.9, 2)
    assert alone != (0.9, 2)  # by itself it would have borrowed


def test_budgets_are_apart():
    """A prior that is unstable after 10 s may be stable after a minute."""
    several = {
        (prior, t_trunc, budget): ratio * (1 if budget == "10s" or prior != "gan" else 0.1)
        for (prior, t_trunc), ratio in RATIOS.items()
        for budget in ("10s", "60s")
    }
    assert Stability.of(settings(several)).unstable == {("gan", "", "10s")}


def test_equal_priors_two_seeds_and_unknown_variances_have_nobody_unstable():
    equal = dict.fromkeys(RATIOS, 1.0)
    assert Stability.of(settings(equal)).unstable == set()
    assert Stability.of(settings(RATIOS, seeds=2)).unstable == set()
    assert Stability.of({}).unstable == set()
    unknown = {where: Seeds(s.values) for where, s in settings(RATIOS).items()}
    assert Stability.of(unknown).unstable == set()
    assert owner(place("ot", budget="60s")) == ("ot", "", "60s")


def test_the_summary_gives_an_unstable_prior_students_t():
    rows = [
        row(prior, 10 + value, t_trunc=t_trunc, seed=seed, fid_se=1.0)
        for (prior, _, t_trunc, *_), mine in settings(RATIOS).items()
        for seed, value in enumerate(mine.values)
    ]
    found = summary(folded(rows))
    gan, ot = (only(found, prior=prior, t_trunc=100) for prior in ("gan", "ot"))
    values = [10 + v for v in settings(RATIOS)[place("gan")].values]
    wanted = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (gan.fid_low, gan.fid_high) == pytest.approx(wanted)
    known = settings(RATIOS)
    borrowed = known[place("ot")].mean(Stability.of(known).law).ends
    assert (ot.fid_low - 10, ot.fid_high - 10) == pytest.approx(borrowed)


def test_an_unstable_prior_is_covered_better_than_by_its_settings_one_by_one():
    """Of priors with two settings of three seeds, one varies ten times as much."""
    draw, hits = np.random.default_rng(0), {"together": 0, "one by one": 0}
    variances = {(p, t): 11.0 if p == "e" else 1.1 for p in "abcde" for t in (100, 200)}
    for _ in range(400):
        run = {
            place(*where): Seeds(draw.normal(0, v**0.5, 3).tolist(), 1.0)
            for where, v in variances.items()
        }
        found, mine = Stability.of(run), place("e")
        for how, law in (("together", found.law_for(mine)), ("one by one", found.law)):
            low, high = run[mine].mean(law).ends
            hits[how] += low <= 0 <= high
    assert hits["one by one"] < 0.92 * 400 < hits["together"]

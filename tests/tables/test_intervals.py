"""Means over few seeds: Student's t, what is borrowed from other settings, Holm's correction."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from priorbench.tables.intervals import Law, Mean, Seeds, holm


def test_by_itself_a_mean_has_the_interval_of_students_t():
    values = [1.0, 2.5, 2.2, 3.1]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert Seeds(values, within=0.3).mean().ends == pytest.approx((low, high))
    assert Seeds(values).mean().p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_one_value_has_the_interval_of_its_samples():
    low, high = Seeds([3.0], within=0.25).mean(Law(1.0, 10.0, 20)).ends
    assert (low, high) == pytest.approx((3 - 1.96 * 0.5, 3 + 1.96 * 0.5), abs=1e-4)
    assert Seeds([3.0]).mean().ends == pytest.approx((math.nan,) * 2, nan_ok=True)


def test_nothing_varies_and_nothing_is_left_open():
    assert Seeds([0.0, 0.0, 0.0]).mean().p == 1
    assert Seeds([1.0, 1.0, 1.0]).mean().p == 0
    assert math.isnan(Seeds([]).mean().p)


@pytest.mark.parametrize(("r_0", "d_0"), [(1.0, 4.0), (0.4, 8.0), (3.0, 2.0)])
def test_the_law_of_many_settings_is_found(r_0, d_0):
    """Ratios drawn from r_0 F(2, d_0), as three seeds give them."""
    draw = np.random.default_rng(0)
    true = r_0 * d_0 / draw.chisquare(d_0, 20000)
    settings = [Seeds(draw.normal(0, v**0.5, 3).tolist(), within=1.0) for v in true]
    law = Law.of(settings, most=1000)
    assert law.ratio == pytest.approx(r_0, rel=0.05)
    assert law.freedom == pytest.approx(d_0, rel=0.1)


def test_settings_that_are_all_alike_share_one_variance():
    draw = np.random.default_rng(1)
    settings = [Seeds(draw.normal(0, 2, 3).tolist(), within=1.0) for _ in range(60)]
    law = Law.of(settings, most=120)
    assert law.freedom > 30
    mean = min(settings, key=lambda s: s.ratio).mean(law)
    assert mean.error == pytest.approx(2 / 3**0.5, rel=0.2)
    assert mean.freedom > 30


def test_two_settings_are_no_law():
    settings = [Seeds([1, 2, 3], 1.0), Seeds([2, 2, 3], 1.0)]
    assert Law.of(settings, 4) == Law()
    assert settings[0].mean(Law.of(settings, 4)) == settings[0].mean()


@given(st.floats(1e-3, 1e3), st.integers(2, 9), st.floats(0.1, 10), st.floats(0.1, 100))
def test_a_moderated_ratio_lies_between_its_own_and_the_centre(ratio, freedom, r_0, d_0):
    law = Law(r_0, d_0, most=50)
    found, degrees = law.moderated(ratio, freedom)
    ends = sorted([ratio, r_0])
    assert ends[0] * 0.999 <= found <= ends[1] * 1.001
    assert freedom <= degrees <= max(50, freedom)
    if stats.f.sf(ratio / r_0, freedom, d_0) < 0.2:  # an unstable prior borrows no stability
        assert (found, degrees) == (ratio, freedom)


def test_two_seeds_borrow_nothing():
    assert Law(1.0, 20.0, 50).moderated(0.3, 1) == (0.3, 1)


def test_holm_by_hand():
    """The least p times m, the next times m - 1, and none less than the one before."""
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.02, math.nan, 0.9]) == pytest.approx([0.04, math.nan, 0.9], nan_ok=True)
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_a_corrected_p_lies_between_its_own_and_bonferronis(ps):
    found = holm(ps)
    assert all(p <= c <= min(1.0, len(ps) * p) + 1e-12 for p, c in zip(ps, found, strict=True))
    assert min(found) == min(1.0, len(ps) * min(ps))
    in_order = [c for _, c in sorted(zip(ps, found, strict=True))]
    assert in_order == sorted(in_order)


def test_false_alarms_among_true_nulls_are_five_per_cent_at_most():
    """Six means of three seeds, all 0, corrected: any of them is called other than 0 in 5 %."""
    draw, alarms = np.random.default_rng(2), 0
    for _ in range(800):
        ps = [Mean(float(x.mean()), float(stats.sem(x)), 2).p for x in draw.normal(size=(6, 3))]
        alarms += min(holm(ps)) <= 0.05
    assert alarms / 800 < 0.05 + 3 * (0.05 * 0.95 / 800) ** 0.5

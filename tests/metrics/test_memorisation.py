"""What says that samples are copies: authenticity and the ratio of distances to neighbours."""

import pytest
import torch
from helpers.draws import gaussian, normal
from hypothesis import given, settings
from hypothesis import strategies as st

from priorbench.data.digits import load
from priorbench.metrics.fidelity import features_of
from priorbench.metrics.loading import digits
from priorbench.metrics.memorisation import authenticity, neighbour_ratio

seeds = st.integers(0, 10**6)


def test_the_neighbour_ratio_of_stored_images_is_nothing():
    train, test = normal(200, 8, 0), normal(100, 8, 1)
    assert neighbour_ratio(train[:50], train, test) == pytest.approx((0, 0), abs=1e-6)
    assert neighbour_ratio(normal(50, 8, 2), test, test) == pytest.approx((1, 0))
    assert authenticity(train[:50], train) == 0


def test_the_neighbour_ratio_is_the_middle_of_the_two_middle_ones():
    samples, train, test = (
        torch.tensor([[1.0], [2.0]]),
        torch.tensor([[0.0]]),
        torch.tensor([[3.0]]),
    )
    ratio, _ = neighbour_ratio(samples, train, test)  # 1 / 2 and 2 / 1
    assert ratio == pytest.approx(1.25)


def test_the_error_of_the_neighbour_ratio_is_that_of_a_median():
    train, test = normal(300, 6, 0), normal(200, 6, 1)
    found = [neighbour_ratio(normal(200, 6, seed), train, test) for seed in range(2, 42)]
    medians, errors = torch.tensor(found).T
    assert float(errors.mean()) == pytest.approx(float(medians.std()), rel=0.35)


def test_authenticity_counts_copies():
    training = torch.arange(10.0)[:, None] * torch.ones(1, 2)
    assert authenticity(training + 1e-3, training) == 0
    assert authenticity(training + torch.tensor([100.0, -100.0]), training) == 1
    half = torch.cat([training[:5], training[:5] + torch.tensor([50.0, -50.0])])
    assert authenticity(half, training) == 0.5


@settings(max_examples=25, deadline=None)
@given(seed=seeds, n=st.integers(3, 30), jitter=st.sampled_from([0.0, 0.1, 0.4]))
def test_copies_are_found_through_jitter_below_half_the_gap(seed, n, jitter):
    training = gaussian(n, seed=seed).double()
    gap = torch.cdist(training, training).fill_diagonal_(float("inf")).min()
    step = torch.nn.functional.normalize(gaussian(n, seed=seed + 1).double(), dim=1) * jitter * gap
    assert authenticity(training + step, training) == 0
    assert authenticity(training + 1e3, training) == 1
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert authenticity(training[order], training[order.flip(0)]) == 0


def test_copies_of_a_training_set_with_duplicates_are_copies():
    """The neighbour of a duplicated image is at distance 0: Alaa et al. count a sample as authentic
    only if it is farther than that.
    """
    training = torch.arange(6.0)[:, None] * torch.ones(1, 2)
    assert authenticity(training, training.repeat(2, 1)) == 0


def test_fresh_draws_of_the_same_law_are_mostly_no_copies():
    assert 0.3 < authenticity(gaussian(400, seed=1), gaussian(400)) < 0.8


def test_authenticity_of_the_digits_splits():
    data, extractor = load(), digits()
    training = features_of(data.train, extractor)
    assert authenticity(training, training) == 0
    assert 0.4 < authenticity(features_of(data.test, extractor), training) < 0.8

"""Wasserstein distances against POT and closed forms."""

import numpy as np
import ot
import pytest
import torch
from helpers.draws import gaussian
from hypothesis import given, settings
from hypothesis import strategies as st

from priorbench.metrics.wasserstein import Cloud, distances, exact_w2, gaussian_w2, sliced_w2


def test_exact_w2_is_pots_and_a_shift_is_its_length():
    generator = torch.Generator().manual_seed(0)
    x, y = (
        torch.randn(50, 1, 3, 3, generator=generator),
        torch.rand(50, 1, 3, 3, generator=generator),
    )
    cost = ot.dist(x.flatten(1).double().numpy(), y.flatten(1).double().numpy())
    assert exact_w2(x, y) == pytest.approx(ot.emd2([], [], cost) ** 0.5, abs=1e-6)
    assert exact_w2(x, x + 0.5) == pytest.approx(0.5 * 9**0.5, rel=1e-5)


def test_gaussian_w2_of_commuting_covariances():
    """W2^2 = |m - n|^2 + sum (s_i - r_i)^2 for diagonal covariances, reached exactly by rescaled
    copies of one cloud.
    """
    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)).double()
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    s, r, c = (
        torch.tensor([1.0, 2.0, 3.0, 0.5]),
        torch.tensor([2.0, 2.0, 1.0, 0.1]),
        torch.full((4,), 0.3),
    )
    wanted = (c.square().sum() + (s - r).square().sum()).sqrt().item()
    assert gaussian_w2(x * s, x * r + c) == pytest.approx(wanted, rel=1e-5)
    # The diagonal map is optimal for the points themselves too, whose variance is 1 by the divisor
    # 499.
    points = (c.square().sum() + (s - r).square().sum() * 499 / 500).sqrt().item()
    assert exact_w2(x * s, x * r + c) == pytest.approx(points, rel=1e-5)


def test_sliced_w2_in_one_dimension_is_sorting():
    x = torch.tensor([[3.0], [1.0], [2.0]])
    y = torch.tensor([[10.0], [12.0], [11.5]])
    wanted = np.sqrt(np.mean([(1 - 10) ** 2, (2 - 11.5) ** 2, (3 - 12) ** 2]))
    assert sliced_w2(x, y, torch.Generator().manual_seed(0)) == pytest.approx(wanted, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_distances_are_zero_on_copies_symmetric_and_ordered(seed, n):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(n, 3, generator=generator), torch.rand(n, 3, generator=generator)
    assert exact_w2(x, x.flip(0)) == pytest.approx(0, abs=1e-6)
    assert exact_w2(x, y) == pytest.approx(exact_w2(y, x), rel=1e-6)
    found = distances(x, y, torch.Generator().manual_seed(0), n)
    assert found["sw2"] <= found["w2"] + 1e-9


seeds = st.integers(0, 10**6)


def fixed_sw2(x, y):
    return sliced_w2(x, y, torch.Generator().manual_seed(0), 16)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, n=st.integers(2, 10), scale=st.floats(0.1, 10))
@pytest.mark.parametrize("distance", [exact_w2, gaussian_w2, fixed_sw2])
def test_metric_axioms(distance, seed, n, scale):
    """Of points for the first and third, of moments for the second."""
    x, y, z = (gaussian(n, seed=seed + i) * s for i, s in enumerate((1, 2, 0.5)))
    xy, yz, xz = distance(x, y), distance(y, z), distance(x, z)
    assert min(xy, yz, xz) > 1e-4
    assert xz <= xy + yz + 1e-6
    assert distance(y, x) == pytest.approx(xy, rel=1e-6)
    assert distance(x, x.flip(0)) == pytest.approx(0, abs=1e-5)
    assert distance(scale * x, scale * y) == pytest.approx(scale * xy, rel=1e-4)
    assert distance(x + 3, y + 3) == pytest.approx(xy, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, n=st.integers(3, 12))
def test_the_gaussian_distance_is_a_lower_bound(seed, n):
    """Gelbrich's bound, for the moments of the clouds themselves: the divisor n - 1 adds at most n
    / (n - 1).
    """
    x, y = gaussian(n, seed=seed), torch.rand(n, 3, generator=torch.Generator().manual_seed(seed))
    assert gaussian_w2(x, y) ** 2 <= exact_w2(x, y) ** 2 * n / (n - 1) + 1e-6


def test_gaussian_w2_of_commuting_covariances_that_are_not_diagonal():
    """A rotation common to both clouds changes nothing; a closed form with eigenvalues s^2 and r^2
    in any basis.
    """
    x = gaussian(500, 4).double()
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    rotation, _ = torch.linalg.qr(gaussian(4, 4, seed=1).double())
    s, r, c = (
        torch.tensor([1.0, 2.0, 3.0, 0.5]),
        torch.tensor([2.0, 2.0, 1.0, 0.0]),
        torch.full((4,), 0.3),
    )
    wanted = (c.square().sum() + (s - r).square().sum()).sqrt().item()
    # Another cloud with the same moments: only moments count.
    other = x.flip(0) * torch.tensor([1.0, -1.0, 1.0, -1.0])
    other = (other - other.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(other.T))).T
    assert gaussian_w2(x * s @ rotation, (other * r + c) @ rotation) == pytest.approx(
        wanted, rel=1e-4
    )


def test_gaussian_w2_of_fewer_points_than_dimensions():
    """Singular covariances, as those of digits are, whose corners are always white."""
    x = gaussian(5, 9)
    assert gaussian_w2(x, x + 1) == pytest.approx(3, rel=1e-4)
    assert gaussian_w2(torch.ones(4, 3), torch.zeros(4, 3)) == pytest.approx(3**0.5, rel=1e-6)


def test_exact_w2_of_unequal_sizes():
    """{0, 6} and {0, 3, 6}: a third of the mass stays at each end, and two sixths go 3 to the
    middle.
    """
    x, y = torch.tensor([[0.0], [6.0]]), torch.tensor([[6.0], [0.0], [3.0]])
    assert exact_w2(x, y) == pytest.approx(3**0.5)
    assert fixed_sw2(x, y) == pytest.approx(3**0.5)


def test_exact_w2_finds_the_best_pairing_and_not_the_given_one():
    """Two points that swap places: no distance; the nearest neighbour of both is one point: one has
    to go far.
    """
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert exact_w2(x, x.flip(0)) == 0
    assert exact_w2(x, torch.tensor([[1.0, 0.0], [5.0, 0.0]])) == pytest.approx(
        (17 / 2) ** 0.5
    )  # 1, 16 beats 0, 25


@pytest.mark.parametrize("c", [[2.0, 2, 2, 2], [2.0, -2, 2, -2], [0.0, 0, 4, 0]])
def test_sliced_w2_of_a_shift_is_its_mean_square_over_the_sphere(c):
    """The mean of <theta, c>^2 over uniform directions in R^d is |c|^2 / d, wherever c points."""
    x = gaussian(10, 4)
    found = sliced_w2(x, x + torch.tensor(c), torch.Generator().manual_seed(0), 50_000)
    assert found == pytest.approx(4 / 2, rel=0.01)


def test_the_directions_come_from_the_generator():
    x, y = gaussian(20), gaussian(20, seed=1)
    a, b, c = (sliced_w2(x, y, torch.Generator().manual_seed(s), 4) for s in (1, 1, 2))
    assert a == b != c


def test_exact_points_bound_the_linear_programme_alone():
    x, y = gaussian(30), gaussian(20, seed=1)
    found = distances(x, y, torch.Generator().manual_seed(0), 10)
    assert found["w2"] == exact_w2(x[:10], y[:10])
    assert found["sw2"] == sliced_w2(x, y, torch.Generator().manual_seed(0))
    assert found["w2_gaussian"] == gaussian_w2(x, y)
    assert distances(x, y, torch.Generator().manual_seed(0), 100)["w2"] == exact_w2(x[:20], y)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, n=st.integers(1, 12), m=st.integers(1, 12), d=st.integers(1, 4))
def test_sliced_w2_is_pots(seed, n, m, d):
    """Of sets of any two sizes: on a line a point's mass may go to several others."""
    x, y = gaussian(n, d, seed=seed).double(), 2 * gaussian(m, d, seed=seed + 1).double() + 1
    directions = torch.nn.functional.normalize(
        torch.randn(d, 16, generator=torch.Generator().manual_seed(0)).double(), dim=0
    )
    wanted = ot.sliced_wasserstein_distance(x, y, projections=directions, p=2)
    assert fixed_sw2(x, y) == pytest.approx(float(wanted), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, n=st.integers(2, 12), m=st.integers(2, 12), d=st.integers(1, 12))
def test_gaussian_w2_is_pots(seed, n, m, d):
    """With more or fewer points than dimensions on either side."""
    x, y = gaussian(n, d, seed=seed).double(), 2 * gaussian(m, d, seed=seed + 1).double() + 1
    of_x, of_y = ((p.mean(0), torch.cov(p.T).reshape(d, d)) for p in (x, y))
    wanted = ot.gaussian.bures_wasserstein_distance(of_x[0], of_y[0], of_x[1], of_y[1])
    assert gaussian_w2(x, y) == pytest.approx(float(wanted), rel=1e-5)


def test_gaussian_w2_of_flat_clouds_that_nearly_agree_is_not_lost_in_rounding():
    """Clouds in a plane of 300 dimensions, one 1 % larger: the map is x -> 1.01 x."""
    x = gaussian(500, 2).double() @ gaussian(2, 300, seed=1).double() + 1
    size = (torch.cov(x.T).trace() + x.mean(0).square().sum()).sqrt().item()
    assert gaussian_w2(x, 1.01 * x) == pytest.approx(0.01 * size, rel=1e-6)


def test_a_cloud_is_as_good_as_its_points():
    x, y = gaussian(30), gaussian(20, seed=1)
    kept = Cloud(y)
    for _ in range(2):
        found = distances(x, kept, torch.Generator().manual_seed(0), 10)
        assert found == distances(x, y, torch.Generator().manual_seed(0), 10)


def test_gaussian_w2_of_few_points_in_many_dimensions_is_pots():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(8, 60, generator=generator), 2 * torch.rand(10, 60, generator=generator) + 1
    moments = [m for p in (x.double(), y.double()) for m in (p.mean(0), torch.cov(p.T))]
    wanted = ot.gaussian.bures_wasserstein_distance(moments[0], moments[2], moments[1], moments[3])
    assert gaussian_w2(x, y) == pytest.approx(float(wanted), rel=1e-6)

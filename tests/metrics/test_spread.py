"""FID at infinity, its error, and what a prior has stored: closed forms, and what must not matter."""

import numpy as np
import ot as pot
import pytest
import torch
from scipy import stats

from priorbench.metrics.fid_infinity import fid_at_infinity, frechet, influence, moments
from priorbench.metrics.fidelity import fid, fidelity
from priorbench.metrics.leakage import NoiseLevel, Stored, quiet_directions
from priorbench.metrics.memorisation import authenticity, neighbour_ratio
from priorbench.metrics.neighbours import nearest_distances
from priorbench.tables import fold as table


def normal(n, d, seed, scale=1.0, shift=0.0):
    return shift + scale * torch.randn(
        n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_frechet_is_that_of_torch_fidelity_and_of_pot():
    x, y = normal(300, 12, 0) @ normal(12, 12, 1), normal(200, 12, 2, 1.3, 0.2)
    own = frechet(moments(x), moments(y))
    assert own == pytest.approx(fid(x, y), rel=1e-6)
    assert own == pytest.approx(fidelity(x, y)["fid"], rel=1e-6)
    (mx, cx), (my, cy) = moments(x), moments(y)
    assert own == pytest.approx(
        float(pot.gaussian.bures_wasserstein_distance(mx, my, cx, cy)) ** 2, rel=1e-6
    )


def test_frechet_with_features_that_never_vary():
    """A dead unit of a classifier: the rest is as if it were not there."""
    x, y = normal(300, 6, 0), normal(200, 6, 1, 1.4)
    dead = [torch.cat([s, torch.zeros(len(s), 2, dtype=s.dtype)], 1) for s in (x, y)]
    assert frechet(*map(moments, dead)) == pytest.approx(frechet(moments(x), moments(y)), abs=1e-9)
    found, with_dead = fid_at_infinity(x, y, generator()), fid_at_infinity(*dead, generator())
    assert with_dead["fid_inf_se"] == pytest.approx(found["fid_inf_se"], rel=1e-6)


def test_the_influence_is_the_derivative():
    """FID of the set with one point's weight raised by a little, against psi of that point."""
    x, y = normal(80, 3, 0) * torch.tensor([1.0, 2.0, 0.5]), normal(90, 3, 1, 1.5, 0.4)
    of_y = moments(y)

    def weighted(weights):
        weights = weights / weights.sum()
        mean = weights @ x
        centred = x - mean
        return frechet((mean, (centred * weights[:, None]).T @ centred), of_y)

    n, small = len(x), 1e-6
    mean = x.mean(0)
    psi = influence(x, (mean, (x - mean).T @ (x - mean) / n), of_y)
    for i in (0, 7, 33):
        up, down = (torch.full((n,), 1 / n, dtype=torch.float64) for _ in range(2))
        up[i] += small
        down[i] -= small
        slope = (weighted(up) - weighted(down)) / (2 * small)
        assert float(slope) == pytest.approx(float(psi[i] - psi.mean()), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_fid_at_infinity_is_unbiased_where_fid_is_not(scale):
    """d (1 - s)^2 is the FID of N(0, 1) and N(0, s^2) in d dimensions; the mean of 60 estimates
    lies by it.
    """
    d, exact = 10, 10 * (1 - scale) ** 2
    plain, infinite, errors = [], [], []
    for seed in range(60):
        x, y = normal(400, d, 2 * seed), normal(300, d, 2 * seed + 1, scale)
        found = fid_at_infinity(x, y, generator(seed))
        plain.append(frechet(moments(x), moments(y)))
        infinite.append(found["fid_inf"])
        errors.append(found["fid_inf_se"])
    spread = np.std(infinite, ddof=1) / 60**0.5
    assert abs(np.mean(infinite) - exact) < 4 * spread
    assert np.mean(plain) - exact > 4 * np.std(plain, ddof=1) / 60**0.5
    assert np.mean(errors) == pytest.approx(np.std(infinite, ddof=1), rel=0.3)


def test_the_error_over_samples_alone_is_smaller():
    x, y = normal(1000, 8, 0), normal(200, 8, 1, 1.4)
    found = fid_at_infinity(x, y, generator())
    assert 0 < found["fid_se"] < found["fid_inf_se"]


def test_nothing_is_extrapolated_from_fewer_images_than_features():
    found = fid_at_infinity(normal(30, 16, 0), normal(300, 16, 1), generator())
    assert all(np.isnan(value) for value in found.values())


def test_one_seed_has_the_interval_over_samples():
    import pandas as pd

    group = pd.DataFrame([{"fid": 3.0, "fid_se": 0.5, "fid_inf": 2.0, "fid_inf_se": 1.0}])
    half = stats.norm.ppf(0.975)
    assert table.interval(group, "fid") == pytest.approx((3, 3 - half / 2, 3 + half / 2))
    assert table.interval(group, "fid_inf") == pytest.approx((2, 2 - half, 2 + half))


def test_several_seeds_on_one_test_set_have_its_error_in_common():
    import pandas as pd

    group = pd.DataFrame(
        [{"fid_inf": v, "fid_se": 0.3, "fid_inf_se": 0.5} for v in (1.0, 1.2, 1.4)]
    )
    seeds = stats.t.ppf(0.975, 2) * stats.sem([1.0, 1.2, 1.4])
    half = (seeds**2 + (stats.norm.ppf(0.975) * 0.4) ** 2) ** 0.5
    assert table.interval(group, "fid_inf") == pytest.approx((1.2, 1.2 - half, 1.2 + half))


# --- what a prior has stored -------------------------------------------------------------------------------


SPLITS = {"train": 400, "validation": 100, "test": 150}


@pytest.fixture(scope="module")
def world():
    """Images of three splits of one law, and draws with noise at signal 0.8."""
    images = {
        s: 0.5 * normal(n, 36, i).view(-1, 1, 6, 6).float()
        for i, (s, n) in enumerate(SPLITS.items())
    }

    def noised(x, seed):
        return 0.8 * x + 0.6 * torch.randn(x.shape, generator=generator(seed))

    draws = {
        s: noised(x.repeat(-(-800 // len(x)), 1, 1, 1)[:800], 10 + i)
        for i, (s, x) in enumerate(images.items())
    }
    return (
        images,
        noised,
        Stored({s: 0.8 * x for s, x in images.items()}, draws),
        Stored(images, images),
    )


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_stored_is_told_by_its_split(world, split):
    images, noised, at_t, clean = world
    x = images[split].repeat(20, 1, 1, 1)[:800]
    for found in (at_t.judge(noised(x, 99)), clean.judge(x)):
        assert found[f"stored_{split}"] == pytest.approx(1, abs=0.25)
        assert all(found[f"stored_{s}"] < 0.3 for s in SPLITS if s != split)


def test_what_nobody_stored_is_not(world):
    _, noised, at_t, clean = world
    fresh = 0.5 * normal(800, 36, 77).view(-1, 1, 6, 6).float()
    for found in (at_t.judge(noised(fresh, 98)), clean.judge(fresh)):
        assert all(abs(found[f"stored_{s}"]) < 0.25 for s in SPLITS)
        assert found["distinct"] == 1


def test_a_blurred_law_is_not_taken_for_a_stored_one(world):
    """The mean image is nearer to every training image than they are to each other, and as near to
    every test image.
    """
    *_, clean = world
    found = clean.judge(0.05 * normal(800, 36, 78).view(-1, 1, 6, 6).float())
    assert all(abs(found[f"stored_{s}"]) < 0.3 for s in SPLITS)


def test_near_pure_noise_nothing_can_be_told(world):
    images, *_ = world
    draws = {s: torch.randn(500, 1, 6, 6, generator=generator(i)) for i, s in enumerate(SPLITS)}
    found = Stored({s: 0.01 * x for s, x in images.items()}, draws).judge(draws["train"])
    assert all(np.isnan(found[f"stored_{s}"]) for s in SPLITS)


def test_repeated_samples_are_not_distinct(world):
    images, noised, at_t, _ = world
    once = noised(images["train"][:10], 5)
    assert at_t.judge(once.repeat(30, 1, 1, 1))["distinct"] == 0
    assert at_t.judge(torch.cat([once, noised(images["train"], 6)]))["distinct"] == 1
    near = once[:1] + torch.linspace(0, 1, 5).view(-1, 1, 1, 1) * at_t.apart * torch.eye(36)[
        0
    ].view(1, 1, 6, 6)
    assert at_t.judge(near)["distinct"] == 1  # a quarter of the least distance apart
    assert at_t.judge(once[:1] + 0.3 * (near - once[:1]))["distinct"] == 0


@pytest.mark.parametrize("level", [0.8, 1.0, 1.25])
def test_the_noise_level_is_a_ratio_of_variances(level):
    """Images that vary in 27 of 36 directions only: in the others x_t is nothing but noise."""
    flat = torch.zeros(500, 36)
    flat[:, :27] = normal(500, 27, 0).float()
    draws = 0.8 * flat + 0.6 * normal(500, 36, 1).float()
    judge = NoiseLevel(quiet_directions(flat.view(-1, 1, 6, 6)), draws.view(-1, 1, 6, 6))
    found = judge.judge(
        (0.8 * flat + 0.6 * level**0.5 * normal(500, 36, 2).float()).view(-1, 1, 6, 6)
    )
    assert found["noise_xt"] == pytest.approx(level, abs=5 * found["noise_se"] * level)
    assert found["noise_se"] == pytest.approx((2 / 9 * (2 / 500)) ** 0.5)


def test_the_neighbour_ratio_of_stored_images_is_nothing():
    train, test = normal(200, 8, 0), normal(100, 8, 1)
    assert neighbour_ratio(train[:50], train, test) == pytest.approx((0, 0), abs=1e-6)
    assert neighbour_ratio(normal(50, 8, 2), test, test) == pytest.approx((1, 0))
    assert authenticity(train[:50], train) == 0


def test_nearest_distances_by_hand():
    points, among = torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0], [5.0]])
    assert nearest_distances(points, among).tolist() == pytest.approx([1, 2])

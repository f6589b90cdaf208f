"""FID at infinity and its error, against closed forms."""

import numpy as np
import ot as pot
import pytest
import torch
from helpers.draws import generator, normal

from priorbench.metrics.fid_infinity import fid_at_infinity, frechet, influence, moments
from priorbench.metrics.fidelity import fid, fidelity


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

"""``mixture``: its EM, its components, and the regressions of the rest of an image."""

import math

import numpy as np
import pytest
import torch
from helpers.fitting import blobs, draw, fitted, make
from hypothesis import given, settings
from hypothesis import strategies as st
from priorbench_mixture import Densities, GaussianMaps, fit_mixture
from priorbench_mixture.regression import SHRINKAGE, along, fit_lines
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from priorbench import FitRun, TruncatedMarginal, randn


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def some_law(count, q, seed):
    """Shares, centres and covariances of ``count`` Gaussians."""
    g = generator(seed)
    factors = randn((count, q, q), g).double()
    shares = torch.rand(count, generator=g).double() + 0.1
    return (
        shares / shares.sum(),
        3 * randn((count, q), g).double(),
        factors @ factors.mT + 0.1 * torch.eye(q),
    )


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 100))
def test_densities_are_those_of_torch(count, q, n):
    law = some_law(count, q, 0)
    y = 3 * randn((n, q), generator(1)).double()
    parts = MultivariateNormal(law[1], law[2])
    wanted = parts.log_prob(y[:, None]) + law[0].log()
    joint = Densities(law, y)
    assert torch.allclose(joint(y), wanted)
    assert torch.equal(joint.likeliest(y), wanted.argmax(1))
    whole = MixtureSameFamily(Categorical(law[0]), parts)
    assert torch.allclose(joint(y).logsumexp(1), whole.log_prob(y))


def test_em_finds_what_scikit_learn_does():
    """From the same clusters, by the same rule to stop."""
    from sklearn.mixture import GaussianMixture

    y = torch.cat([randn((300, 4), generator(k)) * (1 + k) + 3 * k for k in range(3)])
    law = fit_mixture(y, 3, 0.05, FitRun(generator()))
    seed = int(torch.randint(2**31 - 1, (), generator=generator()))
    theirs = GaussianMixture(3, reg_covar=0.05, random_state=seed).fit(y.numpy())
    assert 2 < theirs.n_iter_ < 20
    for ours, wanted in zip(
        law, (theirs.weights_, theirs.means_, theirs.covariances_), strict=True
    ):
        assert np.allclose(ours, wanted, atol=2e-3)
    found = Densities(law, y.double())(y.double()).logsumexp(1).mean()
    assert float(found) == pytest.approx(theirs.score(y.numpy()), abs=1e-4)


def test_em_has_the_moments_of_points_that_lie_apart():
    y = torch.cat([randn((200, 3), generator(1)), 50 + 2 * randn((600, 3), generator(2))])
    shares, centres, covariances = fit_mixture(y, 2, 0.01, FitRun(generator()))
    for k, part in zip(centres[:, 0].argsort(), (y[:200], y[200:]), strict=True):
        assert float(shares[k]) == pytest.approx(len(part) / 800)
        assert torch.allclose(centres[k], part.double().mean(0), atol=1e-4)
        wanted = torch.cov(part.double().T, correction=0) + 0.01 * torch.eye(3)
        assert torch.allclose(covariances[k], wanted, atol=1e-4)


def test_em_has_a_density_for_components_of_one_point():
    y = torch.eye(3)
    law = fit_mixture(y, 3, 0.0, FitRun(generator()))
    assert Densities(law, y)(y).isfinite().all()


def test_em_stops_at_the_deadline_with_a_mixture():
    law = fit_mixture(randn((90, 2), generator()), 3, 0.1, FitRun(generator(1), deadline=0.0))
    assert float(law[0].sum()) == pytest.approx(1.0)


def lines_of(n, seed, noise=0.0):
    """Points of two components whose rest is a line in each: 2 y + 1 and -y."""
    g = generator(seed)
    kinds = torch.arange(n) % 2
    y = randn((n, 1), g) + 5 * kinds[:, None]
    rest = torch.where(kinds[:, None] == 0, 2 * y + 1, -y) + noise * randn((n, 1), g)
    return y, rest, kinds


CENTRES = torch.tensor([[0.0], [5.0]])


def test_regressions_find_a_line_in_each_component():
    offsets, slopes = fit_lines(CENTRES, lines_of(4000, 0), lines_of(100, 1))
    assert torch.allclose(slopes.flatten(), torch.tensor([2.0, -1.0]), atol=1e-3)
    assert torch.allclose(offsets.flatten(), torch.tensor([1.0, -5.0]), atol=5e-3)
    y, rest, k = lines_of(50, 2)
    assert torch.allclose(along(offsets[k], slopes[k], y - CENTRES[k]), rest, atol=1e-2)


def test_regressions_are_shrunk_by_what_held_out_points_tell():
    """Six noisy points to a line are shrunk more than six exact ones."""
    slopes = {}
    for noise in (0.0, 10.0):
        y, rest, k = lines_of(12, 0, noise)
        slopes[noise] = fit_lines(CENTRES, (y, rest, k), lines_of(400, 1, noise))[1].flatten()
    n, variance = 6, y[k == 0].var(correction=0)
    ratio = 1 / (1 + min(SHRINKAGE) / n)
    assert float(slopes[0.0][0]) == pytest.approx(2 * ratio, rel=1e-3)
    covariance = ((y - y[k == 0].mean()) * rest)[k == 0].mean()
    least, most = (covariance / variance / (1 + s / n) for s in (min(SHRINKAGE), max(SHRINKAGE)))
    assert float(slopes[10.0][0]) == pytest.approx(float(most), rel=1e-3)
    assert abs(float(most)) < abs(float(least))


def test_a_component_without_images_adds_nothing():
    y, rest, k = lines_of(20, 0)
    offsets, slopes = fit_lines(torch.tensor([[0.0], [5.0], [9.0]]), (y, rest, k), None)
    assert float(offsets[2].abs() + slopes[2].abs()) == 0


def test_the_rest_of_an_image_follows_from_its_leading_coordinates(marginal):
    """Two kinds; in each, a second axis is in step with the leading one, once up and once down."""

    def images(n, seed):
        axes = torch.linalg.qr(randn((64, 3), generator(9))).Q
        kinds = (torch.arange(n) % 2 * 2 - 1)[:, None]
        a = randn((n, 1), generator(seed))
        x = torch.cat([9.0 * kinds, 3.0 * a, 0.5 * kinds * a], dim=1) @ axes.T
        return x.view(n, 1, 8, 8)

    law = TruncatedMarginal(images(400, 0), marginal.diffusion, 2, images(100, 1))
    maps = fitted("mixture", law, components=2, crowd=25, latent=2, ridge=1e-4).maps
    x = images(50, 2)
    y = maps.codes(x)
    follows = maps.images(y, maps.densities(1e-4).likeliest(y))
    assert (follows - x).abs().max() < 0.05
    alone = maps.mean + (y @ maps.basis[:, :2].T).view_as(x)
    assert (alone - x).abs().max() > 0.2


def test_the_map_of_a_component_is_that_of_bures_and_wasserstein():
    """The gradient of a convex function that takes N(0, I) to the component's law."""
    maps = GaussianMaps((1, 4, 4), 3)
    data = randn((500, 1, 4, 4), generator()) * torch.linspace(0.1, 1, 16).view(4, 4)

    class Law:
        images, validation = data, None

    maps.fit(Law(), FitRun(generator(1)), 1, 1, 0.01)
    factor = maps.factors[0].double()
    assert torch.allclose(factor, factor.T, atol=1e-6)
    assert torch.linalg.eigvalsh(factor).min() >= 0
    codes = maps.codes(data).double()
    assert torch.allclose(factor @ factor, torch.cov(codes.T, correction=0), atol=1e-4)


def two_kinds(diffusion):
    return TruncatedMarginal(blobs(400, 0), diffusion, 2, blobs(100, 1))


def test_mixture_knows_two_kinds_where_a_gaussian_does_not(marginal):
    two, share = two_kinds(marginal.diffusion), {}
    for components in (1, 2):
        prior = fitted("mixture", two, components=components, ridge=1e-4)
        x = draw(prior, 2000).mean((1, 2, 3))
        share[components] = float(((x.abs() - 0.8).abs() < 0.1).float().mean())
        assert float((x > 0).float().mean()) == pytest.approx(0.5, abs=0.05)
    assert share[2] > 0.99
    assert share[1] < 0.3


def test_mixture_has_the_law_of_mixed_gaussians_at_t(marginal):
    """Each kind's mean and covariance at x_{t_trunc}, and how often it comes."""
    images = blobs(2000, 0, spread=torch.linspace(0.1, 0.3, 64).view(8, 8))
    images = images[torch.arange(2000) % 8 < 5]  # 3 of 5 are dark
    at_20 = TruncatedMarginal(images, marginal.diffusion, 20)
    prior = fitted("mixture", at_20, components=2, ridge=1e-4, latent=64)
    x = at_20.diffuse(draw(prior, 40_000), generator(3))
    bright = x.mean((1, 2, 3)) > 0
    for kind, share in ((bright, 0.4), (~bright, 0.6)):
        assert float(kind.float().mean()) == pytest.approx(share, abs=0.01)
        ours = images[(images.mean((1, 2, 3)) > 0) == (share == 0.4)].flatten(1).double()
        covariance = at_20.alpha_bar * torch.cov(ours.T) + (1 - at_20.alpha_bar) * torch.eye(64)
        found = x[kind].flatten(1).double()
        assert (found.mean(0) - math.sqrt(at_20.alpha_bar) * ours.mean(0)).abs().max() < 0.03
        assert (torch.cov(found.T) - covariance).abs().max() < 0.04


def test_mixture_takes_one_gaussian_where_held_out_images_are_likelier_under_it(marginal):
    """Validation images between the kinds: the mixture would leave them out."""
    between = 0.1 * randn((100, 1, 8, 8), torch.Generator().manual_seed(1))
    law = TruncatedMarginal(blobs(400, 0), marginal.diffusion, 2, between)
    assert len(fitted("mixture", law, components=2, ridge=1e-4).maps.shares) == 1


def test_mixture_halves_its_components_until_held_out_images_are_likelier(marginal):
    """Twenty components of 40 images are too many, and so are ten and five; two are not."""
    lines = []
    law = TruncatedMarginal(blobs(40, 0, 0.8), marginal.diffusion, 2, blobs(100, 1, 0.8))
    prior = make("mixture", components=20, crowd=2, latent=10, ridge=1e-4)
    prior.fit(law, FitRun(torch.Generator().manual_seed(0), log=lines.append))
    assert [int(line.split()[0]) for line in lines] == [20, 10, 5, 2]
    assert len(prior.maps.shares) == 2


@pytest.mark.parametrize(("crowd", "expected"), [(1, 9), (60, 3), (100, 2), (101, 1), (500, 1)])
def test_mixture_has_no_more_components_than_crowds_of_images(crowd, expected, marginal):
    marginal.validation = None  # or one Gaussian would be likelier
    prior = fitted("mixture", marginal, components=9, crowd=crowd, latent=5)
    assert prior.maps.shares.shape == (expected,)
    assert prior.maps.factors.shape == (expected, 5, 5)


@pytest.mark.parametrize(
    ("shape", "given", "expected"),
    [
        ((1, 28, 28), 0, 32),
        ((1, 32, 32), 0, 32),
        ((3, 32, 32), 0, 100),
        ((1, 4, 4), 0, 16),
        ((3, 32, 32), 7, 7),
    ],
)
def test_how_many_coordinates_lead_depends_on_the_size_of_images(shape, given, expected):
    assert GaussianMaps(shape, given).coordinates == expected

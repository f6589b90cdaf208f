"""One suite that every prior must pass, and what is particular to each."""

import math

import ot
import pytest
import torch
from conftest import QUICK, tiny_unet
from diffusers import DDPMScheduler

from priorbench import FitRun, FrozenDiffusion, TruncatedMarginal, UserError, load_prior
from priorbench.bench.config import Choice
from priorbench.bench.plan import check_params
from priorbench.plugin_manager import load_plugins

PRIORS = sorted(load_plugins().of_kind("prior"))
EMITTING = [(name, {"emits": emits}) for name in ("ot", "vae", "gan") for emits in ("x_t", "x_0")]


def make(name, **params):
    return load_plugins().find("prior", name).load()(**(QUICK[name] | params))


def fitted(name, marginal, seed=0, **params):
    prior = make(name, **params)
    prior.fit(marginal, FitRun(torch.Generator().manual_seed(seed)))
    return prior


def draw(prior, n, seed=1):
    return prior.sample(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", PRIORS)
def test_a_saved_prior_loads_by_its_name(name, marginal, tmp_path):
    """The contract itself is in ``test_testing.py``; this is ``load_prior``."""
    prior = fitted(name, marginal)
    prior.save(tmp_path, prior=name, shape=list(marginal.shape))
    state = torch.get_rng_state()
    assert torch.equal(draw(load_prior(tmp_path, device="cpu"), 9), draw(prior, 9))
    assert torch.equal(state, torch.get_rng_state())


def test_loading_from_a_folder_without_a_prior_is_one_line(tmp_path):
    with pytest.raises(UserError, match="holds no fitted prior"):
        load_prior(tmp_path)


@pytest.mark.parametrize("name", ["ot", "vae", "gan"])
def test_the_deadline_ends_a_fit(name, marginal):
    log = []
    prior = make(name, iterations=10**6)
    prior.fit(marginal, FitRun(torch.Generator().manual_seed(0), deadline=0.0, log=log.append))
    assert "deadline reached after 0 steps" in log[0]
    assert draw(prior, 2).isfinite().all()


@pytest.mark.parametrize("shape", [(3, 9, 7), (3, 17, 21), (1, 28, 28)])
@pytest.mark.parametrize(("name", "params"), [("gaussian", {"covariance": "low_rank", "rank": 5}), *EMITTING])
def test_any_image_size_and_colour(name, params, shape):
    """Odd sizes, three channels; perceptrons below 16 pixels, convolutions above."""
    scheduler = DDPMScheduler(num_train_timesteps=50)
    even = (shape[0], shape[1] + shape[1] % 2, shape[2] + shape[2] % 2)
    diffusion = FrozenDiffusion(tiny_unet(even), scheduler, device="cpu")
    images = torch.rand(40, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    quick = {"iterations": 2, "batch_size": 8} if name != "gaussian" else {}
    prior = fitted(name, TruncatedMarginal(images, diffusion, 10), **quick, **params)
    assert prior.emits == params.get("emits", "x_t")
    assert draw(prior, 3).shape == (3, *shape)
    convolutions = any(isinstance(m, torch.nn.Conv2d) for m in prior.modules())
    assert convolutions == (name != "gaussian" and min(shape[1:]) >= 16)


@pytest.mark.parametrize("covariance", ["identity", "diagonal", "full", "low_rank"])
def test_gaussian_has_the_moments_that_it_matches(covariance, marginal):
    prior = fitted("gaussian", marginal, covariance=covariance, rank=64)
    images = marginal.images.flatten(1).double()
    target = marginal.alpha_bar * torch.cov(images.T, correction=0) + (1 - marginal.alpha_bar) * torch.eye(64)
    x = draw(prior, 60_000).flatten(1).double()
    wanted = {
        "identity": target.diagonal().mean() * torch.eye(64),
        "diagonal": target.diagonal().diag(),
    }.get(covariance, target)
    assert (x.mean(0) - math.sqrt(marginal.alpha_bar) * images.mean(0)).abs().max() < 0.02
    assert (torch.cov(x.T) - wanted).abs().max() < 0.03


def test_gaussian_at_T_is_nearly_pure_noise(tiny, marginal):
    prior = fitted("gaussian", TruncatedMarginal(marginal.images, tiny, 100))
    x = draw(prior, 20_000).flatten(1).double()
    distance = ot.gaussian.bures_wasserstein_distance(
        x.mean(0), torch.zeros(64).double(), torch.cov(x.T), torch.eye(64).double()
    )
    assert float(distance) < 0.4


@pytest.mark.parametrize(("name", "params"), [*EMITTING, ("gaussian", {})])
def test_each_prior_nears_a_gaussian_target(name, params, marginal):
    """Gaussian data: W2 to the marginal, in closed form on fitted moments, falls well below that of N(0, I)."""
    longer = {} if name == "gaussian" else {"iterations": 400, "learning_rate": 2e-3}
    prior = fitted(name, marginal, **params, **longer)
    x = draw(prior, 4000)
    if prior.emits == "x_0":
        x = marginal.diffuse(x, torch.Generator().manual_seed(3))
    y = marginal.draw(4000, torch.Generator().manual_seed(4))
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(5))

    def w2(a, b):
        a, b = a.flatten(1).double(), b.flatten(1).double()
        return float(ot.gaussian.bures_wasserstein_distance(a.mean(0), b.mean(0), torch.cov(a.T), torch.cov(b.T)))

    assert w2(x, y) < 0.45 * w2(noise, y)


@pytest.mark.parametrize("emits", ["x_t", "x_0"])
def test_ot_starts_as_the_gaussian_prior(emits, marginal):
    """With no step taken its law at x_t is the moment-matched Gaussian: it can only learn from there."""
    prior = make("ot", emits=emits)
    prior.fit(marginal, FitRun(torch.Generator().manual_seed(0), deadline=0.0))
    x = draw(prior, 40_000)
    if emits == "x_0":
        x = marginal.diffuse(x, torch.Generator().manual_seed(3))
    images = marginal.images.flatten(1).double()
    target = marginal.alpha_bar * torch.cov(images.T, correction=0) + (1 - marginal.alpha_bar) * torch.eye(64)
    assert (torch.cov(x.flatten(1).double().T) - target).abs().max() < 0.03


def test_vae_elbo_of_a_blind_encoder_is_the_gaussian_likelihood(marginal):
    """With q(z|x) = p(z) and g = 0 the bound is the negative log density of N(0, s^2 I), without its constant."""
    prior = make("vae", width=8)
    prior.build((1, 8, 8))
    for parameter in prior.parameters():
        torch.nn.init.zeros_(parameter)
    prior.generative.log_scale.data.fill_(math.log(0.5))
    x = marginal.images[:50]
    bound = prior.negative_elbo(x, 1.0, torch.Generator().manual_seed(0)).item()
    density = torch.distributions.Normal(0.0, 0.5).log_prob(x).flatten(1).sum(1).mean().item()
    assert bound == pytest.approx(-density - 32 * math.log(2 * math.pi), rel=1e-5)


def test_oracle_returns_validation_images_and_memoriser_training_images(marginal):
    for name, images in (("oracle", marginal.validation.images), ("memoriser", marginal.images)):
        x = draw(fitted(name, marginal), 2 * len(images))
        nearest = torch.cdist(x.flatten(1).double(), images.flatten(1).double()).min(1)
        assert nearest.values.max() < 1e-3
        assert (nearest.indices.bincount(minlength=len(images)) == 2).all()


def test_oracle_without_validation_images_says_so(tiny):
    with pytest.raises(ValueError, match="needs validation images"):
        fitted("oracle", TruncatedMarginal(torch.zeros(4, 1, 8, 8), tiny, 5))


@pytest.mark.parametrize(("name", "params", "message"), [
    ("ot", {"projection": 64}, "did you mean 'projections'"),
    ("ot", {"projections": 0}, "projections must be at least 1, got 0"),
    ("ot", {"projections": "many"}, "must be a whole number, got 'many'"),
    ("ot", {"slices": "pixel"}, "pixels, backbone"),
    ("gan", {"emits": "x_1"}, "emits must be x_t or x_0, got 'x_1'"),
    ("gaussian", {"covariance": "wide"}, "full, diagonal, identity or low_rank"),
    ("vae", {"beta": True}, "must be a number"),
])  # fmt: skip
def test_wrong_hyperparameters_are_one_line(name, params, message):
    with pytest.raises(UserError, match=message):
        check_params(Choice(name=name, params=params), load_plugins().find("prior", name))


def test_ot_slices_the_backbone_at_t_trunc(marginal):
    maps = make("ot", slices="pixels+backbone").sliced(marginal.images[:3], marginal)
    features = marginal.diffusion.features(marginal.images[:3], marginal.t_trunc)
    assert len(maps) == 1 + len(features) == 4
    assert all(torch.equal(a, b.flatten(1)) for a, b in zip(maps[1:], features, strict=True))

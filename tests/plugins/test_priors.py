"""One suite that every prior must pass, and what is particular to each."""

import math
import time

import ot
import pytest
import torch
from diffusers import DDPMScheduler
from helpers.fitting import blobs, draw, fitted, make
from helpers.models import tiny_unet

from priorbench import FitRun, FrozenDiffusion, TruncatedMarginal, UserError, load_prior, randn
from priorbench.plan.choice import Choice
from priorbench.plan.mistakes import check_params
from priorbench.plugin_manager import load_plugins
from priorbench.prior import reloaded

PRIORS = sorted(load_plugins().of_kind("prior"))


EMITTING = [(name, {"emits": emits}) for name in ("sinf", "vae", "gan") for emits in ("x_t", "x_0")]
EMITTING += [("ot", {}), ("mixture", {})]  # clean images alone

CLOSED = ("gaussian", "mixture", "sinf")  # no network


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
    assert any("deadline reached after 0 steps" in line for line in log)
    assert draw(prior, 2).isfinite().all()


@pytest.mark.parametrize("shape", [(3, 9, 7), (1, 28, 28), (1, 33, 32)])
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("gaussian", {"covariance": "low_rank", "rank": 5}),
        *(pytest.param(*k, marks=pytest.mark.slow) if k[0] == "sinf" else k for k in EMITTING),
    ],
)
def test_any_image_size_and_colour(name, params, shape):
    """Odd sizes, three channels; perceptrons below 32 pixels, convolutions above."""
    scheduler = DDPMScheduler(num_train_timesteps=50)
    even = (shape[0], shape[1] + shape[1] % 2, shape[2] + shape[2] % 2)
    diffusion = FrozenDiffusion(tiny_unet(even), scheduler, device="cpu")
    images = torch.rand(40, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    quick = {} if name in CLOSED else {"iterations": 2, "batch_size": 8}
    if name == "sinf":
        quick = {"iterations": 2, "particles": 100, "directions": 4}
    prior = fitted(name, TruncatedMarginal(images, diffusion, 10), **quick, **params)
    assert prior.emits == params.get("emits", "x_0" if name in ("ot", "mixture") else "x_t")
    assert draw(prior, 3).shape == (3, *shape)
    convolutions = any(isinstance(m, torch.nn.Conv2d) for m in prior.modules())
    assert convolutions == (name not in CLOSED and min(shape[1:]) >= 32)


@pytest.mark.parametrize("covariance", ["identity", "diagonal", "full", "low_rank"])
def test_gaussian_has_the_moments_that_it_matches(covariance, marginal):
    prior = fitted("gaussian", marginal, covariance=covariance, rank=64)
    images = marginal.images.flatten(1).double()
    target = marginal.alpha_bar * torch.cov(images.T, correction=0) + (
        1 - marginal.alpha_bar
    ) * torch.eye(64)
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


@pytest.mark.slow
@pytest.mark.parametrize(("name", "params"), [*EMITTING, ("gaussian", {})])
def test_each_prior_nears_a_gaussian_target(name, params, marginal):
    """Gaussian data: W2 to the marginal, in closed form on fitted moments, falls well below that of
    N(0, I).
    """
    longer = {} if name in CLOSED else {"iterations": 400, "learning_rate": 2e-3}
    prior = fitted(name, marginal, **params, **longer)
    x = at_t(prior, 4000, marginal)
    y = marginal.draw(4000, torch.Generator().manual_seed(4))
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(5))

    def w2(a, b):
        a, b = a.flatten(1).double(), b.flatten(1).double()
        return float(
            ot.gaussian.bures_wasserstein_distance(
                a.mean(0), b.mean(0), torch.cov(a.T), torch.cov(b.T)
            )
        )

    assert w2(x, y) < 0.45 * w2(noise, y)


def at_t(prior, n, marginal):
    """``n`` draws of x_{t_trunc}, whatever the prior emits."""
    x = draw(prior, n)
    return x if prior.emits == "x_t" else marginal.diffuse(x, torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("name", "params"), [
    ("mixture", {"components": 1, "latent": 64}),
    ("sinf", {"iterations": 0, "emits": "x_t"}),
    ("sinf", {"iterations": 0, "emits": "x_0"}),
])  # fmt: skip
def test_one_component_is_the_gaussian_prior(name, params, marginal):
    """The law at x_t is the moment-matched Gaussian, where all coordinates are leading ones."""
    prior = fitted(name, marginal, **params)
    x = at_t(prior, 40_000, marginal)
    images = marginal.images.flatten(1).double()
    target = marginal.alpha_bar * torch.cov(images.T, correction=0) + (
        1 - marginal.alpha_bar
    ) * torch.eye(64)
    assert (torch.cov(x.flatten(1).double().T) - target).abs().max() < 0.03


def test_vae_elbo_of_a_blind_encoder_is_the_gaussian_likelihood(marginal):
    """With q(z|x) = p(z) and g = 0 the bound is the negative log density of N(0, s^2 I), without
    its constant.
    """
    prior = make("vae", width=8)
    prior.build((1, 8, 8))
    for parameter in prior.parameters():
        torch.nn.init.zeros_(parameter)
    prior.log_scale.data.fill_(math.log(0.5))
    x = marginal.images[:50]
    bound = prior.negative_elbo(x, 1.0, torch.Generator().manual_seed(0)).item()
    density = torch.distributions.Normal(0.0, 0.5).log_prob(x).flatten(1).sum(1).mean().item()
    assert bound == pytest.approx(-density - 32 * math.log(2 * math.pi), rel=1e-5)


def two_dimensional(n, seed):
    """Images of a Gaussian with two principal directions of unequal variance, and its mean."""
    directions = torch.linalg.qr(randn((64, 2), torch.Generator().manual_seed(0))).Q
    z = randn((n, 2), torch.Generator().manual_seed(seed)) * torch.tensor([2.0, 0.7])
    return (0.1 + z @ directions.T).view(n, 1, 8, 8)


@pytest.mark.parametrize("emits", ["x_t", "x_0"])
def test_vae_with_a_density_knows_the_moments_of_a_gaussian_better(emits, marginal):
    data = TruncatedMarginal(two_dimensional(1000, 1), marginal.diffusion, 2)
    target = (data.draw if emits == "x_t" else data.draw_clean)(1000, torch.Generator())
    target = target.flatten(1).double()
    away = {}
    for density in ("normal", "gaussian", "mixture"):
        # A small weight of the divergence leaves codes that are far from N(0, I).
        prior = fitted("vae", data, emits=emits, density=density, beta=0.1, iterations=150)
        x = draw(prior, 4000).flatten(1).double()
        away[density] = float(
            ot.gaussian.bures_wasserstein_distance(
                x.mean(0), target.mean(0), torch.cov(x.T), torch.cov(target.T)
            )
        )
    assert away["gaussian"] < away["normal"]
    assert away["mixture"] < away["normal"]


def test_a_density_of_two_kinds_of_codes_draws_both_and_nothing_between():
    from priorbench_vae.density import Density

    g = torch.Generator().manual_seed(0)
    codes = randn((2000, 3), g) * 0.1 + torch.where(torch.arange(2000) % 4 == 0, 2.0, -2.0)[:, None]
    density = Density(3)
    density.standard()
    assert float(density(5000, g).std()) == pytest.approx(1, abs=0.03)
    density.fit(codes, 2, FitRun(g))
    z = density(5000, g)
    assert float((z[:, 0] > 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert float((z.abs() - 2).abs().max()) < 0.6


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_a_budget_of_seconds_counts_all_of_fit(name, marginal):
    """The density of ``vae`` is fitted within it too."""
    prior, run = make(name), FitRun(torch.Generator().manual_seed(0))
    prior.fit(marginal, run)  # what is imported is imported
    started = time.monotonic()
    run = FitRun(torch.Generator().manual_seed(0), deadline=started + 1.5)
    prior.fit(marginal, run)
    assert 1.0 < time.monotonic() - started < 2.0
    assert run.taken > 10
    if name == "vae":
        assert len(prior.law.shares) > 1


@pytest.mark.parametrize("emits", ["x_t", "x_0"])
@pytest.mark.parametrize("name", ["vae", "gan"])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_starved_fit_makes_finite_samples(name, emits, steps, marginal):
    prior = make(name, emits=emits, learning_rate=0.1)
    prior.fit(marginal, FitRun(torch.Generator().manual_seed(0), budget=steps))
    assert draw(prior, 100).isfinite().all()


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
    ("ot", {"widths": 64}, "did you mean 'width'"),
    ("ot", {"width": 1}, "params.width: must be at least 2, got 1"),
    ("ot", {"latent": -1}, "params.latent: must be at least 0, got -1"),
    ("ot", {"components": 0}, "params.components: must be at least 1, got 0"),
    ("ot", {"flow_steps": -1}, "params.flow_steps: must be at least 0, got -1"),
    ("ot", {"width": "many"}, "must be a whole number, got 'many'"),
    ("ot", {"ridge": -1.0}, "ridge: must be at least 0"),
    ("sinf", {"emits": "x_1"}, "params.emits: must be x_t or x_0, got 'x_1'"),
    ("mixture", {"ridge": -1.0}, "ridge: must be at least 0"),
    ("mixture", {"crowd": 0}, "crowd: must be at least 1, got 0"),
    ("mixture", {"emits": "x_t"}, "has no parameter 'emits'"),
    ("gan", {"emits": "x_1"}, "params.emits: must be x_t or x_0, got 'x_1'"),
    ("gaussian", {"covariance": "wide"}, "full, diagonal, identity or low_rank"),
    ("vae", {"beta": True}, "must be a number"),
    ("vae", {"density": "flow"}, "params.density: must be normal, gaussian or mixture, got 'flow'"),
    ("vae", {"components": 0}, "params.components: must be at least 1, got 0"),
    ("vae", {"warmup": 1.5}, "params.warmup: must be between 0 and 1, got 1.5"),
    ("vae", {"width": 0}, "params.width: must be at least 1, got 0"),
    ("gan", {"ema": -0.1}, "params.ema: must be between 0 and 1, got -0.1"),
    ("gan", {"penalty": float("nan")}, "params.penalty: must be finite, got nan"),
    ("ot", {"learning_rate": float("inf")}, "params.learning_rate: must be finite, got inf"),
    ("distil", {"solver": "dpm++sde"}, "params.solver: must be ddim, dpm\\+\\+ or unipc"),
    ("noise", {"timesteps": "even"}, "timesteps: must be uniform, quadratic or tuned"),
])  # fmt: skip
def test_wrong_hyperparameters_are_one_line(name, params, message):
    with pytest.raises(UserError, match=message):
        check_params(Choice(name=name, params=params), load_plugins().find("prior", name))


@pytest.mark.parametrize(
    ("shape", "side"), [((1, 8, 8), 8), ((1, 8, 8), 4), ((3, 9, 7), 3), ((3, 9, 7), 7)]
)
def test_patches_go_back_where_they_came_from(shape, side):
    from priorbench_ot.sinf import _patches, _unpatched

    x, corner = randn((5, *shape), torch.Generator().manual_seed(0)), torch.tensor([2, 5])
    patches = _patches(x, side, corner)
    assert patches.shape == ((shape[1] // side) * (shape[2] // side), 5, shape[0] * side**2)
    assert torch.equal(_unpatched(x, patches, side, corner), x)
    changed = _unpatched(x, torch.zeros_like(patches), side, corner) == 0
    assert int(changed.sum()) == patches.numel()


def test_sinf_without_layers_is_gaussian_and_with_them_knows_two_kinds(marginal):
    two = TruncatedMarginal(
        blobs(400, 0, spread=0.3), marginal.diffusion, 2, blobs(100, 1, spread=0.3)
    )
    share = {}
    for iterations in (0, 8):
        prior = make("sinf", emits="x_0", iterations=iterations, particles=500)
        prior.fit(two, FitRun(torch.Generator().manual_seed(0)))
        x = draw(prior, 2000).mean((1, 2, 3))
        share[iterations] = float(((x.abs() - 0.8).abs() < 0.2).float().mean())
    assert share[0] < 0.5
    assert share[8] > 0.9


def test_sinf_along_one_direction_is_the_optimal_map_on_a_line():
    """One pixel: a layer is the monotone rearrangement, and one is enough."""
    from priorbench_ot.sinf import SINFPrior

    prior = SINFPrior(knots=200)
    prior.build((1, 1, 1))
    g = torch.Generator().manual_seed(0)
    x, data = randn((5000, 1, 1, 1), g), 0.3 + 0.2 * randn((5000, 1, 1, 1), g).exp()
    layer = prior._layer(x, data, 1, g)
    moved = prior._through(x, 1, *layer)
    order = x.flatten().argsort()
    assert bool((moved.flatten()[order].diff() >= -1e-6).all())
    away = (moved.flatten().sort().values - data.flatten().sort().values).abs()
    assert float(away[50:-100].max()) < 0.05


LARGE = (3, 20, 20)  # 1,200 numbers: above them, not all axes are kept


@pytest.fixture(scope="module")
def large():
    """Large images of a Gaussian law: its variances fall as those of images do, to nothing."""
    g = torch.Generator().manual_seed(0)
    d = math.prod(LARGE)
    axes = torch.linalg.qr(randn((d, d), g)).Q
    deviations = 2.0 / (1 + torch.arange(d)) ** 0.5
    deviations[400:] = 1e-3
    images = (randn((3000, d), g) * deviations @ axes.T).view(-1, *LARGE)
    diffusion = FrozenDiffusion(tiny_unet(LARGE), DDPMScheduler(100), device="cpu")
    return TruncatedMarginal(images, diffusion, 20)


@pytest.mark.parametrize(("name", "params"), [
    ("gaussian", {}),
    ("sinf", {"iterations": 0, "emits": "x_t"}),
    ("sinf", {"iterations": 0, "emits": "x_0"}),
])  # fmt: skip
def test_large_images_have_their_covariance_from_fewer_axes(name, params, large):
    """Exactly, from the tensors themselves; and the draws have it, as nearly as 20,000 can."""
    prior = fitted(name, large, **params)
    kept = sum(x.nbytes for x in prior.state_dict().values())
    d = math.prod(LARGE)
    assert kept < 0.4 * 4 * d * d / 2  # 400 of 1,200 axes, in half precision
    x = large.images.flatten(1).double()
    signal, noise = large.alpha_bar, 1 - large.alpha_bar
    wanted = signal * torch.cov(x.T, correction=0) + noise * torch.eye(d, dtype=torch.double)
    drawn = at_t(prior, 20_000, large).flatten(1).double()
    if name == "gaussian":
        factor, rest = prior.factor.double(), prior.deviation.double().square()
        assert (factor @ factor.T + rest.diag() - wanted).abs().max() < 2e-3
    leading = torch.linalg.eigh(wanted).eigenvectors.flip(1)[:, [0, 1, 10, 100, 300, 500, 1100]]
    ratio = (drawn @ leading).var(0) / (leading * (wanted @ leading)).sum(0)
    assert (ratio - 1).abs().max() < 0.05  # a variance of 20,000 draws is that near


def test_a_large_prior_comes_back_from_its_weights(large):
    prior = fitted("mixture", large, components=2)
    again = reloaded(make("mixture", components=2), LARGE, prior.state_dict())
    again.fitted.fill_(True)
    assert torch.equal(draw(again, 5), draw(prior, 5))

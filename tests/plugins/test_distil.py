"""``distil``: its closed form, its single step, and what it learns, against the chain itself."""

import pytest
import torch
from diffusers import DDPMScheduler
from helpers.gaussian_world import GaussianWorld
from helpers.models import QUICK, tiny_unet
from priorbench_distil.gaussian_flow import GaussianFlow
from priorbench_distil.prior import DistilPrior
from priorbench_distil.student import describe, one_step, rebuild

from priorbench import FitRun, FrozenDiffusion, TruncatedMarginal, load_prior
from priorbench.data.dataset import to_float
from priorbench.data.digits import load
from priorbench.prior import HasLatents


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def noise(n, shape=(1, 8, 8), seed=0):
    return torch.randn(n, *shape, generator=seeded(seed))


def world(kind="epsilon", T=100, **unet):
    scheduler = DDPMScheduler(num_train_timesteps=T, prediction_type=kind, clip_sample=False)
    return FrozenDiffusion(tiny_unet((1, 8, 8), **unet), scheduler, device="cpu")


def fitted(marginal, seed=0, **params):
    prior = DistilPrior(**(QUICK["distil"] | params))
    prior.fit(marginal, FitRun(seeded(seed)))
    return prior


def flow_of(images):
    flow = GaussianFlow(tuple(images.shape[1:]))
    flow.fit(images)
    return flow


# --- the closed form ------------------------------------------------------------------------------


@pytest.mark.parametrize(("t", "down_to"), [(1000, 300), (1000, 50), (600, 200)])
def test_the_closed_form_is_the_chain_where_data_are_gaussian(t, down_to):
    """The chain of the optimal denoiser, in many steps of a solver without noise."""
    made = GaussianWorld()
    flow, x = flow_of(made.draw_clean(100_000)).double(), made.draw(64, t)
    alpha_bar = made.diffusion.process.alpha_bar
    found = flow(x, alpha_bar[t], alpha_bar[down_to])
    wanted = made.diffusion.carry(x, t, down_to, "ddim", t - down_to)
    assert (found - wanted).square().mean().sqrt() < 0.02 * wanted.std()


def test_the_closed_form_takes_one_marginal_to_the_other():
    made = GaussianWorld()
    flow = flow_of(made.draw_clean(100_000)).double()
    alpha_bar = made.diffusion.process.alpha_bar
    x = flow(made.draw(50_000, 1000), alpha_bar[1000], alpha_bar[100])
    wanted = made.draw(50_000, 100, seed=1)
    assert torch.allclose(x.mean(0), wanted.mean(0), atol=0.02)
    assert torch.allclose(x.std(0), wanted.std(0), rtol=0.03)


def test_the_closed_form_there_and_back_is_nothing():
    flow, x = flow_of(noise(500, seed=1).cumsum(3)), noise(20)
    a, b = torch.tensor(0.01), torch.tensor(0.9)
    assert torch.allclose(flow(flow(x, a, b), b, a), x, atol=1e-4)


def test_of_large_images_axes_that_nobody_sees_are_left_out():
    """400 images of 3x20x20 numbers, of which 30 vary: on these the closed form is the same."""
    basis = torch.linalg.qr(torch.randn(1200, 30, generator=seeded(0)))[0]
    images = (torch.randn(400, 30, generator=seeded(1)) @ basis.T).view(400, 3, 20, 20)
    flow = flow_of(images)
    assert flow.axes.shape == (1200, 30)
    assert flow.axes.dtype == torch.float16
    whole = torch.linalg.eigh(torch.cov(images.flatten(1).T, correction=0).double())
    a, b = torch.tensor(0.1).double(), torch.tensor(0.8).double()
    growth = ((b * whole[0].clamp(min=0) + 1 - b) / (a * whole[0].clamp(min=0) + 1 - a)).sqrt()
    x, mean = noise(10, (3, 20, 20)).flatten(1).double(), images.flatten(1).mean(0).double()
    wanted = b.sqrt() * mean + ((x - a.sqrt() * mean) @ whole[1] * growth) @ whole[1].T
    found = flow(x.float().view(10, 3, 20, 20), a.float(), b.float()).flatten(1)
    assert torch.allclose(found, wanted.float(), atol=5e-3)


# --- the student ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_its_step_is_that_of_ddim(kind):
    frozen, x = world(kind), noise(5)
    alpha_bar = frozen.process.alpha_bar
    output = frozen.predict(x, 79)
    found = one_step(output, kind, x, alpha_bar[80], alpha_bar[30])
    assert torch.allclose(found.float(), frozen.carry(x, 80, 30, "ddim", 1), atol=1e-4)


def test_a_learned_variance_is_dropped():
    frozen, x = world(out_channels=2), noise(5)
    a, b = frozen.process.alpha_bar[[80, 30]]
    found = one_step(frozen.predict(x, 79), "epsilon", x, a, b)
    assert torch.allclose(found.float(), frozen.carry(x, 80, 30, "ddim", 1), atol=1e-4)


def test_a_network_is_rebuilt_from_its_description_without_touching_the_random_state():
    network, state = tiny_unet((1, 8, 8)), torch.get_rng_state()
    made, kind = rebuild(describe(network, "v_prediction"))
    assert kind == "v_prediction"
    assert torch.equal(state, torch.get_rng_state())
    made.load_state_dict(network.state_dict())
    x = noise(3)
    assert torch.equal(made(x, 5).sample, network.eval()(x, 5).sample)


def test_a_network_that_is_none_of_diffusers_is_refused():
    made = GaussianWorld()
    marginal = TruncatedMarginal(made.draw_clean(50).float(), made.diffusion, 200)
    with pytest.raises(ValueError, match="GaussianDenoiser is none"):
        fitted(marginal)


# --- the prior ------------------------------------------------------------------------------------


@pytest.mark.parametrize("t_trunc", [1, 40, 99, 100])
def test_any_t_trunc(marginal, tiny, t_trunc):
    """From next to nothing to the whole chain, where x_T = z and there is nothing to learn."""
    prior = fitted(TruncatedMarginal(marginal.images, tiny, t_trunc))
    assert prior.sample(6, seeded(1)).isfinite().all()
    if t_trunc == 100:
        z = noise(6)
        assert torch.allclose(prior.from_latents(z), z, atol=1e-4)


def test_a_budget_without_time_leaves_a_step_of_the_frozen_network(marginal):
    prior = DistilPrior()
    prior.fit(marginal, FitRun(seeded(0), deadline=0.0))
    frozen = marginal.diffusion.network.state_dict()
    assert all(torch.equal(v, frozen[k]) for k, v in prior.network.state_dict().items())
    assert prior.sample(3, seeded(0)).isfinite().all()


@pytest.mark.slow
def test_it_comes_nearer_to_the_chain_and_leaves_the_frozen_model_alone(tmp_path):
    data, frozen = load(), FrozenDiffusion.from_pretrained("digits", device="cpu")
    marginal = TruncatedMarginal(to_float(data.train), frozen, 200)
    before = frozen.digest()
    prior = DistilPrior(iterations=12, steps=8)
    z = noise(100, seed=7)
    wanted = frozen.carry(z, 1000, 200, "dpm++", 8)
    flow, alpha_bar = flow_of(marginal.images), frozen.process.alpha_bar.float()
    closed = (flow(z, alpha_bar[1000], alpha_bar[200]) - wanted).square().mean()
    errors = []
    for deadline in (0.0, None):
        prior.fit(marginal, FitRun(seeded(0), deadline))
        with torch.no_grad():
            errors.append((prior.from_latents(z) - wanted).square().mean())
    untrained, trained = errors
    assert isinstance(prior, HasLatents)
    assert 200 < int(prior.start) + 1 < 1000
    assert trained < 0.7 * untrained
    assert trained < 0.3 * closed
    assert frozen.digest() == before
    prior.save(tmp_path, prior="distil", shape=[1, 8, 8])
    assert torch.equal(load_prior(tmp_path, "cpu").sample(9, seeded(1)), prior.sample(9, seeded(1)))

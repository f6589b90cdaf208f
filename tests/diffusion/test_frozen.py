"""The frozen model: loaded from any unconditional pipeline folder, counted, read, never changed."""

import json
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler
from helpers.models import tiny_unet

from priorbench import CleanGuess, FrozenDiffusion, TruncatedMarginal, UserError
from priorbench.assets import folder as shipped
from priorbench.diffusion.frozen import resolve_device
from priorbench.diffusion.training import target


@pytest.mark.parametrize("settings", [
    {"prediction_type": "epsilon"},
    {"prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 500},
    {"prediction_type": "v_prediction", "clip_sample": False, "num_train_timesteps": 50},
    {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
])  # fmt: skip
def test_a_saved_pipeline_loads_as_it_says(pipeline, settings):
    folder, state = pipeline((3, 16, 16), **settings), torch.get_rng_state()
    diffusion = FrozenDiffusion.from_pretrained(folder, device="cpu")
    assert torch.equal(state, torch.get_rng_state())
    scheduler = DDPMScheduler(**settings)
    assert diffusion.shape == (3, 16, 16)
    assert scheduler.config.num_train_timesteps == diffusion.T
    assert torch.allclose(diffusion.process.alpha_bar[1:].float(), scheduler.alphas_cumprod)
    for solver in ("ddpm", "ddim", "dpm++", "dpm++sde", "unipc"):
        x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        x_0 = diffusion.denoise(x, diffusion.T, solver, 3)
        assert x_0.isfinite().all()
        if diffusion.config["clip_sample"]:
            assert x_0.abs().max() <= 1 + 1e-5


def test_weights_that_would_be_unpickled_are_refused(pipeline):
    path = pipeline()
    weights = path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(UserError, match="can be loaded"):
        FrozenDiffusion.from_pretrained(path)


def test_a_folder_that_is_no_pipeline_is_one_line(tmp_path):
    with pytest.raises(UserError, match="is not a diffusers pipeline") as caught:
        FrozenDiffusion.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "megabytes", "shape"),
    [("digits", 3, (1, 8, 8)), ("mnist", 6, (1, 28, 28)), ("cifar10-small", 8, (3, 32, 32))],
)
def test_a_shipped_backbone_is_small_and_has_its_card(name, megabytes, shape):
    path = shipped(f"{name}/backbone")
    assert sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) <= megabytes * 10**6
    assert "priorbench backbone train" in (path / "README.md").read_text()
    training = json.loads((path / "training.json").read_text())
    diffusion = FrozenDiffusion.from_pretrained(name, device="cpu")
    assert training["parameters"] == sum(p.numel() for p in diffusion.network.parameters())
    assert diffusion.shape == shape
    assert {p.dtype for p in diffusion.network.parameters()} == {torch.float32}


def test_everything_that_a_run_does_leaves_every_weight_as_it_was(tiny, marginal):
    before = {k: v.clone() for k, v in tiny.network.state_dict().items()}
    x = marginal.draw(4, torch.Generator().manual_seed(0)).requires_grad_()
    sum(f.square().sum() for f in tiny.features(x, 20)).backward()
    tiny.denoise(x.detach(), 20, "ddpm", 5)
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    after = tiny.network.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(p.grad is None and not p.requires_grad for p in tiny.network.parameters())
    assert not tiny.network.training


def test_features_are_what_the_blocks_make_and_cost_no_up_blocks(tiny):
    called = []
    handle = tiny.network.up_blocks[0].register_forward_hook(lambda *_: called.append(1))
    shapes = [tuple(f.shape) for f in tiny.features(torch.zeros(2, 1, 8, 8), 1)]
    handle.remove()
    assert shapes == [(2, 8, 4, 4), (2, 16, 4, 4), (2, 16, 4, 4)]
    assert not called


def test_features_are_read_at_the_networks_index_of_t(tiny):
    seen = []
    handle = tiny.network.register_forward_pre_hook(
        lambda module, args: seen.append(args[1].tolist())
    )
    tiny.features(torch.zeros(2, 1, 8, 8), 20)
    handle.remove()
    assert seen == [[19, 19]]


def test_a_digest_tells_models_apart(tiny):
    same = FrozenDiffusion(tiny_unet((1, 8, 8)), DDPMScheduler(**tiny_scheduler()), device="cpu")
    assert same.digest() == tiny.digest()
    with torch.no_grad():
        next(same.network.parameters()).view(-1)[0] += 1e-6
    assert same.digest() != tiny.digest()
    other = FrozenDiffusion(
        tiny_unet((1, 8, 8)), DDPMScheduler(num_train_timesteps=101), device="cpu"
    )
    assert other.digest() != tiny.digest()


def tiny_scheduler():
    return {"num_train_timesteps": 100, "beta_start": 1e-3, "beta_end": 0.2}


def test_a_learned_variance_is_used_by_ddpm_and_dropped_by_others():
    network = tiny_unet((1, 8, 8), out_channels=2)
    scheduler = DDPMScheduler(
        num_train_timesteps=20, variance_type="learned_range", clip_sample=False
    )
    diffusion = FrozenDiffusion(network, scheduler, device="cpu")
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for solver in ("ddpm", "ddim", "dpm++", "unipc"):
        assert diffusion.denoise(x, 20, solver, 4).isfinite().all()
    plain = FrozenDiffusion(
        SliceOf(network), DDIMScheduler(num_train_timesteps=20, clip_sample=False), device="cpu"
    )
    assert torch.allclose(
        diffusion.denoise(x, 20, "ddim", 4), plain.denoise(x, 20, "ddim", 4), atol=1e-5
    )


@pytest.mark.parametrize(
    "scheduler", [DDPMScheduler, DDIMScheduler, EulerDiscreteScheduler, UniPCMultistepScheduler]
)
@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_a_model_whose_prediction_at_T_says_nothing_is_warned_of(scheduler, kind):
    """alpha_bar_T is 0 whatever the scheduler makes of it for its own use (Euler's kind 2^-24,
    above alpha_bar_999).
    """
    scheduler = scheduler(prediction_type=kind, rescale_betas_zero_snr=True)
    diffusion = FrozenDiffusion(tiny_unet((1, 8, 8)), scheduler, device="cpu")
    assert diffusion.process.alpha_bar[diffusion.T] == 0
    if kind == "epsilon":
        assert "alpha_bar_T is 0 and the model predicts epsilon" in diffusion.warning
        assert diffusion.describe()["warning"] == diffusion.warning
    else:
        assert diffusion.warning == ""
        assert "warning" not in diffusion.describe()


def test_no_other_model_is_warned_of(tiny):
    assert tiny.warning == ""
    assert "warning" not in tiny.describe()
    cosine = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    assert FrozenDiffusion(tiny_unet((1, 8, 8)), cosine, device="cpu").warning == ""


class SliceOf(torch.nn.Module):
    """The mean alone of a network that predicts mean and variance."""

    def __init__(self, network):
        super().__init__()
        self.network, self.config = network, network.config

    def forward(self, x, t):
        return SimpleNamespace(sample=self.network(x, t).sample[:, :1])


@pytest.mark.parametrize("t", [0, 101, 3.5])
def test_t_trunc_outside_the_chain_is_refused(tiny, t):
    with pytest.raises(UserError, match="t_trunc must be a whole number from 1 to T = 100"):
        tiny.denoise(torch.zeros(1, 1, 8, 8), t)
    with pytest.raises(UserError, match="t_trunc must be a whole number from 1 to T = 100"):
        TruncatedMarginal(torch.zeros(2, 1, 8, 8), tiny, t)


def test_a_device_that_is_not_there_is_one_line():
    with pytest.raises(UserError, match="device 'quantum' cannot be used"):
        resolve_device("quantum")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps", "xpu")


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_the_training_target_is_diffusers(kind):
    """x_t and the target against DDPMScheduler's own add_noise and get_velocity."""
    scheduler = DDPMScheduler(num_train_timesteps=100)
    diffusion = FrozenDiffusion(tiny_unet((1, 8, 8)), scheduler, device="cpu")
    generator = torch.Generator().manual_seed(0)
    x_0, noise = torch.randn(2, 5, 1, 8, 8, generator=generator)
    t = torch.tensor([1, 2, 50, 99, 100])
    a = diffusion.process.alpha_bar[t].float().view(-1, 1, 1, 1)
    x_t, wanted = target(kind, x_0, noise, a.sqrt(), (1 - a).sqrt())
    assert torch.allclose(x_t, scheduler.add_noise(x_0, noise, t - 1), atol=1e-5)
    theirs = {
        "epsilon": noise,
        "sample": x_0,
        "v_prediction": scheduler.get_velocity(x_0, noise, t - 1),
    }[kind]
    assert torch.allclose(wanted, theirs, atol=1e-5)


def test_draws_of_the_marginal_are_its_law(tiny):
    images = torch.tensor([-0.5, 0.5]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    marginal = TruncatedMarginal(images, tiny, 30)
    x = marginal.draw(4000, torch.Generator().manual_seed(0))
    assert x.square().mean().item() == pytest.approx(
        marginal.alpha_bar * 0.25 + 1 - marginal.alpha_bar, rel=0.01
    )
    clean = marginal.draw_clean(5, torch.Generator().manual_seed(0))
    assert sorted(clean[:, 0, 0, 0].sign().tolist()).count(1.0) in (2, 3)  # each equally often
    assert marginal.draw_clean(0, torch.Generator()).shape == (0, 1, 8, 8)


@pytest.mark.parametrize("solver", ["dpm++", "EulerDiscreteScheduler", "ddpm"])
def test_a_trajectory_ends_where_denoising_does(tiny, solver):
    x_t = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    seen = tiny.trajectory(x_t, 80, solver, 10, torch.Generator().manual_seed(1))
    wanted = tiny.denoise(x_t, 80, solver, 10, torch.Generator().manual_seed(1))
    assert torch.equal(seen[0], wanted)
    assert sorted(seen) == [0, 16, 40, 64, 80]
    assert torch.equal(seen[80], x_t)


def test_a_trajectory_shows_x_t_whatever_units_the_solver_keeps_it_in():
    """Euler's steps in x / sqrt(alpha_bar) are those of DDIM where nothing is clipped."""
    scheduler = DDPMScheduler(
        num_train_timesteps=100, beta_start=1e-3, beta_end=0.05, clip_sample=False
    )
    diffusion = FrozenDiffusion(tiny_unet((1, 8, 8)), scheduler, device="cpu")
    x_t = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    ddim, euler = (
        diffusion.trajectory(x_t, 80, solver, 5, torch.Generator().manual_seed(1))
        for solver in ("ddim", "EulerDiscreteScheduler")
    )
    assert sorted(ddim) == [0, 16, 32, 64, 80]
    for t in ddim:
        assert torch.allclose(ddim[t], euler[t], atol=1e-3 * float(ddim[t].abs().max())), t


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_short_chain_has_fewer_moments(tiny, steps):
    x_t = torch.zeros(2, 1, 8, 8)
    assert (
        len(tiny.trajectory(x_t, 50, "dpm++", steps, torch.Generator().manual_seed(0))) == steps + 1
    )


def test_carrying_part_of_the_way_and_denoising_the_rest_is_denoising(tiny):
    """DDIM remembers no step, so a chain may be cut anywhere."""
    x_t = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    before = tiny.evaluations
    x_40 = tiny.carry(x_t, 100, 40, "ddim", 3)
    assert tiny.evaluations - before == 3
    rest = tiny.denoise(x_40, 40, "ddim", times=[20, 40])
    assert torch.allclose(rest, tiny.denoise(x_t, 100, "ddim", times=[20, 40, 60, 80, 100]))


@pytest.mark.parametrize("solver", ["dpm++", "EulerDiscreteScheduler", "KDPM2DiscreteScheduler"])
def test_carrying_stops_where_the_trajectory_of_the_same_chain_is(tiny, solver):
    x_t = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    chain = tiny.trajectory(
        x_t, 100, solver, None, torch.Generator(), between=1, times=[40, 60, 80, 100]
    )
    (t,) = sorted(chain)[1:-1]
    steps = [40, 60, 80, 100].index(100) - [40, 60, 80, 100].index(t)
    found = tiny.carry(x_t, 100, t, solver, steps)
    assert torch.allclose(found, chain[t], atol=1e-5 * float(chain[t].abs().max()))


def test_carrying_down_to_0_is_denoising(tiny):
    x_t = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tiny.carry(x_t, 80, 0, "dpm++", 4), tiny.denoise(x_t, 80, "dpm++", 4))


@pytest.mark.parametrize(("t", "down_to", "steps"), [
    (40, 40, 1), (40, 60, 1), (40, -1, 1), (101, 40, 1), (40, 30, 11), (40, 30, 0),
])  # fmt: skip
def test_where_nothing_can_be_carried_is_one_line(tiny, t, down_to, steps):
    with pytest.raises(UserError, match="must be"):
        tiny.carry(torch.zeros(1, 1, 8, 8), t, down_to, "ddim", steps)


@pytest.mark.parametrize("down_to", [0, 30])
def test_a_clean_guess_is_not_carried(tiny, down_to):
    guess = torch.zeros(1, 1, 8, 8).as_subclass(CleanGuess)
    with pytest.raises(UserError, match="clean guess"):
        tiny.carry(guess, 40, down_to, "ddim", 2)

"""Starting mid-trajectory: every solver, from every t_trunc, with any number of steps, ends in the
data's law.

The data are Gaussian, so the optimal denoiser, the law of every x_t and the law that a first-order
solver makes of it are known. A solver maps Gaussians to Gaussians by an affine map, so the law of
x_0 is measured without sampling error where the solver is deterministic, and with that of the noise
alone where it is not.
"""

import inspect

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from helpers.gaussian_world import GaussianDenoiser, GaussianWorld
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from priorbench import FrozenDiffusion, UserError
from priorbench.diffusion.process import ForwardProcess
from priorbench.diffusion.solvers import SOLVERS, respace, respaced_alpha_bar, solver_class

# Everything in diffusers that runs over a variance-preserving schedule, by the textbook recursion
# that it should follow ...
FIRST_ORDER = {"ddim": "ddim", "DDIMParallelScheduler": "ddim", "CogVideoXDDIMScheduler": "ddim",
               "EulerDiscreteScheduler": "ddim", "ddpm": "ddpm", "DDPMParallelScheduler": "ddpm",
               "EulerAncestralDiscreteScheduler": "ddpm", "dpm++": "dpm++",
               "dpm++sde": "dpm++sde"}  # fmt: skip
# ... or, of higher order, by how far from the data's law its own error leaves it with every
# timestep of T = 1000.
HIGHER_ORDER = {"unipc": 0.005, "HeunDiscreteScheduler": 0.005, "KDPM2DiscreteScheduler": 0.005,
                "SASolverScheduler": 0.006, "PNDMScheduler": 0.012, "LMSDiscreteScheduler": 0.021,
                "DPMSolverSinglestepScheduler": 0.006, "DEISMultistepScheduler": 0.006,
                "KDPM2AncestralDiscreteScheduler": 0.01}  # fmt: skip
ALL = [*FIRST_ORDER, *HIGHER_ORDER]


def rest_slow(solvers):
    """A parameter each: every law of every solver in ``make test``, of our own names alone in
    ``make quick``.
    """
    return [s if s in SOLVERS else pytest.param(s, marks=pytest.mark.slow) for s in solvers]


N = 10_000  # samples of the noise, where there is noise


def is_random(solver):
    return FIRST_ORDER.get(solver) in ("ddpm", "dpm++sde") or "Ancestral" in solver


def measured_law(world, solver, t, steps=None):
    """(mean, deviation) of x_0 from an exact x_t, each (1, 4, 4): by the slope and the noise of the
    solver's affine map.
    """
    a = world.diffusion.process.alpha_bar[t]
    m, d = a.sqrt() * world.mean, (a * world.deviation**2 + 1 - a).sqrt()
    n = N if is_random(solver) else 1

    def run(x):
        x = x.expand(n, 1, 4, 4).clone()
        return world.diffusion.denoise(x, t, solver, steps, torch.Generator().manual_seed(1))

    centre = run(m)
    slope = (run(m + d) - centre)[0]
    noise = centre.std(0) if n > 1 else torch.zeros_like(slope)
    return centre.mean(0).numpy(), (slope**2 + noise**2).sqrt().numpy()


def textbook_law(world, recursion, times):
    """What a solver should make of an exact x_t: its published recursion, in float64 and in
    arithmetic of our own.

    x is kept as coefficients over the basis (1, x_t's deviation, noise of step 1, 2, ...), shape (K
    + 2, 1, 4, 4).
    """
    alpha_bar = world.diffusion.process.alpha_bar.numpy()
    mean, s = world.mean.numpy(), world.deviation.numpy()
    a = alpha_bar[times[-1]]
    x = np.zeros((len(times) + 2, 1, 4, 4))
    x[0], x[1] = np.sqrt(a) * mean, np.sqrt(a * s**2 + 1 - a)
    before = None
    for k, (t, below) in enumerate(zip(times[::-1], [*times[:-1][::-1], 0], strict=True)):
        a, b = alpha_bar[t], alpha_bar[below]
        clean = np.sqrt(a) * s**2 / (a * s**2 + 1 - a) * x  # E[x_0 | x_t], linear in x_t ...
        clean[0] += mean * (1 - a) / (a * s**2 + 1 - a)  # ... with a constant
        if recursion == "ddim":  # Song et al. (2021), equation 12 with sigma = 0
            x = np.sqrt(b) * clean + np.sqrt((1 - b) / (1 - a)) * (x - np.sqrt(a) * clean)
        elif recursion == "ddpm":  # Ho et al. (2020), equation 7
            beta = 1 - a / b
            x = np.sqrt(b) * beta / (1 - a) * clean + np.sqrt(a / b) * (1 - b) / (1 - a) * x
            x[k + 2] = np.sqrt(beta * (1 - b) / (1 - a))
        elif below == 0:  # Lu et al. (2022), DPM-Solver++(2M); its last step is of first order
            x = clean
        else:
            h = 0.5 * (np.log(b / (1 - b)) - np.log(a / (1 - a)))
            ahead = clean if before is None else clean + h / (2 * before[1]) * (clean - before[0])
            decay = np.sqrt((1 - b) / (1 - a))
            if recursion == "dpm++":
                x = decay * x - np.sqrt(b) * np.expm1(-h) * ahead
            else:
                x = decay * np.exp(-h) * x - np.sqrt(b) * np.expm1(-2 * h) * ahead
                x[k + 2] = np.sqrt(-(1 - b) * np.expm1(-2 * h))
            before = clean, h
    return x[0], np.sqrt((x[1:] ** 2).sum(0))


def data_law(world, times):
    """The data's law, less what any last step loses: x_0 is the posterior mean of x_{t_1}."""
    a, s = world.diffusion.process.alpha_bar[times[0]].numpy(), world.deviation.numpy()
    return world.mean.numpy(), s * np.sqrt(a * s**2 / (a * s**2 + 1 - a))


def check(world, solver, t, steps=None):
    """Assert that an exact draw of x_t goes to the law that it should."""
    noise = 4 / np.sqrt(N) if is_random(solver) else 0.0  # four standard errors of a mean
    if solver in FIRST_ORDER:
        wanted, allowed = textbook_law(world, FIRST_ORDER[solver], respace(t, steps)), 5e-4
    else:
        wanted, allowed = data_law(world, respace(t, steps)), HIGHER_ORDER[solver]
        if solver.startswith("DEIS") and t >= 15:
            allowed = 0.05  # its last step is then of second order, and extrapolates
    mean, deviation = measured_law(world, solver, t, steps)
    scale = world.deviation.numpy()
    assert np.abs((mean - wanted[0]) / scale).max() < allowed + noise
    assert np.abs((deviation - wanted[1]) / scale).max() < allowed + noise / np.sqrt(2)


@pytest.mark.parametrize("solver", rest_slow(FIRST_ORDER))
@pytest.mark.parametrize("t", [1, 2, 3, 40, pytest.param(100, marks=pytest.mark.slow)])
def test_an_exact_draw_goes_to_the_law_of_the_published_recursion(solver, t):
    check(GaussianWorld(100, spread=2.0), solver, t)


@pytest.mark.parametrize("solver", rest_slow(FIRST_ORDER))
@pytest.mark.parametrize(("t", "steps"), [(100, 1), (100, 7), (99, 10), (41, 40), (11, 4), (2, 1)])
def test_it_does_with_any_number_of_steps(solver, t, steps):
    """Numbers that do not divide t_trunc among them: where diffusers' own arithmetic misses its
    grid.
    """
    check(GaussianWorld(100, spread=2.0), solver, t, steps)


@pytest.mark.parametrize("solver", rest_slow(HIGHER_ORDER))
@pytest.mark.parametrize("t", [1, 2, 10, pytest.param(1000, marks=pytest.mark.slow)])
def test_solvers_of_higher_order_go_to_the_datas_law(solver, t):
    if t == 1000 and (is_random(solver) or solver == "SASolverScheduler"):
        t = 60  # N samples at every one of 1,999 evaluations would take minutes
    if t == 1000 and solver == "LMSDiscreteScheduler":
        t = 200  # it integrates by quadrature at every step
    check(GaussianWorld(1000), solver, t)


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpm++", "dpm++sde", "unipc"])
@pytest.mark.parametrize("t", [1, 2, 200])
def test_the_law_of_samples_is_the_datas(solver, t):
    """Drawn, denoised by every timestep and tested pixel by pixel against N(mu, s^2)."""
    world = GaussianWorld(1000, spread=4.0)
    x_0 = world.diffusion.denoise(
        world.draw(2000, t, seed=3), t, solver, None, torch.Generator().manual_seed(4)
    )
    z = ((x_0 - world.mean) / world.deviation).numpy().reshape(2000, 16)
    assert min(stats.kstest(z[:, i], "norm").pvalue for i in range(16)) > 1e-3 / 16


@pytest.mark.parametrize("shift", [1, -1])
@pytest.mark.parametrize("solver", rest_slow(ALL))
def test_shifting_t_by_one_makes_that_fail(solver, shift):
    world = (
        GaussianWorld(100, shift=shift, spread=2.0)
        if solver in FIRST_ORDER
        else GaussianWorld(shift=shift)
    )
    with pytest.raises(AssertionError):
        check(world, solver, 10)


@pytest.mark.parametrize("solver", rest_slow(FIRST_ORDER))
@pytest.mark.parametrize("t", [1, 2, pytest.param(100, marks=pytest.mark.slow)])
def test_believing_in_one_step_more_makes_that_fail_at_the_ends_too(solver, t):
    with pytest.raises(AssertionError):
        check(GaussianWorld(100, shift=1, spread=2.0), solver, t)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("solver", ["ddpm", "ddim", "dpm++", "dpm++sde"])
def test_every_prediction_type_and_schedule(kind, schedule, solver):
    check(GaussianWorld(100, kind, schedule, spread=2.0), solver, 60, 20)


@pytest.mark.parametrize("solver", rest_slow(ALL))
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_evaluations_are_counted(solver, steps):
    world = GaussianWorld(100)
    seen = []
    network = world.diffusion.network
    network.register_forward_pre_hook(lambda module, args: seen.append(float(args[1][0])))
    world.diffusion.denoise(world.draw(4, 50), 50, solver, steps)
    assert world.diffusion.evaluations == len(seen)
    extra = {"PNDMScheduler": steps > 1}.get(
        solver, (steps - 1) * solver.startswith(("Heun", "KDPM2"))
    )
    assert len(seen) == steps + extra
    assert seen[0] == 49  # the first timestep of a chain from t_trunc is index t_trunc - 1
    assert max(seen) == 49


@given(t=st.integers(1, 1000), data=st.data())
def test_respaced_times_rise_from_above_0_to_t_trunc(t, data):
    steps = data.draw(st.integers(1, t))
    times = respace(t, steps)
    assert len(times) == steps
    assert times[-1] == t
    assert all(a < b for a, b in zip([0, *times], times, strict=False))
    assert respace(t, None) == respace(t, t) == list(range(1, t + 1))


@pytest.mark.parametrize("solver", ["ddim", "dpm++", "unipc", "DEISMultistepScheduler"])
def test_where_steps_divide_t_trunc_it_is_diffusers_own_trailing_chain(solver):
    """The scheduler over betas[:t_trunc] with trailing timesteps, driven by hand."""
    world = GaussianWorld(100)
    cls, given_settings = solver_class(solver)
    theirs = cls(
        num_train_timesteps=40, trained_betas=world.scheduler.betas[:40].numpy(),
        timestep_spacing="trailing",
        prediction_type="epsilon", **given_settings,
        **({"clip_sample": False} if solver == "ddim" else {}),
    )  # fmt: skip
    theirs.set_timesteps(8)
    assert theirs.timesteps.tolist() == [t - 1 for t in respace(40, 8)[::-1]]
    if solver == "DEISMultistepScheduler":
        theirs.sigmas[-1] = (
            1e-4  # as shipped it repeats the last sigma, and its last step does nothing
        )
    start = world.draw(8, 40)
    x = start
    for timestep in theirs.timesteps:
        x = theirs.step(world.diffusion.predict(x, float(timestep)), timestep, x).prev_sample
    assert torch.allclose(x, world.diffusion.denoise(start, 40, solver, 8), atol=2e-4)


@pytest.mark.slow
def test_no_solver_of_diffusers_is_left_untested():
    """Every scheduler that is let through is in the lists above; all others are refused with a
    reason.
    """
    refusals = []
    for name in (n for n in dir(diffusers) if n.endswith("Scheduler") and not n.startswith("Flax")):
        try:
            cls, _ = solver_class(name)
        except UserError as error:
            refusals.append((name, str(error)))
        else:
            assert any(cls is solver_class(tested)[0] for tested in ALL), name
    assert all(name in refusal for name, refusal in refusals)


@pytest.mark.parametrize(("name", "reason"), [
    ("dpm+", "did you mean 'dpm\\+\\+'"), ("LCMScheduler", "consistency"),
    ("RePaintScheduler", "original_image"),
    ("FlowMatchEulerDiscreteScheduler", "noise schedule"),
    ("DDIMInverseScheduler", "from x_0 to noise"),
    ("IPNDMScheduler", "alphas_cumprod"), ("UNet2DModel", "no solver"),
])  # fmt: skip
def test_refuses_what_cannot_run_and_says_why(name, reason):
    with pytest.raises(UserError, match=reason):
        GaussianWorld(10).diffusion.denoise(torch.zeros(1, 1, 4, 4), 5, name)


@pytest.mark.parametrize("steps", [0, 6, 2.5, True])
def test_refuses_more_steps_than_timesteps(steps):
    with pytest.raises(UserError, match="from 1 to t_trunc = 5"):
        GaussianWorld(10).diffusion.denoise(torch.zeros(1, 1, 4, 4), 5, "ddim", steps)


@pytest.mark.parametrize("solver", rest_slow(ALL))
def test_the_global_random_state_is_untouched_and_the_generator_decides(solver):
    world = GaussianWorld(50)  # SASolver is stochastic too, but only in chains of over 200 steps
    x, before = world.draw(4, 20), torch.get_rng_state()
    first, again, other = (
        world.diffusion.denoise(x, 20, solver, 5, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert torch.equal(first, other) != is_random(solver)


# alpha_bar_T = 2.4e-9 at T = 1000: sigma / sqrt(alpha_bar) starts from 20,000
COSINE = "squaredcos_cap_v2"
KINDS = ["epsilon", "sample", "v_prediction"]


@pytest.mark.parametrize("steps", [1, 3, 10])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", rest_slow(FIRST_ORDER))
def test_from_pure_noise_of_a_cosine_schedule_it_steps_by_the_models_own_alphas(
    solver, kind, steps
):
    check(GaussianWorld(1000, kind, COSINE, spread=2.0), solver, 1000, steps)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", rest_slow(ALL))
def test_one_step_from_pure_noise_of_a_cosine_schedule_is_the_posterior_mean(solver, kind):
    """Whatever its order: so the exact W2 between the Gaussian that it makes and the data is that
    of one DDIM step.
    """
    world = GaussianWorld(1000, kind, COSINE)
    mean, deviation = measured_law(world, solver, 1000, 1)
    w2 = np.sqrt(
        ((mean - world.mean.numpy()) ** 2 + (deviation - world.deviation.numpy()) ** 2).sum()
    )
    allowed = (
        3e-3 if solver == "PNDMScheduler" else 5e-4
    )  # it divides by sqrt(alpha_bar) in float32
    assert w2 == pytest.approx(1.2312, abs=allowed)
    assert np.abs(mean - textbook_law(world, "ddim", [1000])[0]).max() < allowed


@pytest.mark.parametrize("steps", [3, 10])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", rest_slow([
    "dpm++", "unipc", "HeunDiscreteScheduler", "LMSDiscreteScheduler", "KDPM2DiscreteScheduler",
    "DPMSolverSinglestepScheduler", "DEISMultistepScheduler",
]))  # fmt: skip
def test_from_pure_noise_of_a_cosine_schedule_it_is_diffusers_own_chain(solver, kind, steps):
    """The scheduler over the model's own schedule of 1,000 steps, of a model that predicts x_0
    (KDPM2: v).
    """
    world = GaussianWorld(1000, "v_prediction" if solver.startswith("KDPM2") else "sample", COSINE)
    start = world.draw(8, 1000)
    wanted = by_hand(world, solver, steps, start, beta_schedule=COSINE)
    ours = GaussianWorld(1000, kind, COSINE).diffusion.denoise(start, 1000, solver, steps)
    assert torch.allclose(ours, wanted, atol=1e-4)


def by_hand(world, solver, steps, x, **settings):
    """x_0 by diffusers' own scheduler at ``steps`` trailing timesteps of its whole schedule."""
    (cls, given_settings), times = solver_class(solver), respace(world.diffusion.T, steps)
    wanted = {
        "num_train_timesteps": world.diffusion.T,
        "prediction_type": world.diffusion.config["prediction_type"],
        "timestep_spacing": "trailing", "lower_order_final": True, "final_sigmas_type": "zero",
    } | settings | given_settings  # fmt: skip
    theirs = cls(**{k: v for k, v in wanted.items() if k in inspect.signature(cls).parameters})
    theirs.set_timesteps(steps)
    if theirs.timesteps[-1] != times[0] - 1:  # DPMSolverSinglestep
        theirs.set_timesteps(timesteps=[t - 1 for t in times[::-1]])
    if hasattr(theirs, "sigmas") and solver != "unipc":
        theirs.sigmas = theirs.sigmas.double()  # Heun makes much of a rounding
        if solver.startswith("DEIS"):
            theirs.sigmas[-1] = (
                1e-4  # as shipped it repeats the last sigma, and its last step does nothing
            )
    x = x / theirs.scale_model_input(torch.ones(1, dtype=x.dtype), theirs.timesteps[0])
    for timestep in theirs.timesteps:
        output = world.diffusion.predict(theirs.scale_model_input(x, timestep), float(timestep))
        x = theirs.step(output, timestep, x).prev_sample
    return x


def test_refuses_what_float32_cannot_step_in_one_line():
    """KDPM2Ancestral subtracts squares of sigmas, which leaves less than nothing after a step from
    20,000 to 2.
    """
    world = GaussianWorld(1000, schedule=COSINE)
    with pytest.raises(UserError, match="is not precise enough to start from alpha_bar"):
        world.diffusion.denoise(world.draw(1, 1000), 1000, "KDPM2AncestralDiscreteScheduler", 3)


@pytest.mark.parametrize(
    ("solver", "steps"),
    [
        *((solver, 1) for solver in FIRST_ORDER),
        *((s, 3) for s, name in FIRST_ORDER.items() if name[:3] == "ddi"),
    ],
)
def test_zero_terminal_snr_goes_to_the_law_too(solver, steps):
    """alpha_bar_T = 0 is lifted to 2^-24, which is seen as noise of 2^-12 in x_0 after one step."""
    world = GaussianWorld(1000, "v_prediction", spread=2.0)
    scheduler = DDPMScheduler(
        prediction_type="v_prediction", clip_sample=False, rescale_betas_zero_snr=True
    )
    network = GaussianDenoiser(
        world.mean, world.deviation, scheduler.alphas_cumprod, "v_prediction"
    )
    world.diffusion = FrozenDiffusion(network, scheduler, device="cpu")
    assert world.diffusion.process.alpha_bar[1000] == 0
    law, wanted = (
        measured_law(world, solver, 1000, steps),
        textbook_law(world, "ddim", respace(1000, steps)),
    )
    assert np.abs(np.subtract(law, wanted)).max() < 3e-4


@pytest.mark.parametrize(("times", "last"), [([500, 1000], 2.0**-24), (range(1, 1001), 4.2e-9 / 2)])
def test_alpha_bar_is_lifted_from_0_and_still_falls(times, last):
    scheduler = DDPMScheduler(
        rescale_betas_zero_snr=True
    )  # alpha_bar_999 = 4.2e-9 is below diffusers' floor
    alpha_bar = respaced_alpha_bar(ForwardProcess(scheduler.alphas_cumprod), times)
    assert (alpha_bar.diff() < 0).all()
    assert float(alpha_bar[-1]) == pytest.approx(last, rel=0.01)


def test_lifts_alpha_bar_from_0_alone():
    process = GaussianWorld(1000, schedule=COSINE).diffusion.process
    assert torch.equal(respaced_alpha_bar(process, range(1, 1001)), process.alpha_bar)


@pytest.mark.parametrize("limit", [1.0, 0.7])
@pytest.mark.parametrize("solver", SOLVERS)
def test_clipping_is_obeyed(solver, limit):
    world = GaussianWorld(50)
    world.diffusion.config |= {"clip_sample": True, "clip_sample_range": limit}
    x = 400 * world.draw(4, 50)
    assert world.diffusion.denoise(x, 50, solver, 3).abs().max() <= limit + 1e-5
    world.diffusion.config["clip_sample"] = False
    assert world.diffusion.denoise(x, 50, solver, 3).abs().max() > 1 + 1e-5


THRESHOLDED = {"thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 1.5}


@pytest.mark.parametrize("limits", [
    {"clip_sample": True, "clip_sample_range": 0.3}, THRESHOLDED,
    THRESHOLDED | {"clip_sample": True},
], ids=["clipped", "thresholded", "both"])  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "solver", rest_slow(s for s in ALL if s not in ("ddim", "DDIMParallelScheduler"))
)
def test_a_limited_model_is_one_that_predicts_the_limited_x_0(solver, kind, limits):
    """DDPMScheduler's own limits, put into the network of a model without any."""
    world, plain = GaussianWorld(100, kind, spread=4.0), GaussianWorld(100, "sample", spread=4.0)
    world.diffusion.config |= limits
    theirs = DDPMScheduler(prediction_type="sample", **{"clip_sample": False} | limits)

    def limit(module, args, output):
        output.sample = theirs.step(output.sample, 0, args[0]).pred_original_sample

    x = world.draw(4, 60)
    before = plain.diffusion.denoise(x, 60, solver, 4, torch.Generator().manual_seed(1))
    plain.diffusion.network.register_forward_hook(limit)
    ours = world.diffusion.denoise(x, 60, solver, 4, torch.Generator().manual_seed(1))
    wanted = plain.diffusion.denoise(x, 60, solver, 4, torch.Generator().manual_seed(1))
    assert torch.allclose(ours, wanted, atol=1e-4)
    assert (wanted - before).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("solver", "limits"), [
    ("ddim", {"clip_sample": True, "clip_sample_range": 0.3}), ("ddim", THRESHOLDED),
    ("DDIMParallelScheduler", {"clip_sample": True, "clip_sample_range": 0.3}),
    ("HeunDiscreteScheduler", {"clip_sample": True, "clip_sample_range": 0.3}),
    ("dpm++", THRESHOLDED), ("unipc", THRESHOLDED), ("DPMSolverSinglestepScheduler", THRESHOLDED),
])  # fmt: skip
def test_where_a_scheduler_knows_limits_they_are_its_own(solver, limits, kind):
    world = GaussianWorld(100, kind, spread=4.0)
    start, betas = world.draw(8, 100), {"beta_start": 1e-3, "beta_end": 0.2}
    wanted = by_hand(world, solver, 5, start, **betas, **{"clip_sample": False} | limits)
    world.diffusion.config |= limits
    assert torch.allclose(world.diffusion.denoise(start, 100, solver, 5), wanted, atol=2e-4)

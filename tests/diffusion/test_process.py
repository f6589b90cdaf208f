"""The forward process: one convention of time, two ways to the same law."""

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from priorbench import UserError
from priorbench.diffusion.process import ForwardProcess, randn, scheduler_index

SCHEDULES = ["linear", "squaredcos_cap_v2", "scaled_linear"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_t_noising_steps_are_the_schedulers_index_t_minus_1(schedule):
    """At every t: x_t of diffusers' own add_noise at index t - 1, and of t products of 1 - beta."""
    scheduler = DDPMScheduler(num_train_timesteps=200, beta_schedule=schedule)
    process = ForwardProcess(scheduler.alphas_cumprod)
    x_0, noise = torch.full((1, 1, 2, 2), 3.0), torch.full((1, 1, 2, 2), 5.0)
    product = 1.0
    assert process.alpha_bar[0] == 1
    for t in range(1, 201):
        product *= 1 - scheduler.betas[t - 1].double().item()
        signal, sigma = process.coefficients(t)
        theirs = scheduler.add_noise(x_0, noise, torch.tensor([scheduler_index(t)]))
        assert torch.allclose(signal * x_0 + sigma * noise, theirs, atol=1e-5)
        assert signal**2 == pytest.approx(product, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES[:2])
@pytest.mark.parametrize("t", [1, 2, 7, 50])
def test_closed_form_and_step_by_step_give_the_same_law(schedule, t):
    process = ForwardProcess(
        DDPMScheduler(num_train_timesteps=50, beta_schedule=schedule).alphas_cumprod
    )
    generator = torch.Generator().manual_seed(t)
    x_0 = torch.full((20_000, 1, 1, 1), 1.5)
    jumped = process.diffuse(x_0, t, generator)
    walked = x_0
    for s in range(1, t + 1):
        walked = process.step(walked, s, generator)
    for x in (jumped, walked):
        signal, sigma = process.coefficients(t)
        law = stats.norm(1.5 * signal, sigma)
        assert stats.kstest(x.flatten().numpy(), law.cdf).pvalue > 1e-3
    one_short = stats.norm(
        1.5 * process.coefficients(t - 1)[0], process.coefficients(t - 1)[1] + 1e-9
    )
    if t < 50:
        assert stats.kstest(walked.flatten().numpy(), one_short.cdf).pvalue < 1e-3 or t > 20


@given(st.lists(st.floats(1e-5, 0.99), min_size=1, max_size=50))
def test_alpha_bar_falls_from_one(betas):
    process = ForwardProcess.from_betas(torch.tensor(betas, dtype=torch.float64))
    assert process.alpha_bar[0] == 1
    assert len(betas) == process.T
    assert (process.alpha_bar.diff() < 0).all()


@pytest.mark.parametrize("t", [0, -1, 11, 1.5, True])
def test_t_outside_1_to_T_is_refused(t):
    with pytest.raises(UserError, match="from 1 to T = 10"):
        ForwardProcess.from_betas(torch.full((10,), 0.1)).check(t)


def test_a_schedule_that_does_not_fall_is_refused():
    with pytest.raises(UserError, match="fall at every step"):
        ForwardProcess(torch.tensor([0.9, 0.95]))


def test_the_generator_alone_determines_the_draw_and_the_global_state_is_untouched():
    process = ForwardProcess.from_betas(torch.full((10,), 0.1))
    before = torch.get_rng_state()
    first, second = (
        process.diffuse(torch.zeros(3, 1, 2, 2), 5, torch.Generator().manual_seed(7))
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_draws_are_float32_whatever_torchs_default_is():
    wanted = randn((3, 4), torch.Generator().manual_seed(7))
    assert wanted.dtype == torch.float32
    try:
        torch.set_default_dtype(torch.float64)
        draws = randn((3, 4), torch.Generator().manual_seed(7))
    finally:
        torch.set_default_dtype(torch.float32)
    assert draws.dtype == torch.float32
    assert torch.equal(draws, wanted)

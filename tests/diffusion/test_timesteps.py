"""Times of a chain that are chosen: their cost against its definition, the dynamic programme
against all grids, and tuned times against uniform ones where the law of x_0 is known.
"""

from itertools import combinations

import pytest
import torch
from helpers.gaussian_world import GaussianWorld
from hypothesis import given
from hypothesis import strategies as st

from priorbench import UserError, quadratic_times, step_costs, tuned_times
from priorbench.diffusion.solvers import chain_times, respace
from priorbench.diffusion.timesteps import LARGEST_TUNED, TEACHER, cheapest, neglected, teacher


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


# --- quadratic ------------------------------------------------------------------------------------


def test_quadratic_times_are_those_of_ddim():
    assert quadratic_times(1000, 5) == [40, 160, 360, 640, 1000]
    assert quadratic_times(1000, 1) == [1000]


@given(st.integers(1, 300), st.data())
def test_quadratic_times_are_times_of_a_chain(t_trunc, data):
    steps = data.draw(st.integers(1, t_trunc))
    times = quadratic_times(t_trunc, steps)
    assert chain_times(t_trunc, steps, times) == times


# --- what a chain can be given --------------------------------------------------------------------


@pytest.mark.parametrize("steps", [None, 3])
def test_a_chain_takes_the_times_that_it_is_given(steps):
    assert chain_times(50, steps, (1, 7, 50)) == [1, 7, 50]
    assert chain_times(50, steps, torch.tensor([1, 7, 50])) == [1, 7, 50]
    assert chain_times(50, steps, None) == respace(50, steps)


@pytest.mark.parametrize("times", [
    [0, 7, 50], [7, 7, 50], [9, 7, 50], [1, 7, 49], [1, 7, 51], [1, 50], [], [1, 7.5, 50], "abc",
    [1, 7, float("nan")], [1, 7, float("inf")], [1, None, 50], 50, [[1], [7], [50]],
])  # fmt: skip
def test_other_times_are_an_error_of_one_line(times):
    with pytest.raises(UserError, match="3 whole numbers that rise from at least 1 to t_trunc"):
        chain_times(50, 3, times)
    with pytest.raises(UserError, match="times must be"):
        GaussianWorld(100).diffusion.denoise(torch.zeros(1, 1, 4, 4), 50, "ddim", 3, gen(), times)


def test_a_chain_over_given_times_evaluates_the_model_there():
    world = GaussianWorld(100)
    x, given_times = world.draw(4, 50), [3, 20, 50]
    seen = world.diffusion.trajectory(x, 50, "ddim", 3, gen(), between=2, times=given_times)
    assert sorted(seen) == [0, *given_times]
    x_0 = world.diffusion.denoise(x, 50, "ddim", None, gen(), given_times)
    assert torch.equal(seen[0], x_0)
    uniform = respace(50, 3)
    assert torch.equal(
        world.diffusion.denoise(x, 50, "ddim", 3, gen(), uniform),
        world.diffusion.denoise(x, 50, "ddim", 3, gen()),
    )


# --- the cost of a step ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_the_teacher_is_ddim(kind):
    world, times = GaussianWorld(100, kind), respace(80, 10)
    diffusion, x = world.diffusion, world.draw(8, 80)
    states = diffusion.trajectory(x, 80, "ddim", 10, gen(), between=9)
    found = teacher(diffusion, x, times)
    assert found.shape == (10, 8, 1, 4, 4)
    assert torch.allclose(found[0], states[0], atol=1e-5)  # the last step ends in its prediction
    for t, x_0 in zip(times, found, strict=True):
        a = diffusion.process.alpha_bar[t]
        gain = a.sqrt() * world.deviation**2 / (a * world.deviation**2 + 1 - a)
        wanted = world.mean + gain * (states[t] - a.sqrt() * world.mean)
        assert torch.allclose(x_0, wanted, atol=1e-5)


def test_the_cost_of_a_step_is_the_integral_that_defines_it():
    """Predictions that rise in proportion to sigma^-2: the integrand is a polynomial in it."""
    snr = torch.linspace(40, 0, 2001, dtype=torch.float64)
    x_0 = snr.view(-1, 1, 1, 1, 1).expand(-1, 3, 1, 1, 2)  # two pixels
    found = neglected(x_0, snr)

    def integral(high, low):  # of 2 (s - low)^2 ds / 2 from low to high
        return (high - low) ** 3 / 3

    for i, j in ((2001, 1), (1501, 501), (1001, 1000)):
        wanted = integral(float(snr[j - 1]), float(snr[i - 1]))
        assert float(found[i, j]) == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    assert found[1, 0] == 0  # below tau_1 nothing is integrated
    assert torch.allclose(found[2:, 0], found[2:, 1])
    assert torch.equal(found.isinf(), torch.ones_like(found).triu().bool())


# --- the dynamic programme ------------------------------------------------------------------------


@given(st.integers(1, 7), st.integers(0, 1000))
def test_no_grid_costs_less_than_that_of_the_dynamic_programme(size, seed):
    costs = torch.rand(size + 1, size + 1, generator=gen(seed), dtype=torch.float64)
    costs[torch.ones_like(costs).triu().bool()] = torch.inf

    def cost(path):
        return sum(float(costs[i, j]) for j, i in zip((0, *path), path, strict=False))

    found = cheapest(costs, size)
    assert [len(path) for path in found] == list(range(1, size + 1))
    for path in found:
        every = combinations(range(1, size), len(path) - 1)
        assert path[-1] == size
        assert cost(path) == pytest.approx(min(cost((*inner, size)) for inner in every))


@pytest.mark.parametrize("t_trunc", [1, 5, 40, 100])
def test_tuned_times_are_times_of_a_chain(t_trunc):
    world = GaussianWorld(100)
    found = tuned_times(step_costs(world.diffusion, world.draw(4, t_trunc), t_trunc), t_trunc)
    assert found.dtype == torch.int64
    assert len(found) == min(t_trunc, TEACHER, LARGEST_TUNED)
    for steps, row in enumerate(found, 1):
        assert chain_times(t_trunc, steps, row[:steps]) == row[:steps].tolist()
        assert not row[steps:].any()


def test_tuned_times_are_nearer_to_the_data_than_uniform_ones():
    """By DDIM from pure noise, where the model is exact: the law of x_0 is known."""
    world = GaussianWorld(1000, spread=0.5)
    x = torch.randn(2000, 1, 4, 4, generator=gen(1), dtype=torch.float64)
    tuned = tuned_times(step_costs(world.diffusion, x[:64], 1000), 1000)

    def error(times):
        x_0 = world.diffusion.denoise(x, 1000, "ddim", None, gen(), times)
        return float((x_0.std(0) - world.deviation).square().sum())

    for steps in (2, 3, 5, 10):
        times = tuned[steps - 1, :steps].tolist()
        assert error(times) < 0.5 * error(respace(1000, steps)), steps


def test_the_costs_are_a_mean_over_trajectories():
    world = GaussianWorld(100)
    x = world.draw(6, 40)
    parts = [step_costs(world.diffusion, x[half], 40) for half in (slice(3), slice(3, 6))]
    whole = step_costs(world.diffusion, x, 40)
    below = whole.isfinite()
    assert torch.allclose(whole[below], sum(parts)[below] / 2)

"""What a map costs, where the least cost is known in closed form."""

from dataclasses import replace

import pytest
import torch
from helpers.runs import small_run
from helpers.specs import SPEC

from priorbench import TruncPrior, randn
from priorbench.bench.optimality import POINTS, transport_costs

SHAPE = (1, 2, 2)
SCALES = torch.tensor([2.0, 1.0, 0.5, 0.1])


class Linear(TruncPrior):
    """f(z) = A z + 1 of z in image space."""

    matrix = torch.diag(SCALES)

    def fit(self, marginal, run):
        pass

    def latents(self, n, generator):
        return randn((n, 4), generator)

    def from_latents(self, z):
        return (z @ self.matrix.T + 1).view(-1, *SHAPE)

    def sample(self, n, generator):
        return self.from_latents(self.latents(n, generator))


class Rotated(Linear):
    """A quarter turn in each of two planes: the law stays as it is."""

    matrix = torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]])


class Shown(Rotated):
    """The same map of latents twice as wide, which says what points they stand for."""

    def latents(self, n, generator):
        return 2 * super().latents(n, generator)

    def source(self, z):
        return z / 2

    def from_latents(self, z):
        return super().from_latents(self.source(z))


class Stretched(Linear):
    """Says that it moves points which are no normal draws."""

    def source(self, z):
        return 1.5 * z


class OfFew(Linear):
    def latents(self, n, generator):
        return randn((n, 3), generator)


def costs(cls, n=POINTS):
    found = transport_costs(cls(), replace(SPEC, n_samples=n), SHAPE)
    return [found[f"transport_cost{end}"] for end in ("", "_points", "_gaussian")]


def test_a_symmetric_map_is_optimal_and_costs_what_the_closed_form_says():
    """Bures: |m|^2 + sum (s_i - 1)^2, over d."""
    cost, least, moments = costs(Linear)
    assert least == pytest.approx(cost, rel=1e-6)
    assert moments == pytest.approx(cost, rel=0.02)
    assert cost == pytest.approx(1 + float((SCALES - 1).square().mean()), rel=0.05)


def test_a_rotation_costs_two_where_the_law_need_not_move():
    cost, least, moments = costs(Rotated)
    assert cost == pytest.approx(2 + 1, rel=0.08)  # and the shift by 1
    assert least < 1.2
    assert moments == pytest.approx(1, rel=0.1)


def test_latents_of_another_size_count_by_the_points_that_they_stand_for():
    assert costs(Shown) == pytest.approx(costs(Rotated), rel=1e-5)


def test_a_prior_without_latents_in_image_space_has_no_cost():
    assert all(value != value for value in costs(OfFew))


def test_points_that_are_not_normal_are_refused():
    with pytest.raises(ValueError, match="must be standard normal"):
        costs(Stretched)


@pytest.mark.parametrize("n", [10, 40])
def test_few_normal_points_are_not_refused(n):
    for seed in range(20):
        transport_costs(Linear(), replace(SPEC, n_samples=n, seed=seed), SHAPE)


@pytest.mark.slow
def test_a_run_has_the_costs_of_what_maps_image_space(tmp_path):
    found = small_run(tmp_path, priors="mixture,ot[iterations=2],vae[iterations=2],gaussian")
    assert (found.status == "ok").all()
    maps = found.prior.isin(["mixture", "ot"])
    assert found[~maps].transport_cost.isna().all()
    cost, points, moments = (
        found[maps][f"transport_cost{end}"] for end in ("", "_points", "_gaussian")
    )
    assert (moments > 0).all()
    assert (points >= moments - 1e-9).all()
    assert (cost >= points - 1e-9).all()
    # A component drawn by a number of its own has nothing to do with the point that is moved.
    assert (cost > 1.05 * moments).all()

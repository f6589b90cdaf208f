"""``ot``: its closed form, the pairs, the flow, the mean of the rest, and what is kept of them."""

import math

import ot
import pytest
import torch
from helpers.fitting import blobs, draw, fitted, make
from priorbench_mixture import GaussianMaps
from priorbench_ot.flow import Flow
from priorbench_ot.pairing import CROWD, Pairing, matched

from priorbench import FitRun, TruncatedMarginal, randn


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def two_kinds(diffusion, spread=0.05):
    return TruncatedMarginal(blobs(400, 0, spread), diffusion, 2, blobs(100, 1, spread))


def bent(n, seed):
    """Images on a parabola: the leading coordinate a is normal, another one is (a^2 - 1) / 4."""
    a = randn((n, 1), generator(seed))
    axes = torch.linalg.qr(randn((64, 2), generator(9))).Q
    return (torch.cat([a, (a.square() - 1) / 4], dim=1) @ axes.T).view(n, 1, 8, 8)


@pytest.fixture
def maps(tiny):
    """A mixture over the five leading coordinates of two kinds of images."""
    maps = GaussianMaps((1, 8, 8), 5)
    maps.fit(two_kinds(tiny), FitRun(generator()), 2, 25, 1e-4)
    return maps


def test_without_a_step_it_is_the_mixture(tiny):
    """Of the same fit, at the same z: the draws are the same."""
    params = {"components": 2, "ridge": 1e-4, "latent": 5, "crowd": 25}
    closed = fitted("mixture", two_kinds(tiny), **params)
    prior = fitted("ot", two_kinds(tiny), iterations=0, **params)
    z = prior.latents(50, generator(1))
    assert len(closed.maps.shares) == 2
    assert torch.allclose(prior.from_latents(z), closed.from_latents(z), atol=1e-6)


def test_it_knows_two_kinds_with_components_and_one_by_one_by_its_flow(tiny):
    """One Gaussian covers both kinds with a wide one; the flow parts it."""
    share = {}
    for steps in (0, 2):
        prior = fitted(
            "ot", two_kinds(tiny, 0.2), components=1, latent=4, iterations=400, flow_steps=steps
        )
        x = draw(prior, 2000).mean((1, 2, 3)).detach()
        share[steps] = float(((x.abs() - 0.8).abs() < 0.2).float().mean())
    assert share[0] < 0.4
    assert share[2] > 0.8


def test_the_rest_of_an_image_follows_from_its_leading_coordinates(tiny):
    law = TruncatedMarginal(bent(1000, 0), tiny, 2, bent(200, 1))
    left = {}
    for iterations in (0, 400):
        prior = fitted("ot", law, latent=1, components=1, iterations=iterations)
        with torch.no_grad():
            left[iterations] = float(prior.rest_error(bent(500, 2)))
    assert left[0] == pytest.approx(2 / 16, rel=0.3)  # the variance of (a^2 - 1) / 4
    assert left[400] < 0.1 * left[0]


def test_it_keeps_its_closed_form_where_training_makes_it_worse(marginal):
    lines = []
    prior = make("ot", learning_rate=1.0, iterations=4, batch_size=8, checks=4)
    prior.fit(marginal, FitRun(generator(), log=lines.append))
    for network in (prior.flow.write, prior.rest):
        assert all(float(p.detach().abs().max()) == 0 for p in list(network.parameters())[-2:])
    seen = [
        [float(v) for v in look.split(" and ")] for look in lines[-1].rpartition(": ")[2].split(";")
    ]
    assert len(seen) == 5
    assert all(min(errors) == errors[0] for errors in zip(*seen, strict=True))


def test_each_network_keeps_its_own_best_weights(marginal):
    """The rest learns nothing, the flow much; neither loses its weights to the other."""
    from priorbench_ot.prior import HeldOut

    prior = fitted("ot", marginal, iterations=0)
    held_out = HeldOut(prior, marginal.validation, generator())

    class Better:
        def copy(self):
            torch.nn.init.constant_(prior.flow.write.bias, 1e-3)
            torch.nn.init.constant_(list(prior.rest.parameters())[-1], 9.0)

    before = held_out.seen[0]
    held_out.look(Better())
    assert float(prior.flow.write.bias.detach().abs().max()) == 0  # training goes on as it was
    assert held_out.seen[1][1] > before[1]
    Better().copy()
    held_out.keep_best()
    found = held_out.errors()
    assert found == pytest.approx(tuple(map(min, *held_out.seen)))


@pytest.mark.parametrize("n", [1, 2, 40])
def test_pairs_are_those_of_exact_transport(n):
    x, y = randn((n, 3), generator(0)), randn((n, 3), generator(1)) + 1
    order = matched(x, y)
    assert order.sort().values.tolist() == list(range(n))
    cost = ot.dist(x.double().numpy(), y.double().numpy())
    wanted = ot.emd2([], [], cost)
    assert float((x - y[order]).double().square().sum(1).mean()) == pytest.approx(wanted)


def test_a_pair_for_each_image_with_a_draw_of_its_own_component(maps):
    images = blobs(300, 5)
    codes = maps.codes(images)
    densities = maps.densities(1e-4)
    pairing = Pairing(maps, densities, codes)
    starts, ends, k = pairing.draw(generator(2))
    assert torch.equal(ends.sort(dim=0).values, codes.sort(dim=0).values)
    assert torch.equal(densities.likeliest(ends), k)
    assert torch.equal(densities.likeliest(starts), k)
    assert {int(v) for v in k.bincount()} == {150}
    again = pairing.draw(generator(3))
    assert not torch.equal(again[0], starts)
    shuffled = ends[torch.randperm(300, generator=generator(4))]
    cost, at_random = ((starts - y).square().sum(1).mean() for y in (ends, shuffled))
    assert cost < 0.5 * at_random


def test_crowds_are_paired_in_parts(maps):
    codes = maps.codes(blobs(2 * CROWD + 3, 6)[::2])  # all of one kind, in two parts
    _, ends, k = Pairing(maps, maps.densities(1e-4), codes).draw(generator())
    assert k.unique().numel() == 1
    assert torch.equal(ends.sort(dim=0).values, codes.sort(dim=0).values)


class Decay(Flow):
    """dy/dtau = -y."""

    def forward(self, y, tau, k):
        return -y


def test_the_flow_goes_by_heun_s_method():
    y, k = randn((4, 3), generator()), torch.zeros(4, dtype=torch.long)
    flow = Decay(3, 1, 8, 1)
    for steps in (1, 2, 7):
        h = 1 / steps
        assert torch.allclose(flow.carry(y, k, steps), y * (1 - h + h * h / 2) ** steps)
    assert torch.allclose(flow.carry(y, k, 100), y * math.exp(-1), rtol=1e-4)


def test_a_new_flow_stays_where_it_is():
    y, k = randn((4, 3), generator()), torch.arange(4)
    assert torch.equal(Flow(3, 4, 8, 2).carry(y, k, 2), y)


def test_the_loss_of_the_flow_is_the_squared_error_of_its_slope(maps):
    codes = maps.codes(blobs(50, 5))
    pairs = Pairing(maps, maps.densities(1e-4), codes).draw(generator(2))
    lengths = (pairs[1] - pairs[0]).square().sum(1)
    still = Flow(5, 2, 8, 1).loss(pairs, generator())
    assert float(still.detach()) == pytest.approx(float(lengths.mean()))


def test_it_shows_the_normal_draws_that_it_moves(marginal):
    prior = fitted("ot", marginal)
    z = prior.latents(6, generator())
    assert torch.equal(prior.source(z).flatten(1), z[:, 1:])

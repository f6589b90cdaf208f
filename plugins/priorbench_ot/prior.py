r"""``ot``: a map from normal draws to images, by transport in the leading principal coordinates.

.. math:: f(z) = \mu + U y + r_k(y) + g(y), \qquad y = T(z_0, U^\top z')

U are the q leading principal axes of the images. As in the rearrangement of Knothe and Rosenblatt,
which is the limit of optimal maps where some coordinates count for more than others (Carlier et
al., SIAM J. Math. Anal. 2010, https://arxiv.org/abs/0810.4153), the leading coordinates are
transported first, and the rest of the image follows from them.

**T** transports z to the law of the leading coordinates y, in two steps. The first is that of the
prior ``mixture``, a Gaussian map in closed form for each component k of a mixture
(:mod:`priorbench_mixture.maps`). The second is a flow that starts where the mixture ends
(:mod:`.flow`). It learns from draws of the mixture which exact optimal transport has paired with
images, in each component (:mod:`.pairing`).

**r** is the regression of ``mixture`` in the component k, and **g** a network that learns from
images what r leaves of the mean of the rest, given y. How the rest varies around this mean is left
out: at x_{t_trunc} the diffusion's noise stands for it.

There is no adversary, and there are no labels. Both networks start at zero, where f is ``mixture``.
A few times during the fit their errors on held-out images are measured, and each keeps the averaged
weights with the least error. So by these measures the map is never worse than its closed form.
"""

import math
from collections.abc import Iterator

import torch
from priorbench_mixture import GaussianMaps
from torch import Tensor, nn

from priorbench import (
    EMA,
    FitRun,
    TruncatedMarginal,
    TruncPrior,
    check_least,
    check_share,
    cosine,
    decoder,
)

from .flow import Flow
from .pairing import Pairing, Pairs

PIECE = 500  # images whose held-out error is measured at once
SHARE = 4  # pairs of a step for each image: the rest is learned long before the flow is


class OTPrior(TruncPrior):
    """A transport map of the leading coordinates, and the mean of the rest.

    Arguments:
        latent, components, crowd, ridge: of the mixture, as in
            :class:`priorbench_mixture.prior.MixturePrior`. With one component the flow starts from
            one Gaussian.
        flow_steps: the steps of the flow, each of two evaluations of its network; 0 leaves out the
            flow.
        batch_size: pairs per step for the flow; the rest takes a quarter as many images.
        iterations: optimiser steps; 0 leaves the closed form.
        learning_rate: the initial rate of Adam; it decays to 0 along a cosine.
        width, depth: the size of the networks, see :func:`priorbench.decoder`. That of the flow has
            half the width.
        ema: the decay of the averaged weights.
        checks: how many times the held-out errors are measured during the fit.
    """

    emits = "x_0"

    def __init__(
        self,
        *,
        latent: int = 0,
        components: int = 200,
        crowd: int = 25,
        ridge: float = 0.03,
        flow_steps: int = 2,
        batch_size: int = 256,
        iterations: int = 1000,
        learning_rate: float = 2e-3,
        width: int = 512,
        depth: int = 2,
        ema: float = 0.99,
        checks: int = 8,
    ) -> None:
        super().__init__()
        check_least(0, flow_steps=flow_steps, iterations=iterations, ridge=ridge, latent=latent)
        check_least(0, learning_rate=learning_rate)
        check_least(1, components=components, crowd=crowd)
        check_least(1, batch_size=batch_size, checks=checks, depth=depth)
        check_least(2, width=width)
        check_share(ema=ema)
        self.latent = latent
        self.components = components
        self.crowd = crowd
        self.ridge = ridge
        self.flow_steps = flow_steps
        self.batch_size = batch_size
        self.iterations = iterations
        self.learning_rate = learning_rate
        self.width = width
        self.depth = depth
        self.ema = ema
        self.checks = checks

    def build(self, shape: tuple[int, int, int]) -> None:
        self.maps = GaussianMaps(shape, self.latent)
        q = self.maps.coordinates
        self.flow = Flow(q, self.components, self.width // 2, self.depth)
        self.rest = decoder(shape, q, self.width, self.depth)
        layers = nn.Linear | nn.Conv2d
        for parameter in [m for m in self.rest.modules() if isinstance(m, layers)][-1].parameters():
            nn.init.zeros_(parameter)

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """z = (z_0, z'), (n, 1 + C H W) standard normal."""
        return self.maps.latents(n, generator)

    def source(self, z: Tensor) -> Tensor:
        """z' as images (N, C, H, W), of z (N, 1 + C H W)."""
        return self.maps.source(z)

    def from_latents(self, z: Tensor) -> Tensor:
        """f(z) as images (N, C, H, W), of z (N, 1 + C H W)."""
        y, k = self.maps.leading(z)
        if self.flow_steps:
            y = self.flow.carry(y, k, self.flow_steps)
        return self.maps.images(y, k) + self.follow(y)

    def follow(self, y: Tensor) -> Tensor:
        """g(y), (N, C, H, W), of leading coordinates y (N, q)."""
        rest: Tensor = self.rest(y / self.flow.scale)
        return rest

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.from_latents(self.latents(n, generator))

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        self.maps.fit(marginal, run, self.components, self.crowd, self.ridge)
        self.densities = self.maps.densities(self.ridge)
        self.flow.scale.copy_(self.maps.deviation.clamp(min=1e-3))
        parameters = [*self.flow.parameters(), *self.rest.parameters()]
        optimizer = torch.optim.Adam(parameters, self.learning_rate, (0.9, 0.99), fused=True)
        schedule = cosine(optimizer, run, max(self.iterations, 1))
        average = EMA(parameters, self.ema)
        held_out = None
        if marginal.validation is not None:
            held_out = HeldOut(self, marginal.validation, run.generator)
        pairing = Pairing(self.maps, self.densities, self.maps.codes(marginal.images))
        batches = self._batches(pairing, run.generator)

        def finish() -> None:
            average.copy()
            if held_out is not None:
                held_out.keep_best()

        for step in run.steps(self.iterations, finish):
            x = marginal.draw_clean(-(-self.batch_size // SHARE), run.generator)
            loss = self.rest_error(x)
            if self.flow_steps:
                loss = loss + self.flow.loss(next(batches), run.generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update()
            run.progress(step + 1, run.total, loss.item() if step % 10 == 0 else math.nan)
            if held_out is not None and (step + 1) / run.total * self.checks >= len(held_out.seen):
                held_out.look(average)
        if held_out is not None:
            run.log(f"held-out errors of the flow and of the rest: {held_out}")

    def _batches(self, pairing: Pairing, generator: torch.Generator) -> Iterator[Pairs]:
        """Batches of pairs without end, paired anew once each image was in one."""
        while True:
            yield from zip(
                *(part.split(self.batch_size) for part in pairing.draw(generator)), strict=True
            )

    def rest_error(self, x: Tensor) -> Tensor:
        """The mean squared error, (), of f given the leading coordinates of images (N, C, H, W)."""
        y = self.maps.codes(x)
        error = x - self.maps.images(y, self.densities.likeliest(y)) - self.follow(y)
        return error.flatten(1).square().sum(1).mean()


class HeldOut:
    """Early stopping of both networks, each by its own error on held-out images.

    Every measurement uses the same images, pairs and times.

    Attributes:
        seen: the errors of the flow and of the rest at each look, beginning with closed form.
    """

    @torch.no_grad()
    def __init__(
        self, prior: OTPrior, validation: TruncatedMarginal, generator: torch.Generator
    ) -> None:
        self.prior = prior
        self.images = validation.images
        codes = prior.maps.codes(self.images)
        self.pairs = Pairing(prior.maps, prior.densities, codes).draw(generator)
        self.seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        self.networks = [list(prior.flow.parameters()), list(prior.rest.parameters())]
        self.kept = [[p.clone() for p in network] for network in self.networks]
        self.seen = [self.errors()]

    def __str__(self) -> str:
        return "; ".join(f"{flow:.4g} and {rest:.4g}" for flow, rest in self.seen)

    @torch.no_grad()
    def errors(self) -> tuple[float, float]:
        """The errors under the current weights."""
        generator = torch.Generator().manual_seed(self.seed)
        of_rest = [float(self.prior.rest_error(x)) * len(x) for x in self.images.split(PIECE)]
        of_flow = self.prior.flow.loss(self.pairs, generator)
        return float(of_flow), sum(of_rest) / len(self.images)

    @torch.no_grad()
    def look(self, average: EMA) -> None:
        """Keep the averaged weights that are the best so far; training continues unchanged."""
        live = [[p.clone() for p in network] for network in self.networks]
        average.copy()
        self.seen.append(self.errors())
        for i, network in enumerate(self.networks):
            if self.seen[-1][i] == min(seen[i] for seen in self.seen):
                self.kept[i] = [p.clone() for p in network]
            _copy(live[i], network)

    @torch.no_grad()
    def keep_best(self) -> None:
        """Put the best weights into the prior, which may be those that it has."""
        found = self.errors()
        for i, network in enumerate(self.networks):
            if found[i] > min(seen[i] for seen in self.seen):
                _copy(self.kept[i], network)


def _copy(values: list[Tensor], parameters: list[nn.Parameter]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)

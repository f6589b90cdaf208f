r"""``ot``: a map from normal draws to x_{t_trunc}, by closed forms and sliced distances.

.. math:: f_\phi(z) = s(z) + g_\phi(s(z)), \qquad z \sim N(0, I)

s is the start of the map. It is the prior ``mixture``, closed-form transport to a Gaussian mixture
(:mod:`priorbench_mixture.maps`). g is a network that starts at zero and learns the rest of the map.
It minimises

.. math:: L(\phi) = \sum_s w_s \, SW_2^2 \big( h_s(x_t), h_s(f_\phi(z)) \big)

over feature maps h_s (:mod:`.slices`): the mean over K directions of the squared differences of
sorted projections. Each step draws directions, samples of the marginal and z afresh. There is no
adversary, and there are no labels.

Two other starts show what the mixture is worth. ``start=gaussian`` is the Bures-Wasserstein map to
one Gaussian. ``start=none`` is no map: s is the mean of the images, and g reads z and does not
start at zero. If x_{t_trunc} is emitted, s then adds :math:`\sqrt{1 - \bar\alpha_t} \, z`, the size
of the noise that it carries.

The distance to held-out draws of x_{t_trunc} is measured before the first step and a few times
during training. The averaged weights with the least distance are kept, so by this measure the map
is never worse than its start.

A batch that exceeds memory is sorted first and then back-propagated in pieces, with the same
gradient (Run-Sort-ReRun, Lezama et al., ICML 2021,
http://proceedings.mlr.press/v139/lezama21a.html).
"""

import math
from typing import Literal

import torch
from priorbench_mixture import GaussianMaps
from torch import Tensor

from priorbench import EMA, FitRun, TruncatedMarginal, TruncPrior, cosine, decoder, randn

from .hyperparameters import check_choice, check_least
from .slices import Slicer, parse


class OTPrior(TruncPrior):
    """A transport map: Gaussian maps in closed form, and a residual trained by sliced W2.

    The prior holds the principal axes of the images: d x d numbers, with d = C H W, up to 1,024 of
    them. Of larger images it holds those that can be seen, in half precision
    (:mod:`priorbench_gaussian.axes`).

    Arguments:
        emits: ``x_0``, a clean guess that is diffused, also in training (the loss is always taken
            at x_{t_trunc}); or ``x_t``.
        start: ``mixture``, the prior of that name; ``gaussian``, the closed-form map to one
            Gaussian; or ``none``, no map before the network.
        components, crowd, ridge: of the mixture, as in
            :class:`priorbench_mixture.prior.MixturePrior`.
        latent: the number of leading principal coordinates that the mixture lives in and that the
            network reads; with ``start=none``, the number of latents that it reads.
        slices: the feature maps to slice: ``pixels``, ``convolution`` and ``backbone``, joined by
            "+", each with an optional weight after ":".
        directions: ``pairs`` (half are differences between draws of the data, half are Gaussian),
            ``gaussian`` or ``orthogonal``.
        projections: K, the number of directions per step and feature map.
        ascent: steps of gradient ascent on the directions at each training step, towards
            max-sliced W2 (Deshpande et al., CVPR 2019).
        batch_size: draws per step, of the map and of the marginal each.
        piece: the number of draws that are back-propagated at once.
        iterations: optimiser steps; 0 leaves the closed form.
        learning_rate: the initial rate of Adam; it decays to 0 along a cosine.
        width, depth: the size of the network, see :func:`priorbench.decoder`.
        ema: the decay of the averaged weights.
        checks: how many times the held-out distance is measured during training.
    """

    def __init__(
        self,
        *,
        emits: Literal["x_t", "x_0"] = "x_0",
        start: Literal["mixture", "gaussian", "none"] = "mixture",
        components: int = 100,
        crowd: int = 50,
        ridge: float = 0.03,
        latent: int = 100,
        slices: str = "pixels+backbone",
        directions: str = "pairs",
        projections: int = 128,
        ascent: int = 0,
        batch_size: int = 128,
        piece: int = 256,
        iterations: int = 100,
        learning_rate: float = 1e-3,
        width: int = 512,
        depth: int = 2,
        ema: float = 0.99,
        checks: int = 4,
    ) -> None:
        super().__init__()
        check_choice("x_t", "x_0", emits=emits)
        check_choice("mixture", "gaussian", "none", start=start)
        check_choice("pairs", "gaussian", "orthogonal", directions=directions)
        parse(slices)
        check_least(0, ascent=ascent, iterations=iterations, ridge=ridge)
        check_least(1, components=components, crowd=crowd, latent=latent)
        check_least(1, projections=projections, piece=piece, checks=checks)
        check_least(2, batch_size=batch_size)
        self.emits = emits
        self.start = start
        self.components = components
        self.crowd = crowd
        self.ridge = ridge
        self.latent = latent
        self.slices = slices
        self.directions = directions
        self.projections = projections
        self.ascent = ascent
        self.batch_size = batch_size
        self.piece = piece
        self.iterations = iterations
        self.learning_rate = learning_rate
        self.width = width
        self.depth = depth
        self.ema = ema
        self.checks = checks

    def build(self, shape: tuple[int, int, int]) -> None:
        self.maps = GaussianMaps(shape, self.latent)
        self.residual = decoder(shape, self.maps.coordinates, self.width, self.depth)
        if self.start != "none":  # f starts at s
            layers = torch.nn.Linear | torch.nn.Conv2d
            last = [m for m in self.residual.modules() if isinstance(m, layers)][-1]
            for parameter in last.parameters():
                torch.nn.init.zeros_(parameter)

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """z, (n, 1 + m) standard normal, see :class:`GaussianMaps`."""
        return self.maps.latents(n, generator)

    def source(self, z: Tensor) -> Tensor:
        """The normal draws (N, C, H, W) that are moved, of z (N, 1 + m)."""
        return self.maps.source(z)

    def from_latents(self, z: Tensor) -> Tensor:
        """f(z) as images (N, C, H, W), of z (N, 1 + m)."""
        y, q = self.maps(z), self.maps.coordinates
        standard = y[:, :q] / self.maps.deviation[:q].clamp(min=1e-3)
        residual: Tensor = self.residual(z[:, 1 : 1 + q] if self.start == "none" else standard)
        return self.maps.images(y) + residual

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        components = {"mixture": self.components, "gaussian": 1, "none": 0}[self.start]
        self.maps.fit(marginal, run, self.emits == "x_0", components, self.crowd, self.ridge)
        slicer = Slicer(
            marginal, parse(self.slices), self.directions, self.projections, self.ascent
        )
        parameters = list(self.residual.parameters())
        optimizer = torch.optim.Adam(parameters, lr=self.learning_rate, betas=(0.9, 0.99))
        schedule = cosine(optimizer, run, max(self.iterations, 1))
        average = EMA(parameters, self.ema)
        held_out = HeldOut(self, slicer, run.generator) if marginal.validation is not None else None
        looked = 0

        def finish() -> None:
            average.copy()
            if held_out is not None:
                held_out.keep_best()

        for step in run.steps(self.iterations, finish):
            loss = self._step(slicer, run.generator)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            average.update()
            run.progress(step + 1, run.total, loss if step % 10 == 0 else math.nan)
            if held_out is not None and (step + 1) / run.total * self.checks >= looked + 1:
                looked += 1
                held_out.look(average)
        if held_out is not None:
            run.log(f"held-out sliced distance: {', '.join(f'{d:.4g}' for d in held_out.seen)}")

    def _step(self, slicer: Slicer, generator: torch.Generator) -> float:
        """The loss of one batch. Its gradient is added to the parameters' ``grad``."""
        with torch.no_grad():
            wanted = slicer.features(slicer.marginal.draw(self.batch_size, generator))
        whole = self.batch_size <= self.piece
        zs = list(self.latents(self.batch_size, generator).split(self.piece))
        noise = [randn((len(z), *self.maps.mean.shape), generator, z.device) for z in zs]
        with torch.set_grad_enabled(whole):
            made = [
                slicer.features(self.at_t(z, eps, slicer.marginal))
                for z, eps in zip(zs, noise, strict=True)
            ]
        joined = made[0]
        if not whole:
            joined = [torch.cat(maps).requires_grad_() for maps in zip(*made, strict=True)]
        thetas = slicer.draw([x.detach() for x in joined], wanted, generator)
        loss = slicer.distance(joined, wanted, thetas, slicer.weights(wanted))
        if whole:
            loss.backward()
        else:
            slopes = [g.split(self.piece) for g in torch.autograd.grad(loss, joined)]
            for z, eps, *slope in zip(zs, noise, *slopes, strict=True):
                torch.autograd.backward(slicer.features(self.at_t(z, eps, slicer.marginal)), slope)
        return float(loss.detach())

    def at_t(self, z: Tensor, noise: Tensor, marginal: TruncatedMarginal) -> Tensor:
        """x_{t_trunc} from z: f(z), diffused with ``noise`` if it is a clean guess."""
        x = self.from_latents(z)
        signal = marginal.alpha_bar
        return math.sqrt(signal) * x + math.sqrt(1 - signal) * noise if self.emits == "x_0" else x

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.from_latents(self.latents(n, generator))


class HeldOut:
    """Early stopping by the sliced distance to held-out draws.

    Every measurement uses the same draws, z and directions.
    """

    DRAWS = 512

    @torch.no_grad()
    def __init__(self, prior: OTPrior, slicer: Slicer, generator: torch.Generator) -> None:
        validation = slicer.marginal.validation
        assert validation is not None
        self.prior, self.slicer = prior, slicer
        wanted = [
            slicer.features(x) for x in validation.draw(self.DRAWS, generator).split(prior.piece)
        ]
        self.wanted = [torch.cat(maps) for maps in zip(*wanted, strict=True)]
        self.zs = list(prior.latents(self.DRAWS, generator).split(prior.piece))
        self.noise = [randn((len(z), *slicer.marginal.shape), generator, z.device) for z in self.zs]
        self.thetas = Slicer(
            slicer.marginal, slicer.kinds, prior.directions, 4 * prior.projections
        ).draw(self.wanted, self.wanted, generator)
        self.parameters = list(prior.residual.parameters())
        self.kept = [p.clone() for p in self.parameters]
        self.seen = [self.distance()]

    @torch.no_grad()
    def distance(self) -> float:
        """The distance under the current weights."""
        pairs = zip(self.zs, self.noise, strict=True)
        made = [
            self.slicer.features(self.prior.at_t(z, eps, self.slicer.marginal)) for z, eps in pairs
        ]
        joined = [torch.cat(maps) for maps in zip(*made, strict=True)]
        return float(
            self.slicer.distance(joined, self.wanted, self.thetas, self.slicer.weights(self.wanted))
        )

    @torch.no_grad()
    def look(self, average: EMA) -> None:
        """Keep the averaged weights if they are the best so far; training continues unchanged."""
        live = [p.clone() for p in self.parameters]
        average.copy()
        self.seen.append(self.distance())
        if self.seen[-1] == min(self.seen):
            self.kept = [p.clone() for p in self.parameters]
        for parameter, value in zip(self.parameters, live, strict=True):
            parameter.copy_(value)

    @torch.no_grad()
    def keep_best(self) -> None:
        """Put the best weights into the prior."""
        for parameter, value in zip(self.parameters, self.kept, strict=True):
            parameter.copy_(value)

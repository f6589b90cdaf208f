r"""The optimal-transport prior: a map of normal draws to x_{t_trunc}, by closed forms and sliced
Wasserstein distances.

.. math:: f_\phi(z) = s(z) + g_\phi(s(z)), \qquad z \sim N(0, I)

s is closed-form transport to a Gaussian mixture (:mod:`.gaussian_maps`; with ``components=1`` the
Bures-Wasserstein map to one Gaussian). g is a network, zero at the start, which learns what is
missing by the fall of

.. math:: L(\phi) = \sum_s w_s \, SW_2^2 \big( h_s(x_t), h_s(f_\phi(z)) \big)

over feature maps h_s (:mod:`.slices`): the mean over K directions of the squared differences of
sorted projections, with fresh directions, fresh draws of the marginal and fresh z each step. No
adversary, no labels. The distance to held-out draws of x_{t_trunc} is looked at before the first
step and now and then, and the average of the weights with the least is kept: by that measure the
map is never worse than its closed form.

Batches larger than memory are sorted first and propagated back in pieces (Run-Sort-ReRun, Lezama et
al., ICML 2021, http://proceedings.mlr.press/v139/lezama21a.html), with the same gradient.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from priorbench import EMA, FitRun, TruncatedMarginal, TruncPrior, cosine, decoder, randn

from .gaussian_maps import GaussianMaps
from .slices import Slicer, parse


class OTPrior(TruncPrior):
    """A transport map: Gaussian maps in closed form, and a residual trained by sliced W2.

    Arguments:
        emits: ``x_0``, a clean guess that is diffused (in training too: the loss is always taken at
            x_{t_trunc}), or ``x_t``.
        components: how many Gaussian maps, at most; 1 is the closed-form map between Gaussians.
        crowd: training images for each component, at least: fewer images, fewer components.
        ridge: what is added to the components' variances while they are fitted, in units of pixels
            squared.
        latent: how many leading principal coordinates the mixture lives in and the network reads.
        slices: what is sliced: ``pixels``, ``convolution``, ``backbone``, joined by "+", each with
            a weight after ":".
        directions: ``pairs`` (half towards differences of the data, half Gaussian), ``gaussian`` or
            ``orthogonal``.
        projections: K, directions a step and feature map.
        ascent: steps of ascent on the directions each time, towards max-sliced W2 (Deshpande et
            al., CVPR 2019).
        batch_size: draws a side and step.
        piece: how many of them are propagated back at once.
        iterations: optimiser steps; 0 leaves the closed form.
        learning_rate: Adam's, at the start of a cosine decay to 0.
        width, depth: of the network, see :func:`priorbench.decoder`.
        ema: the decay of the average of the weights that is kept.
        checks: how often the held-out distance is looked at on the way.

    With d = C H W a d x d matrix is kept: 38 MB at 3x32x32, 600 MB at 3x64x64.
    """

    def __init__(
        self,
        *,
        emits: Literal["x_t", "x_0"] = "x_0",
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
        if emits not in ("x_t", "x_0"):
            raise ValueError(f"emits must be x_t or x_0, got {emits!r}")
        if directions not in ("pairs", "gaussian", "orthogonal"):
            raise ValueError(
                f"directions must be pairs, gaussian or orthogonal, got {directions!r}"
            )
        parse(slices)
        least = {"components": 1, "crowd": 1, "latent": 1, "projections": 1, "ascent": 0, "batch_size": 2, "piece": 1,
                 "iterations": 0, "checks": 1}  # fmt: skip
        self.emits = emits
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
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}, got {getattr(self, name)}")
        if not ridge >= 0:
            raise ValueError(f"ridge must be at least 0, got {ridge}")

    def build(self, shape: tuple[int, int, int]) -> None:
        self.start = GaussianMaps(shape, self.latent)
        self.residual = decoder(shape, self.start.coordinates, self.width, self.depth)
        last = [
            m for m in self.residual.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)
        ][-1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` draws of z, (n, 1 + d)."""
        return randn((n, 1 + self.start.mean.numel()), generator, self.start.mean.device)

    def from_latents(self, z: Tensor) -> Tensor:
        """f(z) of z (N, 1 + d), as images (N, C, H, W)."""
        y = self.start(z)
        q = self.start.coordinates
        seen = y[:, :q] / self.start.deviation[:q].clamp(min=1e-3)
        return self.start.images(y) + self.residual(seen)

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        self.start.fit(marginal, run, self.emits == "x_0", self.components, self.crowd, self.ridge)
        slicer = Slicer(
            marginal, parse(self.slices), self.directions, self.projections, self.ascent
        )
        parameters = list(self.residual.parameters())
        optimizer = torch.optim.Adam(parameters, lr=self.learning_rate, betas=(0.9, 0.99))
        schedule = cosine(optimizer, run, max(self.iterations, 1))
        average = EMA(parameters, self.ema)
        held_out = HeldOut(self, slicer, run.generator) if marginal.validation is not None else None
        looked = 0
        for step in run.steps(self.iterations):
            loss = self._step(slicer, run.generator)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            average.update()
            run.progress(step + 1, run.total, loss if step % 10 == 0 else math.nan)
            if held_out is not None and (step + 1) / run.total * self.checks >= looked + 1:
                looked += 1
                held_out.look(average)
        average.copy()
        if held_out is not None:
            run.log(f"held-out sliced distance: {held_out.keep_best()}")

    def _step(self, slicer: Slicer, generator: torch.Generator) -> float:
        """The loss of a batch; its gradient is left in the parameters."""
        with torch.no_grad():
            wanted = slicer.features(slicer.marginal.draw(self.batch_size, generator))
        whole = self.batch_size <= self.piece
        zs = list(self.latents(self.batch_size, generator).split(self.piece))
        noise = [randn((len(z), *self.start.mean.shape), generator, z.device) for z in zs]
        with torch.set_grad_enabled(whole):
            made = [
                slicer.features(self._at_t(z, eps, slicer.marginal))
                for z, eps in zip(zs, noise, strict=True)
            ]
        joined = (
            made[0]
            if whole
            else [torch.cat(maps).requires_grad_() for maps in zip(*made, strict=True)]
        )
        thetas = slicer.draw([x.detach() for x in joined], wanted, generator)
        loss = slicer.distance(joined, wanted, thetas, slicer.weights(wanted))
        if whole:
            loss.backward()
        else:
            slopes = [g.split(self.piece) for g in torch.autograd.grad(loss, joined)]
            for z, eps, *slope in zip(zs, noise, *slopes, strict=True):
                torch.autograd.backward(slicer.features(self._at_t(z, eps, slicer.marginal)), slope)
        return float(loss.detach())

    def _at_t(self, z: Tensor, noise: Tensor, marginal: TruncatedMarginal) -> Tensor:
        """f(z) at x_{t_trunc}, by the given noise where it is a clean guess."""
        x = self.from_latents(z)
        signal = marginal.alpha_bar
        return math.sqrt(signal) * x + math.sqrt(1 - signal) * noise if self.emits == "x_0" else x

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.from_latents(self.latents(n, generator))


class HeldOut:
    """Early stopping: the sliced distance to held-out draws, by the same draws, z and directions
    each time.
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
        pairs = zip(self.zs, self.noise, strict=True)
        made = [
            self.slicer.features(self.prior._at_t(z, eps, self.slicer.marginal)) for z, eps in pairs
        ]
        joined = [torch.cat(maps) for maps in zip(*made, strict=True)]
        return float(
            self.slicer.distance(joined, self.wanted, self.thetas, self.slicer.weights(self.wanted))
        )

    @torch.no_grad()
    def look(self, average: EMA) -> None:
        """Keep the average of the weights if it is the best so far; training goes on from where it
        was.
        """
        live = [p.clone() for p in self.parameters]
        average.copy()
        self.seen.append(self.distance())
        if self.seen[-1] == min(self.seen):
            self.kept = [p.clone() for p in self.parameters]
        for parameter, value in zip(self.parameters, live, strict=True):
            parameter.copy_(value)

    @torch.no_grad()
    def keep_best(self) -> str:
        for parameter, value in zip(self.parameters, self.kept, strict=True):
            parameter.copy_(value)
        return ", ".join(f"{d:.4g}" for d in self.seen)

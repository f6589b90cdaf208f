r"""The sliced-Wasserstein transport map.

:math:`f_\phi(z), z \sim N(0, I)` is trained so that

.. math:: L(\phi) = \sum_s w_s \, SW_2^2 \big( h_s(x_{t}), h_s(f_\phi(z)) \big)

falls: the mean over K random directions of the squared differences of sorted projections, with fresh directions, fresh
draws of the marginal and fresh z each step; then it is frozen. No adversary, no labels. The map starts as the
optimal one
between Gaussians, :math:`m + S^{1/2} z` with the marginal's moments, and a network learns what is missing,

.. math:: f_\phi(z) = m + S^{1/2} z + g_\phi(z), \qquad g_\phi = 0 \text{ at the start}

(in coordinates of z along the eigenvectors of S, which leaves N(0, I) as it is). h_s says what is sliced:

* ``pixels``: x_t itself (Deshpande et al., CVPR 2018, https://arxiv.org/abs/1803.11188);
* ``backbone``: what the frozen denoiser's down and middle blocks make of x_t at t_trunc. Random directions in
pixel space
  see little beyond two moments (projections of high-dimensional data are nearly Gaussian); the denoiser's features do.

The scale w_s is one over the mean variance of the features, so that each map counts the same.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from priorbench import EMA, FitRun, TruncatedMarginal, TruncPrior, cosine, decoder, randn

from .directions import make_directions
from .loss import sliced_power

SLICES = ("pixels", "backbone")


class OTPrior(TruncPrior):
    """A transport map trained by sliced W2.

    Arguments:
        emits: ``x_t``, or ``x_0``, a clean guess that is diffused (in training too: the loss is always taken at
        x_{t_trunc}).
        slices: what is sliced, one or several of ``pixels`` and ``backbone``, joined by "+".
        projections: K, random directions a step and feature map.
        batch_size: draws a side and step.
        iterations: optimiser steps.
        learning_rate: Adam's, at the start of a cosine decay to 0.
        latent: how many leading coordinates of z the network reads. The Gaussian part reads all d = C H W of them by a
            d x d matrix, which is kept with the prior: 38 MB at 3x32x32, 600 MB at 3x64x64.
        width, depth: of the network, see :func:`priorbench.decoder`.
        ema: the decay of the average of the weights that is kept.
    """

    mean: Tensor
    factor: Tensor

    def __init__(
        self,
        *,
        emits: Literal["x_t", "x_0"] = "x_t",
        slices: str = "pixels+backbone",
        projections: int = 128,
        batch_size: int = 128,
        iterations: int = 160,
        learning_rate: float = 3e-3,
        latent: int = 64,
        width: int = 512,
        depth: int = 3,
        ema: float = 0.99,
    ) -> None:
        super().__init__()
        if emits not in ("x_t", "x_0"):
            raise ValueError(f"emits must be x_t or x_0, got {emits!r}")
        wrong = [s for s in str(slices).split("+") if s not in SLICES]
        if wrong:
            raise ValueError(f"slices must be of {', '.join(SLICES)} joined by '+', got {slices!r}")
        for name, value in {
            "projections": projections,
            "batch_size": batch_size,
            "iterations": iterations,
        }.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.emits = emits
        self.slices = slices
        self.projections = projections
        self.batch_size = batch_size
        self.iterations = iterations
        self.learning_rate = learning_rate
        self.latent = latent
        self.width = width
        self.depth = depth
        self.ema = ema

    def build(self, shape: tuple[int, int, int]) -> None:
        d = math.prod(shape)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("factor", torch.zeros(d, d))
        self.residual = decoder(shape, min(self.latent, d), self.width, self.depth)

    def start(self, marginal: TruncatedMarginal) -> None:
        """Set the map to the closed-form one between Gaussians, z -> m + S^(1/2) z, and the residual to zero."""
        x = marginal.images.flatten(1).cpu().double()
        signal, noise = (marginal.alpha_bar, 1 - marginal.alpha_bar) if self.emits == "x_t" else (1.0, 0.0)
        self.mean.copy_(math.sqrt(signal) * x.mean(0).view(marginal.shape))
        values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
        scale = (signal * values.clamp(min=0) + noise).sqrt()
        self.factor.copy_((vectors * scale).flip(1))  # by falling variance: the residual reads the leading ones
        last = [m for m in self.residual.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)][-1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def map(self, z: Tensor) -> Tensor:
        """f(z) of z (N, d), as images (N, C, H, W)."""
        return self.mean + (z @ self.factor.T).view(-1, *self.mean.shape) + self.residual(z[:, : self.latent])

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        self.start(marginal)
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate, betas=(0.9, 0.99))
        schedule = cosine(optimizer, run, self.iterations)
        average = EMA(self.parameters(), self.ema)
        for step in run.steps(self.iterations):
            with torch.no_grad():
                wanted = self.sliced(marginal.draw(self.batch_size, run.generator), marginal)
            made = self.map(randn((self.batch_size, self.mean.numel()), run.generator, marginal.device))
            if self.emits == "x_0":
                made = marginal.diffuse(made, run.generator)
            loss = torch.zeros((), device=marginal.device)
            for x, y in zip(self.sliced(made, marginal), wanted, strict=True):
                theta = make_directions("gaussian", self.projections, x.shape[1], run.generator, x.device)
                # d x the mean over unit directions is the squared length per image, whatever d is
                loss = loss + math.prod(y.shape[1:]) * sliced_power(x, y, theta) / y.var(0).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update()
            run.progress(step + 1, run.total, loss.item() if step % 10 == 0 else float("nan"))
        average.copy()

    def sliced(self, x: Tensor, marginal: TruncatedMarginal) -> list[Tensor]:
        """The feature maps h_s(x) that are sliced, each (N, d_s)."""
        maps = [x] if "pixels" in self.slices else []
        if "backbone" in self.slices:
            maps += marginal.diffusion.features(x, marginal.t_trunc)
        return [m.flatten(1) for m in maps]

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.map(randn((n, self.mean.numel()), generator, self.device))

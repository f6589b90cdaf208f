r"""``sinf``: sliced iterative transport, without a network and without back-propagation.

Every layer moves points x along K orthonormal directions:

.. math:: x \leftarrow x + \sum_k
          \big( \psi_k(\theta_k \cdot x) - \theta_k \cdot x \big) \, \theta_k,
          \qquad \psi_k = F^{-1}_{\text{data}, k} \circ F_{x, k}

Gradient ascent finds the directions along which the points and the data lie furthest apart
(max-K-sliced Wasserstein distance). :math:`\psi_k` is the optimal map between the two laws on the
line, which sorting gives. The points start from the Gaussian with the moments of the data. The
first layers move whole images. Later layers move ever smaller patches, tiled from a random corner,
because few samples in many dimensions do not show small structure.

The method is the generator SIG of Dai and Seljak, "Sliced Iterative Normalizing Flows", ICML 2021,
https://arxiv.org/abs/2007.00674

Each layer is fitted to fresh draws of x_{t_trunc}. The sliced distance to held-out draws is
measured several times, and the layers up to its minimum are kept.
"""

import math
from typing import Literal

import torch
from priorbench_gaussian import GaussianMap
from torch import Tensor
from torch.nn import functional as F

from priorbench import FitRun, TruncatedMarginal, TruncPrior, check_choice, check_least, randn

from .directions import make_directions
from .loss import ascend, sliced_power

LOOKS = 20  # measurements of the held-out distance
PARTS = ("corner", "theta", "source", "target")  # of a layer, see SINFPrior._layer


class SINFPrior(TruncPrior):
    """Layers of one-dimensional optimal maps.

    Arguments:
        emits: the law that is transported to: ``x_t`` or ``x_0``.
        iterations: the number of layers.
        directions: K, for each layer and patch; at most the number of values in a patch.
        particles: the number of points that are moved during the fit, and of draws of the data
            that each layer is fitted to.
        knots: the number of quantiles that each one-dimensional map is stored by. The map is linear
            between them and a shift beyond them.
        ascent: steps of gradient ascent on the directions.
        smallest: the side of the smallest patches, in pixels.
    """

    def __init__(
        self,
        *,
        emits: Literal["x_t", "x_0"] = "x_t",
        iterations: int = 200,
        directions: int = 16,
        particles: int = 4000,
        knots: int = 100,
        ascent: int = 10,
        smallest: int = 4,
    ) -> None:
        super().__init__()
        check_choice("x_t", "x_0", emits=emits)
        check_least(0, iterations=iterations, ascent=ascent)
        check_least(1, directions=directions, smallest=smallest)
        check_least(2, particles=particles, knots=knots)
        self.emits = emits
        self.iterations = iterations
        self.directions = directions
        self.particles = particles
        self.knots = knots
        self.ascent = ascent
        self.smallest = smallest

    def build(self, shape: tuple[int, int, int]) -> None:
        self.start = GaussianMap(shape)
        self.sides = [min(shape[1:])]
        while self.sides[-1] // 2 >= self.smallest:
            self.sides.append(self.sides[-1] // 2)
        for level in range(len(self.sides)):  # the layers of each side, stacked by the fit
            for part in PARTS:
                self.register_buffer(f"{part}_{level}", torch.empty(0))

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        g = run.generator
        self.start.fit(marginal.images, 1.0 if self.emits == "x_0" else marginal.alpha_bar)
        x = self.start(self.latents(self.particles, g))
        held_out = None
        if marginal.validation is not None:
            held_out = HeldOutDraws(self._draw(marginal.validation, g), g)
        layers: list[tuple[int, list[Tensor]]] = []
        seen = [(held_out.distance(x), 0)] if held_out else []  # (distance, layers so far)

        def finish() -> None:
            self._keep(layers[: min(seen)[1] if seen else len(layers)])

        for step in run.steps(self.iterations, finish):
            level = min(int(run.share * len(self.sides)), len(self.sides) - 1)
            layer = self._layer(x, self._draw(marginal, g), self.sides[level], g)
            x = self._through(x, self.sides[level], *layer)
            layers.append((level, layer))
            distance = math.nan
            if held_out and (step + 1) % max(1, run.total // LOOKS) == 0:
                distance = held_out.distance(x)
                seen.append((distance, len(layers)))
            run.progress(step + 1, run.total, distance)
        best = min(seen)[1] if seen else len(layers)
        run.log(f"{best} of {len(layers)} layers kept, by the held-out sliced distance")

    def _draw(self, marginal: TruncatedMarginal, generator: torch.Generator) -> Tensor:
        draw = marginal.draw_clean if self.emits == "x_0" else marginal.draw
        return draw(self.particles, generator)

    def _keep(self, layers: list[tuple[int, list[Tensor]]]) -> None:
        """Keep (level, layer) pairs in the buffers of their levels."""
        for level in range(len(self.sides)):
            mine = [layer for of, layer in layers if of == level]
            # not strict: a level without layers has no parts, and keeps its empty buffers
            for part, tensors in zip(PARTS, zip(*mine, strict=True), strict=False):
                setattr(self, f"{part}_{level}", torch.stack(tensors))

    @torch.no_grad()
    def _layer(
        self, x: Tensor, data: Tensor, side: int, generator: torch.Generator
    ) -> list[Tensor]:
        """A layer over P patches of d values.

        Returns:
            corner (2,), theta (P, K, d), source and target (P, K, knots). The last two are the
            quantiles of the points and of the data along theta.
        """
        corners = [
            torch.randint(size, (), generator=generator, device=generator.device)
            for size in x.shape[2:]
        ]
        corner = torch.stack(corners)
        points, wanted = (_patches(y, side, corner) for y in (x, data))
        q = (torch.arange(self.knots, device=x.device) + 0.5) / self.knots
        thetas, sources, targets = [], [], []
        for u, v in zip(points, wanted, strict=True):
            count = min(self.directions, u.shape[1])
            theta = make_directions("orthogonal", count, u.shape[1], generator, x.device)
            for _ in range(self.ascent):
                with torch.enable_grad():
                    theta = ascend(u, v, theta, steps=1)
                theta = torch.linalg.qr(theta.T).Q.T
            thetas.append(theta)
            sources.append(torch.quantile(theta @ u.T, q, dim=1).T)
            targets.append(torch.quantile(theta @ v.T, q, dim=1).T)
        return [
            corner.to(x.device),
            torch.stack(thetas),
            torch.stack(sources),
            torch.stack(targets),
        ]

    def _through(
        self, x: Tensor, side: int, corner: Tensor, theta: Tensor, source: Tensor, target: Tensor
    ) -> Tensor:
        """Points x (N, C, H, W) moved by one layer."""
        points = _patches(x, side, corner)
        along = theta @ points.mT  # (P, K, N)
        right = torch.searchsorted(source, along.contiguous()).clamp(1, self.knots - 1)
        low, high = source.gather(2, right - 1), source.gather(2, right)
        start, end = target.gather(2, right - 1), target.gather(2, right)
        inside = ((along - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
        beyond = along - torch.minimum(torch.maximum(along, source[..., :1]), source[..., -1:])
        moved = torch.lerp(start, end, inside) + beyond
        return _unpatched(x, points + (moved - along).mT @ theta, side, corner)

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """z, (n, C, H, W) standard normal."""
        return randn((n, *self.start.mean.shape), generator, self.device)

    def source(self, z: Tensor) -> Tensor:
        """z itself: the normal draws (N, C, H, W) that are moved."""
        return z

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.from_latents(self.latents(n, generator))

    def from_latents(self, z: Tensor) -> Tensor:
        """f(z) as images (N, C, H, W), of z (N, C, H, W)."""
        x: Tensor = self.start(z)
        for level, side in enumerate(self.sides):
            parts = [getattr(self, f"{part}_{level}") for part in PARTS]
            for layer in zip(*parts, strict=True):
                x = self._through(x, side, *layer)
        return x


class HeldOutDraws:
    """The sliced distance to held-out draws, along the same directions every time."""

    def __init__(self, draws: Tensor, generator: torch.Generator) -> None:
        self.draws = draws.flatten(1)
        d = self.draws.shape[1]
        self.directions = make_directions("gaussian", 512, d, generator, draws.device)

    def distance(self, x: Tensor) -> float:
        """d SW_2^2 between points x (N, C, H, W) and the draws."""
        return self.draws.shape[1] * float(sliced_power(x.flatten(1), self.draws, self.directions))


def _patches(x: Tensor, side: int, corner: Tensor) -> Tensor:
    """The whole patches of images (N, C, H, W), shifted cyclically by ``corner``.

    Returns:
        The patches, (P, N, C side side).
    """
    x = torch.roll(x, (-int(corner[0]), -int(corner[1])), (2, 3)) if side < min(x.shape[2:]) else x
    return F.unfold(x, side, stride=side).permute(2, 0, 1).contiguous()


def _unpatched(x: Tensor, patches: Tensor, side: int, corner: Tensor) -> Tensor:
    """``x`` with its patches replaced."""
    whole = side >= min(x.shape[2:])
    shift = (0, 0) if whole else (int(corner[0]), int(corner[1]))
    height, width = (s // side * side for s in x.shape[2:])
    x = torch.roll(x, (-shift[0], -shift[1]), (2, 3)).clone()
    x[:, :, :height, :width] = F.fold(patches.permute(1, 2, 0), (height, width), side, stride=side)
    return torch.roll(x, shift, (2, 3))

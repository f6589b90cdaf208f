r"""Sliced iterative transport: no network, no back-propagation.

.. math:: x \leftarrow x + \sum_k \big( \psi_k(\theta_k \cdot x) - \theta_k \cdot x \big) \, \theta_k,
          \qquad \psi_k = F^{-1}_{\text{data}, k} \circ F_{x, k}

layer after layer: along K orthonormal directions that tell the moved points and the data furthest
apart (max-K-sliced Wasserstein distance, by ascent), each coordinate is moved by the optimal map
between the two laws on a line, which sorting gives. It starts from the Gaussian with the data's
moments; the first layers see whole images, later ones patches of ever smaller side, tiled from a
random corner: small structure cannot be learned from few samples in many dimensions.

Dai and Seljak, "Sliced Iterative Normalizing Flows" (the generator, SIG), ICML 2021,
https://arxiv.org/abs/2007.00674

Each layer is fitted to fresh draws of x_{t_trunc}. The sliced distance to held-out draws is looked
at now and then, and the layers up to its least are kept.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from priorbench import FitRun, TruncatedMarginal, TruncPrior, randn

from .directions import make_directions
from .gaussian_maps import GaussianMaps
from .loss import ascend, sliced_power

LOOKS = 20  # at the held-out distance


class SINFPrior(TruncPrior):
    """Layers of one-dimensional optimal maps.

    Arguments:
        emits: ``x_t``, or ``x_0``: the law that is transported to.
        iterations: layers.
        directions: K, for each layer and patch; at most as many as a patch has values.
        particles: points that are moved while fitting, and draws of the data that each layer is
            fitted to.
        knots: quantiles by which each one-dimensional map is kept; between them it is linear,
            beyond them a shift.
        ascent: steps towards the directions that tell most.
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
        if emits not in ("x_t", "x_0"):
            raise ValueError(f"emits must be x_t or x_0, got {emits!r}")
        self.emits = emits
        self.iterations = iterations
        self.directions = directions
        self.particles = particles
        self.knots = knots
        self.ascent = ascent
        self.smallest = smallest
        least = {
            "iterations": 0,
            "directions": 1,
            "particles": 2,
            "knots": 2,
            "ascent": 0,
            "smallest": 1,
        }
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}, got {getattr(self, name)}")

    def build(self, shape: tuple[int, int, int]) -> None:
        self.start = GaussianMaps(shape, math.prod(shape))
        self.sides = [min(shape[1:])]
        while self.sides[-1] // 2 >= self.smallest:
            self.sides.append(self.sides[-1] // 2)
        for level in range(
            len(self.sides)
        ):  # of each layer, stacked: how many there are depends on the fit
            for name in ("corner", "theta", "source", "target"):
                self.register_buffer(f"{name}_{level}", torch.empty(0))

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        clean = self.emits == "x_0"
        self.start.fit(marginal, run, clean, components=1, crowd=1, ridge=0.0)
        g = run.generator
        draw = (lambda m, n: m.draw_clean(n, g)) if clean else (lambda m, n: m.draw(n, g))
        x = self._begin(self.particles, g)
        held_out, theta = None, None
        if marginal.validation is not None:
            held_out = draw(marginal.validation, self.particles).flatten(1)
            theta = make_directions("gaussian", 512, held_out.shape[1], g, x.device)
        layers: list[tuple[int, list[Tensor]]] = []
        seen: list[tuple[float, int]] = []

        def look() -> float:
            if held_out is None or theta is None:
                return math.nan
            found = held_out.shape[1] * float(sliced_power(x.flatten(1), held_out, theta))
            seen.append((found, len(layers)))
            return found

        look()
        for step in run.steps(self.iterations):
            level = min(int(run.share * len(self.sides)), len(self.sides) - 1)
            layer = self._layer(x, draw(marginal, self.particles), self.sides[level], g)
            x = self._through(x, self.sides[level], *layer)
            layers.append((level, layer))
            every = max(1, run.total // LOOKS)
            run.progress(step + 1, run.total, look() if (step + 1) % every == 0 else math.nan)
        best = min(seen)[1] if seen else len(layers)
        for level in range(len(self.sides)):
            mine = [layer for of, layer in layers[:best] if of == level]
            for name, tensors in zip(
                ("corner", "theta", "source", "target"), zip(*mine, strict=True), strict=False
            ):
                setattr(self, f"{name}_{level}", torch.stack(tensors))
        run.log(f"{best} of {len(layers)} layers kept, by the held-out sliced distance")

    def _begin(self, n: int, generator: torch.Generator) -> Tensor:
        z = randn((n, 1 + self.start.mean.numel()), generator, self.start.mean.device)
        return self.start.images(self.start(z))

    @torch.no_grad()
    def _layer(
        self, x: Tensor, data: Tensor, side: int, generator: torch.Generator
    ) -> list[Tensor]:
        """corner (2,), theta (P, K, d), source and target (P, K, knots) of a layer over P patches
        of d values.
        """
        corner = torch.stack(
            [
                torch.randint(s, (), generator=generator, device=generator.device)
                for s in x.shape[2:]
            ]
        )
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
        points = _patches(x, side, corner)
        along = theta @ points.mT  # (P, K, N)
        right = torch.searchsorted(source, along.contiguous()).clamp(1, self.knots - 1)
        low, high = source.gather(2, right - 1), source.gather(2, right)
        start, end = target.gather(2, right - 1), target.gather(2, right)
        inside = ((along - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
        beyond = along - torch.minimum(torch.maximum(along, source[..., :1]), source[..., -1:])
        moved = torch.lerp(start, end, inside) + beyond
        return _unpatched(x, points + (moved - along).mT @ theta, side, corner)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        x = self._begin(n, generator)
        for level, side in enumerate(self.sides):
            parts = [
                getattr(self, f"{name}_{level}") for name in ("corner", "theta", "source", "target")
            ]
            for layer in zip(*parts, strict=True):
                x = self._through(x, side, *layer)
        return x


def _patches(x: Tensor, side: int, corner: Tensor) -> Tensor:
    """The whole patches of images (N, C, H, W), moved round by ``corner``: (P, N, C side side)."""
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

r"""The loss of the transport map: feature maps h_s of x_{t_trunc}, each sliced along directions.

* ``pixels``: x_t itself (Deshpande et al., CVPR 2018, https://arxiv.org/abs/1803.11188).
* ``convolution``: x_t along convolution slices (Nguyen and Ho, NeurIPS 2022,
  https://arxiv.org/abs/2204.01188).
* ``backbone``: the outputs of each down block and of the middle block of the frozen denoiser for
  x_t at t_trunc. Projections of high-dimensional data are nearly Gaussian, so random directions in
  pixel space see little beyond two moments; the denoiser's features see more.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from priorbench import TruncatedMarginal, randn

from .directions import convolution_directions, make_directions
from .loss import ascend, sliced_power

FEATURES = ("pixels", "convolution", "backbone")


def parse(slices: str) -> dict[str, float]:
    """The weights of the feature maps, by name: reads ``pixels+backbone:2``."""
    found: dict[str, float] = {}
    for part in str(slices).split("+"):
        kind, _, weight = part.strip().partition(":")
        try:
            found[kind] = float(weight or 1)
        except ValueError:
            found[kind] = math.nan
        if kind not in FEATURES or not 0 < found[kind] < math.inf:
            raise ValueError(
                f"slices must name {', '.join(FEATURES)}, joined by '+', each with a weight "
                f"after ':' unless the weight is 1, got {slices!r}"
            )
    return found


@dataclass
class Slicer:
    """The sliced distance between batches at x_{t_trunc}, summed over feature maps of equal scale.

    Attributes:
        kinds: the feature maps with their weights, see :func:`parse`.
        directions: ``gaussian``, ``orthogonal`` or ``pairs``. With ``pairs`` half of them are
            differences between two draws of the target, which follow the variation of the data,
            and half are Gaussian.
        projections: K, the number of directions for each feature map.
        ascent: the steps of gradient ascent on the directions (max-sliced); 0 for none.
    """

    marginal: TruncatedMarginal
    kinds: dict[str, float]
    directions: str
    projections: int
    ascent: int = 0

    def features(self, x: Tensor) -> list[Tensor]:
        """h_s(x) of x (N, C, H, W), each (N, d_s)."""
        maps = [x.flatten(1) for kind in self.kinds if kind != "backbone"]
        if "backbone" in self.kinds:
            maps += [
                m.flatten(1) for m in self.marginal.diffusion.features(x, self.marginal.t_trunc)
            ]
        return maps

    def weights(self, wanted: list[Tensor]) -> list[float]:
        """The weight of each map: the given one over the map's mean variance.

        Maps of equal given weights then count the same.
        """
        asked = [w for kind, w in self.kinds.items() if kind != "backbone"]
        asked += [self.kinds.get("backbone", 1.0)] * (len(wanted) - len(asked))
        return [
            w * y.shape[1] / max(float(y.var(0).sum()), 1e-12)
            for w, y in zip(asked, wanted, strict=True)
        ]

    def draw(
        self, made: list[Tensor], wanted: list[Tensor], generator: torch.Generator
    ) -> list[Tensor]:
        """The directions for each map, (K, d_s)."""
        kinds = [kind for kind in self.kinds if kind != "backbone"]
        kinds += ["backbone"] * (len(wanted) - len(kinds))
        found = []
        for kind, x, y in zip(kinds, made, wanted, strict=True):
            theta = self._directions(kind, y, generator)
            found.append(ascend(x, y, theta, self.ascent) if self.ascent else theta)
        return found

    def _directions(self, kind: str, wanted: Tensor, generator: torch.Generator) -> Tensor:
        """Directions (K, d_s) for the map ``kind`` of draws (M, d_s) of the target."""
        n, (count, dim), device = self.projections, wanted.shape, wanted.device
        if kind == "convolution":
            return convolution_directions(n, self.marginal.shape, generator, device)
        if self.directions != "pairs":
            return make_directions(self.directions, n, dim, generator, device)
        i, j = (
            torch.randint(count, (n // 2,), generator=generator, device=generator.device)
            for _ in range(2)
        )
        noise = randn((n - n // 2, dim), generator, device)
        return F.normalize(torch.cat([wanted[i.to(device)] - wanted[j.to(device)], noise]), dim=1)

    def distance(
        self, made: list[Tensor], wanted: list[Tensor], thetas: list[Tensor], weights: list[float]
    ) -> Tensor:
        """sum_s w_s SW_2^2 of (N, d_s) and (M, d_s), a scalar."""
        parts = [
            w * sliced_power(x, y, theta)
            for x, y, theta, w in zip(made, wanted, thetas, weights, strict=True)
        ]
        return torch.stack(parts).sum()

r"""What the transport map is trained on: feature maps h_s of x_{t_trunc}, and directions to slice
each along.

* ``pixels``: x_t itself (Deshpande et al., CVPR 2018, https://arxiv.org/abs/1803.11188);
* ``convolution``: x_t along convolution slices (Nguyen and Ho, NeurIPS 2022,
  https://arxiv.org/abs/2204.01188);
* ``backbone``: what each down block and the middle block of the frozen denoiser makes of x_t, read
  at t_trunc. Random directions in pixel space see little beyond two moments (projections of
  high-dimensional data are nearly Gaussian); the denoiser's features do.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from priorbench import TruncatedMarginal, randn

from .directions import convolution_directions, make_directions
from .loss import ascend, sliced_power

KINDS = ("pixels", "convolution", "backbone")


def parse(slices: str) -> dict[str, float]:
    """``pixels+backbone:2`` as kinds with their weights."""
    found: dict[str, float] = {}
    for part in str(slices).split("+"):
        kind, _, weight = part.strip().partition(":")
        try:
            found[kind] = float(weight or 1)
        except ValueError:
            found[kind] = math.nan
        if kind not in KINDS or not 0 < found[kind] < math.inf:
            raise ValueError(
                f"slices must be of {', '.join(KINDS)}, joined by '+', each with a weight after ':' if not 1, "
                f"got {slices!r}"
            )
    return found


@dataclass
class Slicer:
    """The sliced distance between batches at x_{t_trunc}, summed over feature maps of equal scale.

    Attributes:
        kinds: feature maps with their weights, see :func:`parse`.
        directions: ``gaussian``, ``orthogonal``, or ``pairs``: half of them Gaussian, half from one
            draw of the target to another, which follow what the data vary in.
        projections: K, for each feature map.
        ascent: steps of gradient ascent on the directions (max-sliced), 0 for none.
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
        """One over the mean variance of each map, so that each counts the same, times what was
        asked for.
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
        """Directions for each map, (K, d_s)."""
        kinds = [kind for kind in self.kinds if kind != "backbone"]
        kinds += ["backbone"] * (len(wanted) - len(kinds))
        found = []
        for kind, x, y in zip(kinds, made, wanted, strict=True):
            if kind == "convolution":
                theta = convolution_directions(
                    self.projections, self.marginal.shape, generator, y.device
                )
            elif self.directions == "pairs":
                half = self.projections // 2
                i, j = (
                    torch.randint(len(y), (half,), generator=generator, device=generator.device)
                    for _ in range(2)
                )
                noise = randn((self.projections - half, y.shape[1]), generator, y.device)
                theta = F.normalize(
                    torch.cat([y[i.to(y.device)] - y[j.to(y.device)], noise]), dim=1
                )
            else:
                theta = make_directions(
                    self.directions, self.projections, y.shape[1], generator, y.device
                )  # type: ignore[arg-type]
            found.append(ascend(x, y, theta, self.ascent) if self.ascent else theta)
        return found

    def distance(
        self, made: list[Tensor], wanted: list[Tensor], thetas: list[Tensor], weights: list[float]
    ) -> Tensor:
        """sum_s w_s SW_2^2 of (N, d_s) and (M, d_s), where a map's mean variance is the unit."""
        parts = [
            w * sliced_power(x, y, theta)
            for x, y, theta, w in zip(made, wanted, thetas, weights, strict=True)
        ]
        return torch.stack(parts).sum()

r"""How optimal a map is: what moving z to f(z) costs, beside the least that it could.

.. math:: \frac{1}{d} \, \mathbb{E} \lVert f(z) - z \rVert^2 \;\ge\; \frac{1}{d} \, W_2^2

There is equality for the gradient of a convex function alone, the Monge map (Brenier, 1991). What
W2 is, is known only from two sides:

* The exact W2 between n points z and the same n points f(z), in any pairing, is too large in the
  mean (by Jensen's inequality, as W2^2 is convex in both laws). In many dimensions few points have
  no cheaper pairing than the one that they come in, whatever the map.
* The W2 of the Gaussians with their moments is too small (Gelbrich, 1990), but for what the moments
  of n points are wrong by.
"""

from math import nan, prod

import torch
from torch import Tensor

from ..diffusion.process import generator_for, randn
from ..metrics.wasserstein import exact_w2, gaussian_w2, sliced_w2
from ..plan.spec import CellSpec
from ..prior import HasLatents, HasSource, TruncPrior
from ..tables.columns import Row

POINTS = 1000  # at most; the exact distance costs their number cubed
STRAY = 2.0  # times the sliced distance of as many normal draws: what lies farther is not normal
UNKNOWN: Row = {f"transport_cost{end}": nan for end in ("", "_points", "_gaussian")}


@torch.no_grad()
def transport_costs(prior: TruncPrior, spec: CellSpec, shape: tuple[int, int, int]) -> Row:
    """``transport_cost`` and the two columns beside it, in squared pixels per number of an image.

    They are NaN for a prior that shows no latents of as many numbers as an image has.

    Raises:
        ValueError: if the points that the prior says it moves are not standard normal.
    """
    if not isinstance(prior, HasLatents):
        return UNKNOWN
    n = min(POINTS, spec.n_samples)
    z = prior.latents(n, generator_for(spec.seed, "transport"))
    if isinstance(prior, HasSource):
        z_there = prior.source(z)
    elif z[0].numel() == prod(shape):
        z_there = z
    else:
        return UNKNOWN
    moved = torch.cat([prior.from_latents(part) for part in z.split(spec.batch_size)])
    source, target = (x.as_subclass(Tensor).detach().cpu().flatten(1) for x in (z_there, moved))
    if source.shape != target.shape:
        raise ValueError(
            f"source must give a point of {target.shape[1]} numbers for each z, got "
            f"{tuple(source.shape)} for {n}"
        )
    _check_normal(source, spec)
    d = source.shape[1]
    return {
        "transport_cost": float((target.double() - source.double()).square().sum(1).mean()) / d,
        "transport_cost_points": exact_w2(source, target) ** 2 / d,
        "transport_cost_gaussian": gaussian_w2(source, target) ** 2 / d,
    }


def _check_normal(points: Tensor, spec: CellSpec) -> None:
    """Points (N, d) must be as near to standard normal draws as other such draws are."""
    generator = generator_for(spec.seed, "transport check")
    one, other = (randn(tuple(points.shape), generator) for _ in range(2))
    found, usual = sliced_w2(points, one, generator), sliced_w2(other, one, generator)
    if not found <= STRAY * usual:
        raise ValueError(
            f"the points that the map moves must be standard normal: their sliced distance to "
            f"such draws is {found:.3g}, that of others {usual:.3g}"
        )

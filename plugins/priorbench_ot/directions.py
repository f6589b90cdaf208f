r"""Directions to slice along: random ones, and those that separate two batches best.

* ``gaussian``: normalised Gaussian draws, uniform on the sphere.
* ``orthogonal``: also uniform, and orthogonal within each d of them. The mean distance is the same,
  with less variance (Rowland et al., AISTATS 2019,
  http://proceedings.mlr.press/v89/rowland19a.html).
* max-sliced: a few steps of gradient ascent on the distance from either of these (Deshpande et al.,
  CVPR 2019, https://arxiv.org/abs/1904.05877).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from priorbench import randn


def make_directions(
    kind: str,
    n: int,
    dim: int,
    generator: torch.Generator,
    device: torch.device | str | None = None,
) -> Tensor:
    """``n`` directions (n, dim), each uniform on the unit sphere of R^dim.

    Arguments:
        kind: ``gaussian`` or ``orthogonal``.
    """
    if kind == "gaussian":
        return F.normalize(randn((n, dim), generator, device), dim=1)
    if kind != "orthogonal":
        raise ValueError(f"directions must be a tensor, 'gaussian' or 'orthogonal', got {kind!r}")
    blocks = []
    for _ in range(-(-n // dim)):
        q, r = torch.linalg.qr(randn((dim, min(dim, n)), generator, device))
        blocks.append((q * r.diagonal().sign()).T)  # the signs make q uniform
    return torch.cat(blocks)[:n]

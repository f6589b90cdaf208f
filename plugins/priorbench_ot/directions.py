r"""Directions to slice along: random ones, and those that separate two batches best.

* ``gaussian``: normalised Gaussian draws, uniform on the sphere.
* ``orthogonal``: also uniform, and orthogonal within each d of them. The mean distance is the same,
  with less variance (Rowland et al., AISTATS 2019,
  http://proceedings.mlr.press/v89/rowland19a.html).
* convolution slices, for images: a stack of random convolutions reduces an image to one number, so
  a direction is a product of small kernels and joins neighbouring pixels (Nguyen and Ho, NeurIPS
  2022, https://arxiv.org/abs/2204.01188). Without activations the stack is linear, and a direction
  is its response to single pixels.
* max-sliced: a few steps of gradient ascent on the distance from any of these (Deshpande et al.,
  CVPR 2019, https://arxiv.org/abs/1904.05877).
"""

import math

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


def convolution_directions(
    n: int,
    shape: tuple[int, int, int],
    generator: torch.Generator,
    device: torch.device | str | None = None,
) -> Tensor:
    """``n`` convolution slices of images (C, H, W): (n, C H W), of unit length.

    Kernels of 2 x 2 with stride 2 halve the image while both sides are even. A last kernel of the
    size that is left reduces it to a number.
    """
    channels, height, width = shape
    halvings = 0
    while height % 2 == 0 and width % 2 == 0:
        height, width, halvings = height // 2, width // 2, halvings + 1
    found = randn((1, n, height, width), generator, device)
    for _ in range(halvings):  # from the number back to the pixels
        found = F.conv_transpose2d(
            found, randn((n, 1, 2, 2), generator, device), stride=2, groups=n
        )
    found = found.transpose(0, 1) * randn((n, channels, 1, 1), generator, device)
    return F.normalize(found.reshape(n, math.prod(shape)), dim=1)

r"""Wasserstein distances between two clouds of points with equal weights, by POT.

All are roots, in units of a pixel in [-1, 1] times the square root of the number of pixels: W2
between x and x + c is :math:`\lVert c \rVert`. For finite samples the exact distance is biased
upward, and more so in higher dimensions. So compare it with the oracle's row, which has the same
bias.

Reference: POT: Python Optimal Transport (Flamary et al., JMLR 2021),
https://jmlr.org/papers/v22/20-451.html. It is imported where it is used: that takes a second.
"""

import torch
from torch import Tensor

from ..diffusion.process import randn

PROJECTIONS = 512


def sliced_w2(
    x: Tensor, y: Tensor, generator: torch.Generator, projections: int = PROJECTIONS
) -> float:
    """Sliced W2 of (N, ...) and (M, ...) along ``projections`` random directions."""
    import ot

    x, y = _points(x), _points(y)
    directions = torch.nn.functional.normalize(
        randn((x.shape[1], projections), generator).double(), dim=0
    )
    return float(ot.sliced_wasserstein_distance(x, y, projections=directions, p=2))


def exact_w2(x: Tensor, y: Tensor) -> float:
    """W2 of (N, ...) and (M, ...), by the linear programme, solved to optimality."""
    import ot

    x, y = _points(x), _points(y)
    cost = ot.dist(x, y, metric="sqeuclidean").numpy()
    a, b = ot.unif(len(x)), ot.unif(len(y))
    return float(max(ot.emd2(a, b, cost, numItermax=10_000_000), 0.0) ** 0.5)


def gaussian_w2(x: Tensor, y: Tensor) -> float:
    """W2 of the Gaussians that have the moments of (N, ...) and (M, ...).

    It is a lower bound of W2, exact for Gaussian laws.
    """
    import ot

    x, y = _points(x), _points(y)
    # With fewer points than dimensions, the distance is the same in the space that they span.
    if len(x) + len(y) < x.shape[1]:
        basis = torch.linalg.qr(torch.cat([x, y]).T).Q
        x, y = x @ basis, y @ basis
    moments = [(p.mean(0), torch.cov(p.T).reshape(p.shape[1], -1)) for p in (x, y)]
    (mean_x, cov_x), (mean_y, cov_y) = moments
    return float(ot.gaussian.bures_wasserstein_distance(mean_x, mean_y, cov_x, cov_y))


def distances(
    x: Tensor, y: Tensor, generator: torch.Generator, exact_points: int
) -> dict[str, float]:
    """sw2, w2 and w2_gaussian between images (N, C, H, W) and (M, C, H, W).

    w2 is computed on the first ``exact_points`` of each, since it costs their number cubed.
    """
    n = min(exact_points, len(x), len(y))
    return {
        "sw2": sliced_w2(x, y, generator),
        "w2": exact_w2(x[:n], y[:n]),
        "w2_gaussian": gaussian_w2(x, y),
    }


def _points(x: Tensor) -> Tensor:
    """(N, ...) as points (N, d), float64 on the CPU."""
    return x.detach().cpu().flatten(1).double()

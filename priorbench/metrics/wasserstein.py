r"""Wasserstein distances between two clouds of points with equal weights.

All are roots, in units of a pixel in [-1, 1] times the square root of the number of pixels: W2
between x and x + c is :math:`\lVert c \rVert`. For finite samples the exact distance is biased
upward, and more so in higher dimensions. So compare it with the oracle's row, which has the same
bias.

The exact distance is POT's, and the others agree with POT's (``tests/metrics/``), whose general
programs take about four times as long for 2,000 images of 3,072 numbers against 10,000.

Reference: POT: Python Optimal Transport (Flamary et al., JMLR 2021),
https://jmlr.org/papers/v22/20-451.html. It is imported where it is used: that takes a second.
"""

from functools import cached_property

import torch
from torch import Tensor

from ..diffusion.process import randn

PROJECTIONS = 512


class Cloud:
    """Points (N, ...) with equal weights, for many distances to the same ones.

    Attributes:
        points: the same, (N, d), float64 on the CPU.
    """

    def __init__(self, x: Tensor) -> None:
        self.points = x.detach().cpu().flatten(1).double()

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def mean(self) -> Tensor:
        """The mean, (d,)."""
        return self.points.mean(0)

    @cached_property
    def factor(self) -> Tensor:
        """A matrix F of at most d rows, (min(N, d), d), with the covariance F'F."""
        centred: Tensor = (self.points - self.mean) / max(len(self) - 1, 1) ** 0.5
        if len(centred) > centred.shape[1]:
            _, centred = torch.linalg.qr(centred, mode="r")
        return centred


def sliced_w2(
    x: Tensor | Cloud, y: Tensor | Cloud, generator: torch.Generator, projections: int = PROJECTIONS
) -> float:
    """Sliced W2 of (N, ...) and (M, ...) along ``projections`` random directions."""
    x, y = _cloud(x), _cloud(y)
    directions = torch.nn.functional.normalize(
        randn((x.points.shape[1], projections), generator).double(), dim=0
    )
    along_x, along_y = ((directions.T @ p.points.T).sort().values for p in (x, y))
    # On a line the points meet in their order, each as long as it has mass: 1 / N or 1 / M. In
    # units of 1 / NM the pairs change at the multiples of M and of N.
    n, m = len(x), len(y)
    ends = torch.cat([torch.arange(n) * m + m, torch.arange(m) * n + n]).unique()
    mass = ends.diff(prepend=torch.zeros(1, dtype=ends.dtype)).double() / (n * m)
    apart = along_x[:, (ends - 1) // m] - along_y[:, (ends - 1) // n]
    return float((apart.square() @ mass).mean().sqrt())


def exact_w2(x: Tensor, y: Tensor) -> float:
    """W2 of (N, ...) and (M, ...), by the linear programme, solved to optimality."""
    import ot

    cost = ot.dist(Cloud(x).points, Cloud(y).points, metric="sqeuclidean").numpy()
    a, b = ot.unif(len(x)), ot.unif(len(y))
    return float(max(ot.emd2(a, b, cost, numItermax=10_000_000), 0.0) ** 0.5)


def gaussian_w2(x: Tensor | Cloud, y: Tensor | Cloud) -> float:
    r"""W2 of the Gaussians that have the moments of (N, ...) and (M, ...).

    It is a lower bound of W2, exact for Gaussian laws. With :math:`\Sigma = F^\top F` for both,
    the trace of :math:`(\Sigma_x^{1/2} \Sigma_y \Sigma_x^{1/2})^{1/2}` is the sum of the singular
    values of :math:`F_x F_y^\top`, so no matrix has to be larger than the number of points.
    """
    x, y = _cloud(x), _cloud(y)
    # Roots of the eigenvalues of the square are quicker, but 1e-8 of the largest is lost, with a
    # bias: clouds that nearly agree seem nearer than they are.
    cross = torch.linalg.svdvals(x.factor @ y.factor.T).sum()
    spread = x.factor.square().sum() + y.factor.square().sum() - 2 * cross
    return float(((x.mean - y.mean).square().sum() + spread).clamp(min=0).sqrt())


def distances(
    x: Tensor | Cloud, y: Tensor | Cloud, generator: torch.Generator, exact_points: int
) -> dict[str, float]:
    """sw2, w2 and w2_gaussian between images (N, C, H, W) and (M, C, H, W).

    w2 is computed on the first ``exact_points`` of each, since it costs their number cubed.
    """
    x, y = _cloud(x), _cloud(y)
    n = min(exact_points, len(x), len(y))
    return {
        "sw2": sliced_w2(x, y, generator),
        "w2": exact_w2(x.points[:n], y.points[:n]),
        "w2_gaussian": gaussian_w2(x, y),
    }


def _cloud(x: Tensor | Cloud) -> Cloud:
    return x if isinstance(x, Cloud) else Cloud(x)

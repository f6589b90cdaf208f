"""FID, KID, precision and recall against one set of real images, for many sets of samples.

The definitions and constants are those of ``torch-fidelity``, and the figures agree with its own
(``tests/metrics/test_fidelity.py``). What depends on the real images alone is computed once: with
thousands of features it is most of the work.
"""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .fid_infinity import frechet, moments, root
from .neighbours import CHUNK

KID_SUBSETS, KID_SEED = 100, 2020  # torch-fidelity's defaults
KID_SUBSET = 1000  # likewise; smaller sets are taken whole
NEIGHBOUR = 3  # the neighbour that precision and recall reach out to


class Reference:
    """Features (M, F) of real images, float32 on the CPU."""

    def __init__(self, features: Tensor) -> None:
        self.features = features
        self._subsets: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (F,) and covariance (F, F), float64."""
        return moments(self.features)

    @cached_property
    def root(self) -> Tensor:
        """The square root of the covariance, (F, F)."""
        return root(self.moments[1])

    @cached_property
    def radii(self) -> Tensor:
        """The distance of each image to its third neighbour, (M,)."""
        return _radii(self.features)

    def fid(self, features: Tensor) -> float:
        """FID of features (N, F), in squared units of the features.

        Reference: Heusel et al. (2017), https://arxiv.org/abs/1706.08500
        """
        return frechet(moments(features), self.moments, self.root)

    def kid(self, features: Tensor) -> float:
        """KID of features (N, F): the mean over 100 subsets of at most 1,000 images.

        Reference: Bińkowski et al. (2018), https://arxiv.org/abs/1801.01401
        """
        n, m = len(features), len(self.features)
        size = min(KID_SUBSET, n, m)
        if (n, size) not in self._subsets:
            samples, real = _subsets(n, m, size)
            self._subsets[n, size] = samples, real, _within(real, self.features)
        samples, real, within_real = self._subsets[n, size]
        between = _pair_sums(samples, features, real, self.features)
        pairs = (_within(samples, features) + within_real) / (size * (size - 1))
        return float((pairs - 2 * between / size**2).mean())

    def precision_recall(self, features: Tensor) -> tuple[float, float]:
        """The share of samples, features (N, F), within reach of real images; and the reverse.

        An image is within reach of another that is no further than that one's third neighbour.

        Reference: Kynkäänniemi et al. (2019), https://arxiv.org/abs/1904.06991
        """
        own, precise = _radii(features), 0
        recalled = torch.zeros(len(self.features), dtype=torch.bool)
        for start in range(0, len(features), CHUNK):
            apart = torch.cdist(features[start : start + CHUNK], self.features)
            precise += int((apart <= self.radii).any(1).sum())
            recalled |= (apart <= own[start : start + CHUNK, None]).any(0)
        return precise / len(features), float(recalled.double().mean())


def _radii(x: Tensor) -> Tensor:
    """The distance of each of x (N, F) to its third neighbour, (N,)."""
    return torch.cat(
        [torch.cdist(rows, x).kthvalue(NEIGHBOUR + 1).values for rows in x.split(CHUNK)]
    )


def _subsets(n: int, m: int, size: int) -> tuple[Tensor, Tensor]:
    """Which of ``n`` samples and of ``m`` real images each subset of KID has: (100, n), (100, m).

    They are 1 or 0, in float64, and those that torch-fidelity draws.
    """
    draws = np.random.RandomState(KID_SEED)
    samples = torch.zeros(KID_SUBSETS, n, dtype=torch.float64)
    real = torch.zeros(KID_SUBSETS, m, dtype=torch.float64)
    for i in range(KID_SUBSETS):
        samples[i, draws.choice(n, size, replace=False)] = 1
        real[i, draws.choice(m, size, replace=False)] = 1
    return samples, real


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x y' / F + 1)^3 of x (N, F) and y (M, F): (N, M), float64."""
    return (x @ y.T / x.shape[1] + 1).double() ** 3


def _pair_sums(of_x: Tensor, x: Tensor, of_y: Tensor, y: Tensor) -> Tensor:
    """The sum of the kernel over all pairs of x (N, F) and y (M, F) in each subset, (100,)."""
    total = torch.zeros(KID_SUBSETS, dtype=torch.float64)
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        total += ((of_x[:, rows] @ _kernel(x[rows], y)) * of_y).sum(1)
    return total


def _within(of_x: Tensor, x: Tensor) -> Tensor:
    """The same over pairs of x (N, F) with each other, no image with itself."""
    itself = (x.square().sum(1) / x.shape[1] + 1).double() ** 3
    return _pair_sums(of_x, x, of_x, x) - of_x @ itself

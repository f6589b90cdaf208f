"""The principal axes of images: all of small ones, and of large ones as many as can be seen.

Images of d numbers have d axes, a matrix of d x d. In most of them large images hardly vary: what
is left out is taken to vary alike in all directions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

LARGE = 1024  # numbers in an image; up to here all axes are kept
UNSEEN = 1 / 255  # half a grey level: what is left out deviates by that in a pixel, at most


@dataclass(frozen=True)
class Axes:
    """The covariance of images: V diag(values - rest) V' + rest I.

    Attributes:
        mean: of the images, (d,).
        values: their variance along each axis, (r,), falling.
        vectors: V, the axes as columns (d, r).
        rest: the variance in each other direction; 0 if there is none.
    """

    mean: Tensor
    values: Tensor
    vectors: Tensor
    rest: float

    @property
    def dtype(self) -> torch.dtype:
        """That of a matrix of axes that is kept: half precision halves large ones."""
        return torch.float32 if len(self.mean) <= LARGE else torch.float16


def principal_axes(x: Tensor, least: int = 0) -> Axes:
    """The axes of images (N, d), in float64 and on the CPU.

    Arguments:
        least: how many are kept at least, if there are as many.
    """
    x, d = x.cpu(), x.shape[1]
    mean, covariance = _moments(x)
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    r = d
    if d > LARGE:
        left = values.flip(0).cumsum(0).flip(0)  # the variance from each axis on
        r = max(least, int((left > d * UNSEEN**2).sum()))
    rest = float(values[r:].mean()) if r < d else 0.0
    return Axes(mean, values[:r], vectors[:, :r], rest)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of x (N, d), in float64."""
    d = x.shape[1]
    if d <= LARGE:
        x = x.double()
        return x.mean(0), torch.cov(x.T, correction=0).reshape(d, d)
    mean = x.mean(0, dtype=torch.float64)
    total = torch.zeros(d, d, dtype=torch.float64)
    for rows in x.split(4096):  # all of them in float64 would fill the memory
        rows = rows.double() - mean
        total += rows.T @ rows
    return mean, total / len(x)

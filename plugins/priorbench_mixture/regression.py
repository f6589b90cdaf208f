"""Regressions of the rest of an image on its leading coordinates, one in each component."""

import torch
from torch import Tensor

SHRINKAGE = (0.03, 0.1, 0.3, 1.0, 3.0)  # of which the least error on held-out images chooses
LEAST = 1e-6  # a variance that keeps a component of one image solvable

Points = tuple[Tensor, Tensor, Tensor]  # leading coordinates (N, q), the rest (N, p), kinds (N,)


def along(offsets: Tensor, slopes: Tensor, y: Tensor) -> Tensor:
    """The rest (N, p) at y (N, q) from the centre, by offsets (N, p) and slopes (N, q, p)."""
    return offsets + (y[:, None] @ slopes).squeeze(1)


def fit_lines(centres: Tensor, points: Points, held_out: Points | None) -> tuple[Tensor, Tensor]:
    """Ridge regressions, shrunk towards the mean of the rest in each component.

    A component of n points is as if its leading coordinates had this variance more in every
    direction: the shrinkage times their total variance over n. Of several shrinkages, that with
    the least squared error on ``held_out`` is taken; without such points, 1.

    Arguments:
        centres: of the components, (K, q).

    Returns:
        Offsets (K, p), which are the rest at the centres, and slopes (K, q, p).
    """
    y, rest, kinds = points
    parts = [_moments(y[kinds == k], rest[kinds == k], c) for k, c in enumerate(centres)]
    count, y_mean, mean, variance, covariance = (
        torch.stack(part) for part in zip(*parts, strict=True)
    )
    eye = torch.eye(y.shape[1]).to(y)

    def lines(shrinkage: float) -> tuple[Tensor, Tensor]:
        added = shrinkage * variance.diagonal(dim1=1, dim2=2).sum(1) / count + LEAST
        slopes = torch.linalg.solve(variance + added[:, None, None] * eye, covariance)
        # contiguous, so that a loaded copy rounds alike
        return along(mean, slopes, centres - y_mean), slopes.contiguous()

    def error(shrinkage: float) -> float:
        assert held_out is not None
        y, rest, k = held_out
        offsets, slopes = lines(shrinkage)
        return float((rest - along(offsets[k], slopes[k], y - centres[k])).square().sum())

    return lines(1.0 if held_out is None else min(SHRINKAGE, key=error))


def _moments(y: Tensor, rest: Tensor, centre: Tensor) -> tuple[Tensor, ...]:
    """Count (), means (q,) and (p,), variance (q, q) and covariance (q, p) of points."""
    n = max(len(y), 1)
    y_mean = y.mean(0) if len(y) else centre
    mean = rest.sum(0) / n
    y = y - y_mean
    return torch.tensor(float(n)).to(y), y_mean, mean, y.T @ y / n, y.T @ (rest - mean) / n

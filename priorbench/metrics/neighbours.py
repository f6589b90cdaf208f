"""Nearest neighbours among features or pixels, computed in blocks so that memory is bounded.

Which is the nearest is found in single precision, and its distance then computed in double. So a
copy has distance 0, and of neighbours that are equally near within rounding any may be named.
"""

from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 2048  # rows of the matrix of distances in memory at once


class Nearest(NamedTuple):
    """The nearest neighbour of each of N points: its distance (N,), float64, and which it is."""

    distance: Tensor
    which: Tensor


def nearest_among(points: Tensor, among: Tensor) -> Nearest:
    """The nearest of ``among`` (M, ...) to each of ``points`` (N, ...)."""
    return _search(points.flatten(1), among.flatten(1), own=False)


def neighbour_distances(training: Tensor) -> Tensor:
    """The distance of each training feature (M, F) to the nearest other one: (M,), float64."""
    training = training.flatten(1)
    return _search(training, training, own=True).distance


def nearest_distances(points: Tensor, among: Tensor) -> Tensor:
    """The distance of each of ``points`` (N, ...) to the nearest of ``among`` (M, ...): (N,)."""
    return nearest_among(points, among).distance


def nearest(features: Tensor, training: Tensor) -> Tensor:
    """The index of the training feature (M, F) nearest to each of ``features`` (N, F): (N,)."""
    return nearest_among(features, training).which.cpu()


def _search(points: Tensor, among: Tensor, own: bool) -> Nearest:
    """The nearest; with ``own``, the points are ``among`` themselves, and each skips itself."""
    # Far from the origin, squares would swamp the distances.
    middle = among.mean(0, dtype=torch.float64).float()
    targets = among.float() - middle
    squares = targets.square().sum(1)
    distances, indices = [], []
    for start in range(0, len(points), CHUNK):
        rows = points[start : start + CHUNK]
        # |x - y|^2 without |x|^2, which is the same for every y.
        found = torch.addmm(squares, rows.float() - middle, targets.T, alpha=-2)
        if own:
            found[torch.arange(len(rows)), torch.arange(start, start + len(rows))] = torch.inf
        index = found.argmin(1)
        indices.append(index)
        distances.append((rows.double() - among[index].double()).norm(dim=1))
    return Nearest(torch.cat(distances), torch.cat(indices))

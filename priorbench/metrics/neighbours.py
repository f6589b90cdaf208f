"""Nearest neighbours among features or pixels, computed in blocks so that memory is bounded."""

import torch
from torch import Tensor

CHUNK = 2048  # rows of the distance matrix in memory at once


def neighbour_distances(training: Tensor) -> Tensor:
    """The distance of each training feature (M, F) to the nearest other one: (M,), float64."""
    training = training.double()
    found = []
    for start in range(0, len(training), CHUNK):
        rows = torch.cdist(training[start : start + CHUNK], training)
        rows[torch.arange(len(rows)), torch.arange(start, start + len(rows))] = float("inf")
        found.append(rows.amin(1))
    return torch.cat(found)


def nearest_distances(points: Tensor, among: Tensor) -> Tensor:
    """The distance of each of ``points`` (N, ...) to the nearest of ``among`` (M, ...): (N,)."""
    points, among = points.flatten(1), among.flatten(1)
    return torch.cat([torch.cdist(chunk, among).amin(1) for chunk in points.split(CHUNK)])


def nearest(features: Tensor, training: Tensor) -> Tensor:
    """The index of the training feature (M, F) nearest to each of ``features`` (N, F): (N,)."""
    chunks = features.double().split(CHUNK)
    return torch.cat([torch.cdist(chunk, training.double()).argmin(1) for chunk in chunks]).cpu()

"""Nearest neighbours among features or pixels, computed by blocks so that memory stays bounded."""

import torch
from torch import Tensor

CHUNK = 2048  # rows of the distance matrix that are in memory at once


def neighbour_distances(training: Tensor) -> Tensor:
    """How far each of the training features (M, F) is from the nearest other one: (M,), float64."""
    training = training.double()
    found = []
    for start in range(0, len(training), CHUNK):
        rows = torch.cdist(training[start : start + CHUNK], training)
        rows[torch.arange(len(rows)), torch.arange(start, start + len(rows))] = float("inf")
        found.append(rows.amin(1))
    return torch.cat(found)


def nearest_distances(points: Tensor, among: Tensor) -> Tensor:
    """How far each of ``points`` (N, ...) is from the nearest of ``among`` (M, ...): (N,), in their
    precision.
    """
    points, among = points.flatten(1), among.flatten(1)
    return torch.cat([torch.cdist(chunk, among).amin(1) for chunk in points.split(CHUNK)])


def nearest(features: Tensor, training: Tensor) -> Tensor:
    """Which of the training features (M, F) is nearest to each of ``features`` (N, F): N indices."""
    chunks = features.double().split(CHUNK)
    return torch.cat([torch.cdist(chunk, training.double()).argmin(1) for chunk in chunks]).cpu()

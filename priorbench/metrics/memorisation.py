"""Authenticity: the share of samples that are no copies of a training image.

A sample is a copy where it lies nearer to its nearest training image than that image's own nearest training neighbour
does, or as near (Alaa et al., ICML 2022, https://arxiv.org/abs/2102.08921): so a copy of an image that the training set
holds twice is one. Held-out images have a share of their own, the reference.
"""

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


def authenticity(features: Tensor, training: Tensor, among: Tensor | None = None) -> float:
    """The share in 0..1, for features (N, F) of samples and (M, F) of the training images, M at least 2.

    ``among`` is ``neighbour_distances(training)``, for callers that have many sets of samples.
    """
    among = neighbour_distances(training) if among is None else among
    training, authentic = training.double(), 0
    for chunk in features.double().split(CHUNK):
        distance, nearest = torch.cdist(chunk, training).min(1)
        authentic += int((distance > among[nearest]).sum())
    return authentic / len(features)


def nearest_distances(points: Tensor, among: Tensor) -> Tensor:
    """How far each of ``points`` (N, ...) is from the nearest of ``among`` (M, ...): (N,), in their precision."""
    points, among = points.flatten(1), among.flatten(1)
    return torch.cat([torch.cdist(chunk, among).amin(1) for chunk in points.split(CHUNK)])


def nearest(features: Tensor, training: Tensor) -> Tensor:
    """Which of the training features (M, F) is nearest to each of ``features`` (N, F): N indices."""
    chunks = features.double().split(CHUNK)
    return torch.cat([torch.cdist(chunk, training.double()).argmin(1) for chunk in chunks]).cpu()


def neighbour_ratio(features: Tensor, training: Tensor, test: Tensor) -> tuple[float, float]:
    """The median over samples of (distance to the nearest training image) / (distance to the nearest test image).

    Below the ratio of held-out images in the middle, samples lie nearer to what was trained on than unseen images do;
    above it, nearer to what they are measured against.

    Returns:
        The median and its standard error, from the order statistics one standard deviation of the binomial away.
    """
    to_train, to_test = (nearest_distances(features.double(), among.double()) for among in (training, test))
    ratios = to_train / to_test.clamp(min=1e-12)
    away = min(0.5, 0.5 / len(ratios) ** 0.5)
    low, middle, high = torch.quantile(ratios, torch.tensor([0.5 - away, 0.5, 0.5 + away], dtype=ratios.dtype)).tolist()
    return middle, (high - low) / 2

"""Authenticity: the share of samples that are no copies of a training image.

A sample is a copy where it lies nearer to its nearest training image than that image's own nearest
training neighbour does, or as near (Alaa et al., ICML 2022, https://arxiv.org/abs/2102.08921): so a
copy of an image that the training set holds twice is one. Held-out images have a share of their
own, the reference.
"""

import torch
from torch import Tensor

from .neighbours import CHUNK, nearest_distances, neighbour_distances


def authenticity(features: Tensor, training: Tensor, among: Tensor | None = None) -> float:
    """The share in 0..1, for features (N, F) of samples and (M, F) of the training images, M at
    least 2.

    ``among`` is ``neighbour_distances(training)``, for callers that have many sets of samples.
    """
    among = neighbour_distances(training) if among is None else among
    training, authentic = training.double(), 0
    for chunk in features.double().split(CHUNK):
        distance, nearest = torch.cdist(chunk, training).min(1)
        authentic += int((distance > among[nearest]).sum())
    return authentic / len(features)


def neighbour_ratio(features: Tensor, training: Tensor, test: Tensor) -> tuple[float, float]:
    """The median over samples of (distance to the nearest training image) / (distance to the
    nearest test image).

    Below the ratio of held-out images in the middle, samples lie nearer to what was trained on than
    unseen images do; above it, nearer to what they are measured against.

    Returns:
        The median and its standard error, from the order statistics one standard deviation of the
        binomial away.
    """
    to_train, to_test = (
        nearest_distances(features.double(), among.double()) for among in (training, test)
    )
    ratios = to_train / to_test.clamp(min=1e-12)
    away = min(0.5, 0.5 / len(ratios) ** 0.5)
    low, middle, high = torch.quantile(
        ratios, torch.tensor([0.5 - away, 0.5, 0.5 + away], dtype=ratios.dtype)
    ).tolist()
    return middle, (high - low) / 2

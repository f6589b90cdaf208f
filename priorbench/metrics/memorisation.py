"""Authenticity: the share of samples that are no copies of a training image.

A sample is a copy if it is at least as near to its nearest training image as that image's nearest
training neighbour is (Alaa et al., ICML 2022, https://arxiv.org/abs/2102.08921). So a copy of an
image that the training set holds twice counts as a copy too. The share of held-out images is the
reference for that of samples.
"""

import torch
from torch import Tensor

from .neighbours import Nearest, nearest_among, nearest_distances, neighbour_distances


def authenticity(
    features: Tensor,
    training: Tensor,
    among: Tensor | None = None,
    nearest: Nearest | None = None,
) -> float:
    """The share of samples that are no copies, in 0..1.

    Arguments:
        features: features (N, F) of the samples.
        training: features (M, F) of the training images, M at least 2.
        among: ``neighbour_distances(training)``, for callers with many sets of samples.
        nearest: ``nearest_among(features, training)``, for callers that have it.
    """
    among = neighbour_distances(training) if among is None else among
    distance, which = nearest or nearest_among(features, training)
    return float((distance > among[which]).double().mean())


def neighbour_ratio(
    features: Tensor, training: Tensor, test: Tensor, nearest: Nearest | None = None
) -> tuple[float, float]:
    """The median of (distance to the nearest training image) / (that to the nearest test image).

    If it is below the median of held-out images, the samples lie nearer to the training images than
    unseen images do. If it is above, they lie nearer to the test images.

    Arguments:
        features: features (N, F) of the samples.
        training: features (M, F) of the training images.
        test: features (K, F) of the test images.
        nearest: ``nearest_among(features, training)``, for callers that have it.

    Returns:
        The median and its standard error. The latter comes from the order statistics one standard
        deviation of the binomial away from the median.
    """
    to_train = (nearest or nearest_among(features, training)).distance
    to_test = nearest_distances(features, test)
    ratios = to_train / to_test.clamp(min=1e-12)
    away = min(0.5, 0.5 / len(ratios) ** 0.5)
    low, middle, high = torch.quantile(
        ratios, torch.tensor([0.5 - away, 0.5, 0.5 + away], dtype=ratios.dtype)
    ).tolist()
    return middle, (high - low) / 2

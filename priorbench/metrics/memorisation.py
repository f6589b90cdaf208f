"""Authenticity: the share of samples that are no copies of a training image.

A sample is a copy where it lies nearer to its nearest training image than that image's own nearest training neighbour
does, or as near (Alaa et al., ICML 2022, https://arxiv.org/abs/2102.08921): so a copy of an image that the training set
holds twice is one. Held-out images have a share of their own, the reference.
"""

import torch
from torch import Tensor


def authenticity(features: Tensor, training: Tensor) -> float:
    """The share in 0..1, for features (N, F) of samples and (M, F) of the training images, M at least 2."""
    among = torch.cdist(training.double(), training.double()).fill_diagonal_(float("inf")).amin(1)
    distance, nearest = torch.cdist(features.double(), training.double()).min(1)
    return float((distance > among[nearest]).double().mean())

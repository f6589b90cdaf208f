"""What a metric of a plugin is handed."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Measured:
    """One set of samples, and what it is measured against.

    Images are bytes (N, C, H, W), as saved; features are (N, F), of the run's extractor; ``x_t``
    and ``x_t_test`` are what the prior supplied and as many fresh draws of the held-out marginal;
    ``generator`` is for metrics that draw.
    """

    images: Tensor
    test: Tensor
    train: Tensor
    features: Tensor
    test_features: Tensor
    train_features: Tensor
    x_t: Tensor
    x_t_test: Tensor
    t_trunc: int
    generator: torch.Generator

"""The input of a metric."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Measured:
    """One set of samples, and the images that it is measured against.

    Attributes:
        images: the samples as bytes (N, C, H, W), as they are saved.
        test: images of the test split, likewise.
        train: images of the training split, likewise.
        features: those of ``images`` by the extractor of the run, (N, F).
        test_features: those of ``test``.
        train_features: those of ``train``.
        x_t: the x_{t_trunc} that the prior generated, (N, C, H, W).
        x_t_test: equally many fresh draws of the marginal of the test split.
        t_trunc: where the chain started.
        generator: for metrics that draw random numbers.
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

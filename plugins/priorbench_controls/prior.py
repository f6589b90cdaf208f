"""The controls ``noise``, ``oracle`` and ``memoriser``."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from priorbench import FitRun, TruncatedMarginal, TruncPrior, randn


class NoisePrior(TruncPrior):
    """N(0, I). At t_trunc = T this is the ordinary full chain.

    Below T it shows what a chain does without a prior.
    """

    emits = "x_t"
    expected_failures: ClassVar[dict[str, str]] = {"gaussian target": "pure noise is not fitted"}
    centre: Tensor

    def __init__(self) -> None:
        super().__init__()

    def build(self, shape: tuple[int, int, int]) -> None:
        self.register_buffer("centre", torch.zeros(shape))

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        """Nothing to fit."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return randn((n, *self.centre.shape), generator, self.device)


class StoredPrior(TruncPrior):
    """Returns stored images, each equally often. The harness diffuses them."""

    emits = "x_0"
    images: Tensor

    def __init__(self) -> None:
        super().__init__()

    def build(self, shape: tuple[int, int, int]) -> None:
        self.register_buffer("images", torch.empty(0))

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        self.images = self.choose(marginal).clone()

    @abstractmethod
    def choose(self, marginal: TruncatedMarginal) -> Tensor:
        """The images to store, (N, C, H, W)."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return TruncatedMarginal.shuffled(self.images, n, generator)


class OraclePrior(StoredPrior):
    """Held-out validation images: the best that a prior can supply."""

    # Against its own images the oracle would always look best at the smallest t_trunc.
    chosen_on = "train"

    def choose(self, marginal: TruncatedMarginal) -> Tensor:
        if marginal.validation is None:
            raise ValueError("oracle needs validation images, but this marginal has none")
        return marginal.validation.images


class MemoriserPrior(StoredPrior):
    """Training images: a good FID without a model."""

    def choose(self, marginal: TruncatedMarginal) -> Tensor:
        return marginal.images

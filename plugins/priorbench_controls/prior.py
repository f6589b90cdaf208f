"""The controls ``noise``, ``oracle`` and ``memoriser``."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from priorbench import (
    FitRun,
    TruncatedMarginal,
    TruncPrior,
    check_choice,
    quadratic_times,
    randn,
    step_costs,
    tuned_times,
)

TIMESTEPS = ("uniform", "quadratic", "tuned")
TRAJECTORIES = 32  # of the teacher, in each batch
BATCHES = 4


class NoisePrior(TruncPrior):
    """N(0, I). At t_trunc = T this is the ordinary full chain.

    Below T it shows what a chain does without a prior.

    Arguments:
        timesteps: how the times of the chain are spaced: ``uniform``, ``quadratic``
            (:func:`priorbench.quadratic_times`), or ``tuned``, which ``fit`` finds for this frozen
            model from trajectories of it (:func:`priorbench.tuned_times`).
    """

    emits = "x_t"
    expected_failures: ClassVar[dict[str, str]] = {"gaussian target": "pure noise is not fitted"}
    centre: Tensor
    tuned: Tensor

    def __init__(self, *, timesteps: str = "uniform") -> None:
        super().__init__()
        check_choice(*TIMESTEPS, timesteps=timesteps)
        self.timesteps = timesteps

    def build(self, shape: tuple[int, int, int]) -> None:
        self.register_buffer("centre", torch.zeros(shape))
        if self.timesteps == "tuned":
            self.register_buffer("tuned", torch.empty(0, dtype=torch.int64))

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        """Nothing to fit, unless the times are tuned: then each step is a batch of trajectories."""
        if self.timesteps != "tuned":
            return

        def costs() -> Tensor:
            x = randn((TRAJECTORIES, *self.centre.shape), run.generator, marginal.device)
            return step_costs(marginal.diffusion, x, marginal.t_trunc)

        total = torch.zeros(())
        for step in run.steps(BATCHES):
            total = total + costs()
            run.progress(step + 1, run.total, float(total[-1, 0]) / (step + 1))
        if not run.taken:  # whatever the budget, there is one batch
            total = costs()
        self.tuned = tuned_times(total, marginal.t_trunc)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return randn((n, *self.centre.shape), generator, self.device)

    def times(self, t_trunc: int, steps: int) -> list[int] | None:
        if self.timesteps == "quadratic":
            return quadratic_times(t_trunc, steps)
        if self.timesteps == "tuned" and steps <= len(self.tuned):
            return [int(t) for t in self.tuned[steps - 1, :steps]]
        return None


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

"""A prior under test, and the small world that the checks of :mod:`.conformance` fit it in."""

import inspect
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .diffusion.frozen import FrozenDiffusion
from .diffusion.process import seeded
from .marginal import TruncatedMarginal
from .prior import FitRun, TruncPrior

SHAPE = (1, 8, 8)
T_TRUNC = 40


class Failed(AssertionError):
    """A check that a prior did not pass: what was expected, what came, and where in the plugin."""

    def __init__(self, expected: str, got: str, where: str) -> None:
        super().__init__(f"expected {expected}; got {got} ({where})")


@lru_cache(maxsize=2)
def example_marginal(device: str = "cpu") -> TruncatedMarginal:
    """The world of the checks: 400 training and 200 validation images of a Gaussian law.

    Its dimensions are correlated. The images are divided by the greatest absolute value among them,
    so that all are in [-1, 1] and nothing is clipped.
    """
    from diffusers import DDPMScheduler, UNet2DModel

    with seeded(0):
        network = UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
            attention_head_dim=8,
        )
    diffusion = FrozenDiffusion(network, DDPMScheduler(num_train_timesteps=100), device=device)
    generator = torch.Generator().manual_seed(0)
    # The variances fall, as those of images do.
    mixing = torch.randn(64, 64, generator=generator) / (4 + 2 * torch.arange(64)[:, None])
    draws = torch.randn(600, 64, generator=generator) @ mixing
    images = (draws + torch.linspace(-0.5, 0.5, 64)).view(-1, *SHAPE)
    images = images / images.abs().max()
    return TruncatedMarginal(images[:400], diffusion, T_TRUNC, images[400:])


@dataclass
class Subject:
    """A prior under test.

    The checks that only look at a fitted prior share one fit. If that fit raised, it is not
    repeated.

    Attributes:
        cls: the class of the prior.
        params: its hyperparameters.
        device: where it is fitted.
        error: what the shared fit raised, or None.
        moved: the global random states that the last fit changed.
    """

    cls: type[TruncPrior]
    params: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    error: BaseException | None = field(default=None, init=False)
    moved: set[str] = field(default_factory=set, init=False)

    @property
    def marginal(self) -> TruncatedMarginal:
        """What the prior is fitted to."""
        return example_marginal(self.device)

    def make(self) -> TruncPrior:
        """A prior that is not built yet."""
        return self.cls(**self.params)

    def run(self, deadline: float | None = None) -> FitRun:
        """What a fit is given, with the same seed each time."""
        return FitRun(torch.Generator().manual_seed(0), deadline)

    def fit(
        self, marginal: TruncatedMarginal | None = None, deadline: float | None = None
    ) -> TruncPrior:
        """A prior, fitted anew."""
        if self.error is not None:
            raise self.error
        prior, before = self.make(), global_state()
        prior.fit(marginal or self.marginal, self.run(deadline))
        self.moved = moved_states(before)
        return prior

    @cached_property
    def fitted(self) -> TruncPrior:
        """The prior of the shared fit."""
        try:
            return self.fit()
        except BaseException as error:
            self.error = error
            raise

    def where(self, method: str = "") -> str:
        """``file:line`` of ``method``, or of the class."""
        found = self.cls.__dict__.get(method, self.cls) if method else self.cls
        try:
            function = inspect.unwrap(found)
            return f"{inspect.getsourcefile(function)}:{inspect.getsourcelines(function)[1]}"
        except (OSError, TypeError):
            return self.cls.__module__

    def failed(self, expected: str, got: str, method: str = "") -> Failed:
        """The error of a check that did not pass, to be raised."""
        return Failed(expected, got, self.where(method))


def draw(prior: TruncPrior, n: int, seed: int = 1) -> Tensor:
    """``n`` samples by a generator of their own."""
    return prior.sample(n, torch.Generator().manual_seed(seed))


def global_state() -> dict[str, Any]:
    """The global random states: library -> state."""
    states: dict[str, Any] = {
        "torch": torch.random.get_rng_state().numpy().tobytes(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
        "Python": random.getstate(),
    }
    if torch.cuda.is_initialized():
        states["torch on CUDA"] = [s.numpy().tobytes() for s in torch.cuda.get_rng_state_all()]
    return states


def moved_states(before: dict[str, Any]) -> set[str]:
    """Which of the global random states are no longer what ``_global_state`` gave."""
    now = global_state()
    return {name for name, state in before.items() if now[name] != state}

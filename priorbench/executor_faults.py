"""Priors with which an executor is tried: a plugin file, so that child processes find it."""

import os
import time
import uuid
from pathlib import Path

import torch
from torch import Tensor

from priorbench import FitRun, Register, TruncatedMarginal, TruncPrior, hookimpl, randn

BEAT = 0.1  # seconds between two marks of a fit that goes on
HOUR = 3600.0


class Plain(TruncPrior):
    """Pure noise.

    Arguments:
        place: a folder in which each fit leaves a file, or nothing.
    """

    scale: Tensor

    def __init__(self, *, place: str = "") -> None:
        super().__init__()
        self.place = place

    def build(self, shape: tuple[int, int, int]) -> None:
        self.register_buffer("scale", torch.ones(shape))

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        self.mark()

    def mark(self) -> None:
        """Leave a file."""
        if self.place:
            (Path(self.place) / uuid.uuid4().hex).touch()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return randn((n, *self.scale.shape), generator, self.device)


class Raises(Plain):
    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        raise ValueError("raised on purpose")


class Exits(Plain):
    """Takes its process with it."""

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        os._exit(7)


class Hangs(Plain):
    """Never looks at its deadline, and leaves one file after the other.

    Arguments:
        seconds: after which it ends all the same.
    """

    def __init__(self, *, place: str = "", seconds: float = HOUR) -> None:
        super().__init__(place=place)
        self.seconds = seconds

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        ends = time.monotonic() + self.seconds
        while time.monotonic() < ends:
            self.mark()
            time.sleep(BEAT)


@hookimpl
def register_priors(register: Register) -> None:
    for cls in (Plain, Raises, Exits, Hangs):
        register(cls.__name__.lower(), f"executor_faults:{cls.__name__}")

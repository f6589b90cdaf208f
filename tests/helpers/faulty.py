"""Priors that take their process with them, or never come back: a plugin file, so that child
processes find it.
"""

import os
import time

import torch

from priorbench import TruncPrior, hookimpl, randn


class Base(TruncPrior):
    def __init__(self) -> None:
        super().__init__()

    def build(self, shape):
        self.register_buffer("scale", torch.ones(shape))

    def fit(self, marginal, run):
        pass

    def sample(self, n, generator):
        return self.scale * randn((n, *self.scale.shape), generator, self.device)


class Dies(Base):
    def fit(self, marginal, run):
        os._exit(7)


class Killed(Base):
    def sample(self, n, generator):
        os.kill(os.getpid(), 9)


class Hangs(Base):
    """Never looks at its deadline."""

    def fit(self, marginal, run):
        time.sleep(3600)


class Forgets(Base):
    """What it was fitted to is not among its weights."""

    def fit(self, marginal, run):
        self.mean = marginal.draw_clean(64, run.generator).mean(0)

    def sample(self, n, generator):
        return self.mean + super().sample(n, generator)


class Panic(BaseException):
    """As bindings to other languages raise."""


class Raises(Base):
    def fit(self, marginal, run):
        run.log(0.5)
        raise Panic("of another language")


@hookimpl
def register_priors(register):
    for cls in (Dies, Killed, Hangs, Forgets, Raises):
        register(cls.__name__.lower(), f"faulty:{cls.__name__}")

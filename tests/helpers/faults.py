"""Priors with one fault each, and the check that finds it.

They are in a file of their own, which imports little, because the check ``process`` imports it in
another process.
"""

import os
import random
import sys
import time
from typing import ClassVar

import numpy as np
import torch

from priorbench import TruncPrior, conformance, randn


class Good(TruncPrior):
    """The moments of the marginal, pixel by pixel; the faults below are each one line away
    from it.
    """

    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def build(self, shape):
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))

    def fit(self, marginal, run):
        x = marginal.draw(2000, run.generator)
        self.mean.copy_(x.mean(0))
        self.deviation.copy_(x.std(0))

    def sample(self, n, generator):
        return self.mean + self.scale * self.deviation * randn(
            (n, *self.mean.shape), generator, self.device
        )


class Positional(Good):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__(scale=scale)


class Altered(Good):
    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__(scale=2 * scale)


class Unstored(Good):
    def __init__(self, *, scale: float = 1.0, rank: int = 3) -> None:
        super().__init__(scale=scale)


class OddEmits(Good):
    emits = "x_1"


class AlwaysFitted(Good):
    def build(self, shape):
        super().build(shape)
        self.fitted.fill_(True)


class OneTooFew(Good):
    def sample(self, n, generator):
        return super().sample(max(n // 8 * 8, 8), generator)


class Flat(Good):
    def sample(self, n, generator):
        return super().sample(n, generator).flatten(1)


class Double(Good):
    def sample(self, n, generator):
        return super().sample(n, generator).double()


class Hidden(Good):
    def build(self, shape):
        super().build(shape)
        self.weight = torch.ones(shape)


class Infinite(Good):
    def sample(self, n, generator):
        x = super().sample(n, generator)
        return torch.where(x > 1.5, torch.nan, x)


class Clock(Good):
    def sample(self, n, generator):
        return super().sample(n, generator) + time.perf_counter_ns() % 1000 * 1e-3


class Fixed(Good):
    def sample(self, n, generator):
        return super().sample(n, torch.Generator().manual_seed(0))


class Repeating(Good):
    def sample(self, n, generator):
        return super().sample(1, generator).expand(n, -1, -1, -1)


class NumpyDraws(Good):
    def fit(self, marginal, run):
        super().fit(marginal, run)
        self.mean += 0.01 * np.random.randn()  # noqa: NPY002


class PythonDraws(Good):
    def sample(self, n, generator):
        return super().sample(n, generator) + 0.01 * random.random()


class Forgetful(Good):
    def fit(self, marginal, run):
        super().fit(marginal, run)
        self.shift = float(marginal.images.mean())

    def sample(self, n, generator):
        return super().sample(n, generator) + getattr(self, "shift", 0.0)


class Remembering(Good):
    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__(scale=scale)
        self.seen = []

    def fit(self, marginal, run):
        self.seen.append(marginal.images.mean(0))
        super().fit(marginal, run)
        self.mean.copy_(sum(self.seen) / len(self.seen))


class InThisProcessAlone(Good):
    shifts: ClassVar[list[float]] = []

    def fit(self, marginal, run):
        super().fit(marginal, run)
        self.shifts[:] = [0.5]

    def sample(self, n, generator):
        return super().sample(n, generator) + sum(self.shifts)


class Late(Good):
    def fit(self, marginal, run):
        conformance.time.sleep(2.5)  # on the test's clock
        super().fit(marginal, run)


class Trainer(Good):
    def fit(self, marginal, run):
        super().fit(marginal, run)
        next(marginal.diffusion.network.parameters()).mul_(1.01)


class Scribbler(Good):
    def fit(self, marginal, run):
        super().fit(marginal, run)
        marginal.images.mul_(0.99)


class Unmoved(Good):
    def fit(self, marginal, run):
        pass


class Blank(Good):
    """A clean guess that knows nothing of the images; the harness adds noise of the right level."""

    emits = "x_0"

    def sample(self, n, generator):
        return 0.01 * randn((n, *self.mean.shape), generator, self.device)


class Raising(Good):
    fits = 0

    def fit(self, marginal, run):
        type(self).fits += 1
        raise ZeroDivisionError("a planted one")


class Leaving(Good):
    def fit(self, marginal, run):
        sys.exit("a planted exit")


class Forking(Good):
    """No fault of the samples, but its child fails."""

    def sample(self, n, generator):
        child = os.fork()
        if child == 0:
            raise RuntimeError("a child that goes on as if it were the check")
        os.waitpid(child, 0)
        return super().sample(n, generator)


class Crowded(Good):
    def times(self, t_trunc, steps):
        return [t_trunc] * steps


class Wandering(Good):
    calls = 0

    def times(self, t_trunc, steps):
        self.calls += 1
        return [1, 1 + self.calls, t_trunc] if steps == 3 else None


class Strided(Good):
    """No fault: buffers whose strides are not those that they will have when loaded."""

    def build(self, shape):
        super().build(shape)
        self.register_buffer("factor", torch.eye(shape[1] * shape[2]))

    def fit(self, marginal, run):
        super().fit(marginal, run)
        x = marginal.draw(500, run.generator).flatten(1)
        self.factor = (
            torch.linalg.cholesky(torch.cov(x.T) + 1e-3 * torch.eye(x.shape[1])).T.contiguous().T
        )

    def sample(self, n, generator):
        z = randn((n, len(self.factor)), generator, self.device)
        return self.mean + (z @ self.factor.T).view(n, *self.mean.shape)


class Mapped(Good):
    """It shows the latents of its samples, and has no fault."""

    def latents(self, n, generator):
        return randn((n, *self.mean.shape), generator, self.device)

    def from_latents(self, z):
        return self.mean + self.scale * self.deviation * z


class MappedOtherwise(Mapped):
    def from_latents(self, z):
        return 1.5 * super().from_latents(z)


class MappedAtRandom(Mapped):
    def from_latents(self, z):
        return super().from_latents(z) + torch.randn_like(z)


class MappedFlat(Mapped):
    def from_latents(self, z):
        return super().from_latents(z).flatten(1)


FAULTS = [
    (Positional, "parameters", "'scale' as a keyword-only parameter"),
    (Altered, "parameters", "self.scale as it was given, 1.0; got 2.0"),
    (Unstored, "parameters", "'rank' stored as self.rank; got no such attribute"),
    (OddEmits, "emits", "got 'x_1'"),
    (AlwaysFitted, "unfitted", "sample before fit to raise RuntimeError; got samples"),
    (OneTooFew, "shape", "sample(1) of shape (1, 1, 8, 8); got (8, 1, 8, 8)"),
    (Flat, "shape", "got (1, 64)"),
    (Double, "dtype", "expected float32; got torch.float64"),
    (Hidden, "device", "weight as plain attributes"),
    (Infinite, "finite", "expected finite values"),
    (Clock, "generator", "equal samples from equal generators"),
    (Fixed, "generator", "other samples from another generator"),
    (
        Crowded,
        "times",
        "3 whole numbers that rise from at least 1 to t_trunc = 40; got [40",
    ),
    (Wandering, "times", "the same times at each call"),
    (Repeating, "distinct", "33 different samples; got 1 different ones"),
    (NumpyDraws, "global state", "numpy"),
    (PythonDraws, "global state", "Python"),
    (Forgetful, "save and load", "the same samples after save and load"),
    (Remembering, "refit", "fit to start afresh"),
    (InThisProcessAlone, "process", "the same samples in another process"),
    (Late, "deadline", "within 2 s of its deadline; got 2."),
    (Trainer, "frozen", "weights of the frozen model"),
    (Scribbler, "frozen", "images of the marginal"),
    (Unmoved, "gaussian target", "W2 to a Gaussian target of at most"),
    (Blank, "gaussian target", "times that of a blank image, diffused); got"),
    (MappedOtherwise, "latents", "f(z) as near to samples as others are, a sliced distance of"),
    (MappedAtRandom, "latents", "the same images of the same z; got other images"),
    (MappedFlat, "latents", "an image of shape (1, 8, 8) for each of 1000 z; got (1000, 64)"),
    (Raising, "finite", "got ZeroDivisionError: a planted one"),
    (Leaving, "finite", "got SystemExit: a planted exit"),
]

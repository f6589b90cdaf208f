"""Priors that cheat, as plugins: what must not get past the table. docs/cheats.md goes through
them.
"""

import time
from copy import deepcopy

import torch

from priorbench import TruncPrior, hookimpl, randn
from priorbench.data.dataset import to_float
from priorbench.data.digits import load


class Base(TruncPrior):
    """Remembers the marginal it was fitted to; the worst of manners, and nothing stops it."""

    emits = "x_t"

    def __init__(self) -> None:
        super().__init__()

    def fit(self, marginal, run):
        self.marginal = marginal

    def pick(self, images, n, generator):
        return images[torch.randint(len(images), (n,), generator=generator)]

    def sample(self, n, generator):
        return self.marginal.draw(n, generator)


class Stored(Base):
    """Stored training images, diffused by itself so that nobody sees clean copies."""

    def sample(self, n, generator):
        return self.marginal.diffuse(self.pick(self.marginal.images, n, generator), generator)


class OneClass(Base):
    """Knows a single digit."""

    emits = "x_0"

    def sample(self, n, generator):
        data = load()
        ones = to_float(data.train[data.labels["train"] == 1])
        return self.pick(ones, n, generator)


class TooEarly(Base):
    """Returns x at t_trunc - 20: less noise than it says."""

    def sample(self, n, generator):
        clean = self.pick(self.marginal.images, n, generator)
        return self.marginal.diffusion.diffuse(clean, self.marginal.t_trunc - 20, generator)


class Reconstructs(Base):
    """Hands out the very images that it is measured against, in the order of the file, a little
    blurred by noise.
    """

    emits = "x_0"

    def sample(self, n, generator):
        test = to_float(load().test)
        return test[torch.arange(n) % len(test)] + 0.05 * randn((n, 1, 8, 8), generator)


class Sleeps(Base):
    """Computes for long where it hopes that nobody looks: in ``sample``."""

    def sample(self, n, generator):
        time.sleep(0.003 * n)
        return self.marginal.draw(n, generator)


class TrainsTheModel(Base):
    """Tunes the frozen model instead of itself."""

    def fit(self, marginal, run):
        self.marginal = marginal
        parameter = next(marginal.diffusion.network.parameters())
        parameter.data.mul_(0.9)


class ReadsTheTestSplit(Base):
    """Fits to the test images: here, a mixture with a narrow Gaussian at each."""

    def sample(self, n, generator):
        clean = self.pick(to_float(load().test), n, generator)
        return self.marginal.diffuse(clean + 0.1 * randn(clean.shape, generator), generator)


class Fewer(Base):
    """Returns fewer samples than asked for."""

    def sample(self, n, generator):
        return self.marginal.draw(max(1, n - 1), generator)


class Repeats(Base):
    """Makes ten good samples and returns them again and again."""

    def sample(self, n, generator):
        return self.marginal.draw(10, generator).repeat(-(-n // 10), 1, 1, 1)[:n]


class RunsTheModel(Base):
    """Runs 8 steps of the frozen model itself, in good faith or not: nothing says so but a
    count.
    """

    def sample(self, n, generator):
        diffusion, t = self.marginal.diffusion, self.marginal.t_trunc
        x_0 = diffusion.denoise(randn((n, 1, 8, 8), generator), diffusion.T, "dpm++", 8, generator)
        return diffusion.diffuse(x_0, t, generator)


class CallsTheNetwork(Base):
    """Calls the network itself, for half of its samples, where no counter of the chain's
    sees it.
    """

    def sample(self, n, generator):
        x = self.marginal.draw(n, generator)
        self.marginal.diffusion.network(x[: n // 2], torch.zeros(n // 2))
        return x


class CopiesTheModel(Base):
    """Evaluates a copy of the frozen network twice, which no counter of evaluations sees."""

    def sample(self, n, generator):
        x, network = self.marginal.draw(n, generator), deepcopy(self.marginal.diffusion.network)
        for t in (900.0, 500.0):
            network(x, torch.full((n,), t))
        return x


class BehavesLater(Base):
    """Hands out test images in the samples that are measured, and is a Gaussian from then on, when
    it is looked at.
    """

    def build(self, shape):
        self.made = 0

    def sample(self, n, generator):
        self.made += n
        if self.made <= 240:
            return self.marginal.diffuse(self.pick(to_float(load().test), n, generator), generator)
        mean, deviation = (f(self.marginal.images, 0) for f in (torch.mean, torch.std))
        return self.marginal.diffuse(mean + deviation * randn((n, 1, 8, 8), generator), generator)


class PartlyStored(Base):
    """A share of stored training images, the rest from a Gaussian."""

    emits = "x_0"

    def __init__(self, *, share=0.5):
        super().__init__()
        self.share = share

    def sample(self, n, generator):
        images = self.marginal.images.flatten(1)
        factor = torch.linalg.cholesky(torch.cov(images.T) + 1e-4 * torch.eye(64))
        gaussian = (images.mean(0) + randn((n, 64), generator) @ factor.T).view(n, 1, 8, 8)
        stored = torch.rand(n, 1, 1, 1, generator=generator) < self.share
        return torch.where(stored, self.pick(self.marginal.images, n, generator), gaussian)


class WorksAhead(Base):
    """Makes four batches at once, slowly, and hands three of them out in no time."""

    def build(self, shape):
        self.stock = []

    def sample(self, n, generator):
        if len(self.stock) < n:
            time.sleep(0.002 * 4 * n)
            self.stock = list(self.marginal.draw(4 * n, generator))
        x, self.stock = self.stock[:n], self.stock[n:]
        return torch.stack(x)


CHEATS = {
    "runs-the-model": RunsTheModel, "calls-the-network": CallsTheNetwork,
    "copies-the-model": CopiesTheModel,
    "behaves-later": BehavesLater, "partly-stored": PartlyStored, "works-ahead": WorksAhead,
    "stored": Stored, "one-class": OneClass, "too-early": TooEarly, "reconstructs": Reconstructs,
    "sleeps": Sleeps,
    "trains-the-model": TrainsTheModel, "reads-the-test-split": ReadsTheTestSplit, "fewer": Fewer,
    "repeats": Repeats,
}  # fmt: skip


@hookimpl
def register_priors(register):
    for name, cls in CHEATS.items():
        register(name, f"{__name__}:{cls.__name__}", summary="a cheat")

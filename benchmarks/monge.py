r"""How near to the optimal map is a fitted one, where the optimal map is known?

    python benchmarks/monge.py [--seconds 20] [--images 5000] [--only NAME ...]

Both targets are the law of T(z), z ~ N(0, I), for the gradient T of a convex function, which is the
optimal map from N(0, I) to it (Brenier, 1991):

* ``gaussian``: T(z) = m + S^(1/2) z, with falling variances.
* ``convex``: T = (T_1 + T_2) / 2. Each T_i is the gradient of an input-convex network of one layer,
  a log-sum-exp of 10 affine functions plus |z|^2 / 50, as in the pairs of Korotin et al. (NeurIPS
  2021, https://arxiv.org/abs/2106.01954), whose networks are deeper and are trained. It gathers
  the draws around 100 points.

Prints for each fitted map f the unexplained variance

    L2-UVP = 100 E |f(z) - T(z)|^2 / Var T(z), in percent,

over new z; 0 is the optimal map, and 100 what the mean of the target scores. Maps are fitted to
images of the target alone. Beside priors stand the mapping estimators of POT, which are fitted to
2,000 draws and 2,000 images. Also prints the exact W2 between f(z) and as many new images, over
that between two sets of images: 1 is the right law, whatever the map.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import ot
import torch
from priorbench_mixture.prior import MixturePrior
from priorbench_ot.prior import OTPrior
from priorbench_ot.sinf import SINFPrior
from rich.console import Console
from rich.table import Table
from torch import Tensor

from priorbench import FitRun, TruncatedMarginal, TruncPrior
from priorbench.metrics.wasserstein import exact_w2
from priorbench.subject import example_marginal

say = Console(width=100, highlight=False).print

Map = Callable[[Tensor], Tensor]  # (N, d) -> (N, d)
SIDE = 8  # pixels
DIM = SIDE**2
TESTED = 2000  # new z
PAIRED = 2000  # draws and images that POT's estimators are fitted to


def generator_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian() -> Map:
    """The optimal map to a Gaussian whose deviations fall from 0.5 to 0.02."""
    axes, _ = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator_of(1)))
    root = axes * torch.logspace(-0.3, -1.7, DIM) @ axes.T
    mean = torch.linspace(-0.3, 0.3, DIM)
    return lambda z: mean + z @ root


def convex() -> Map:
    """The gradient of the mean of two input-convex networks."""
    layers = [0.6 * torch.randn(10, DIM, generator=generator_of(seed)) / 8 for seed in (2, 3)]

    def gradient(z: Tensor) -> Tensor:
        parts = [torch.softmax(DIM * z @ w.T / 2, dim=1) @ w * 4 for w in layers]
        return (parts[0] + parts[1]) / 2 + z / 25

    return gradient


@dataclass
class Pair:
    """A target with its optimal map: images to fit to, and new draws to test with."""

    optimal: Map
    images: int

    def __post_init__(self) -> None:
        z = torch.randn(self.images + 3 * TESTED, DIM, generator=generator_of(4))
        x = self.optimal(z)
        self.train, self.validation, self.test, self.other = x.split(
            [self.images, TESTED, TESTED, TESTED]
        )
        self.z = torch.randn(TESTED, DIM, generator=generator_of(5))

    def scores(self, moved: Tensor, z: Tensor) -> tuple[float, float]:
        """L2-UVP of points ``moved`` (N, d) from ``z``, and how far their law is."""
        wanted = self.optimal(z)
        missed = (moved - wanted).square().sum(1).mean() / self.test.var(0).sum()
        law = exact_w2(moved, self.test) / exact_w2(self.other[: len(moved)], self.test)
        return 100 * float(missed), law


def of_prior(prior: TruncPrior, pair: Pair, seconds: float) -> tuple[float, float]:
    """The scores of a prior, fitted to images of the target in at most ``seconds``."""
    shape = (1, SIDE, SIDE)
    train, held_out = (x.view(-1, *shape) for x in (pair.train, pair.validation))
    diffusion = example_marginal().diffusion  # its features are of no use here
    marginal = TruncatedMarginal(train, diffusion, 1, held_out)
    deadline = time.monotonic() + seconds if prior.takes_budget else None
    prior.fit(marginal, FitRun(generator_of(0), deadline))
    with torch.no_grad():
        z = prior.latents(TESTED, generator_of(6))
        return pair.scores(prior.from_latents(z).flatten(1), prior.source(z).flatten(1))


def of_pot(estimator: ot.da.BaseTransport, pair: Pair) -> tuple[float, float]:
    """The scores of an estimator of POT, fitted to draws of z and images."""
    z = torch.randn(PAIRED, DIM, generator=generator_of(7))
    estimator.fit(Xs=z.double().numpy(), Xt=pair.train[:PAIRED].double().numpy())
    moved = estimator.transform(Xs=pair.z.double().numpy())
    return pair.scores(torch.from_numpy(moved).float(), pair.z)


PRIORS: dict[str, Callable[[], TruncPrior]] = {
    "mixture": MixturePrior,
    "mixture[components=1,latent=64]": lambda: MixturePrior(components=1, latent=DIM),
    "ot": OTPrior,
    "ot[components=1,latent=64]": lambda: OTPrior(components=1, latent=DIM),
    "sinf[emits=x_0]": lambda: SINFPrior(emits="x_0"),
}
POT: dict[str, Callable[[], ot.da.BaseTransport]] = {
    "POT LinearTransport": ot.da.LinearTransport,
    "POT SinkhornTransport": lambda: ot.da.SinkhornTransport(reg_e=1.0),
    "POT MappingTransport": lambda: ot.da.MappingTransport(mu=1, eta=1e-3, max_iter=5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20, help="of a prior's fit")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--only", nargs="*", help="the names of the maps, as they are printed")
    given = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("map", "gaussian UVP", "gaussian law", "convex UVP", "convex law")
    pairs = [Pair(gaussian(), given.images), Pair(convex(), given.images)]
    table.add_row("the mean of the images", *["100.0", "-"] * 2)
    for name in [*PRIORS, *POT]:
        if given.only and name not in given.only:
            continue
        found = [
            of_prior(PRIORS[name](), pair, given.seconds)
            if name in PRIORS
            else of_pot(POT[name](), pair)
            for pair in pairs
        ]
        table.add_row(name, *(f"{value:.2f}" for row in found for value in row))
        say(f"{name}: done")
    say(table)


if __name__ == "__main__":
    main()

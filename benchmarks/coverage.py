"""How often are the intervals right, and how often is a prior called first by chance?

    python benchmarks/coverage.py [--repetitions 400]

The features are Gaussian, so their laws are known. The first table is about one setting: how often
the intervals of ``fid_inf`` contain the true FID, and those of ``fid`` the mean FID over samples on
the same real images. The usual bootstrap is shown beside them: the 2.5 % and 97.5 % quantiles of
the FID after resampling both sets with replacement.

The second table is about whole runs, through the very tables that a run writes: five contenders and
pure noise, each with two values of t_trunc and several seeds. Every fit is a law of its own, whose
mean differs from that of the prior at random. Each setting of a seed shares half of its noise with
the others. It shows how often the intervals are right of a prior's setting that was chosen as best,
of the setting that was chosen among all of them, and of the difference from pure noise; and in how
many runs of five equal priors, equal to pure noise too, one alone is called first, or any is said
to beat pure noise or to lose to it.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from priorbench.metrics.fid_infinity import fid_at_infinity, frechet, moments
from priorbench.tables.best import best
from priorbench.tables.fold import comparison, interval, summary

CASES = [  # features, samples, real images, how far apart the two laws are
    (16, 500, 360, 0.0),
    (16, 500, 360, 0.3),
    (64, 1000, 2000, 0.0),
    (64, 1000, 2000, 0.05),
    (64, 1000, 2000, 0.3),
    (64, 1000, 360, 0.1),
]
SEEDS = 5
RESAMPLINGS = 100
WORLDS = 20  # sets of real images; each is used for a twentieth of the repetitions
TRUTH = 400  # sets of samples whose mean FID counts as true


@dataclass(frozen=True)
class Law:
    """N(mean, factor factor')."""

    mean: Tensor
    factor: Tensor

    def draw(self, count: int, generator: torch.Generator, shared: Tensor | None = None) -> Tensor:
        """``count`` draws (count, F); half of their noise is ``shared`` (count, F), if given."""
        shape = (count, len(self.mean))
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        noise = noise if shared is None else (noise + shared) / 2**0.5
        return self.mean + noise @ self.factor.T

    def moved(self, by: float, generator: torch.Generator) -> "Law":
        """The law of one fit: its mean is moved by so many standard deviations."""
        step = torch.randn(len(self.mean), generator=generator, dtype=torch.float64)
        return Law(self.mean + by * self.factor @ step, self.factor)


def laws(features: int, apart: float, generator: torch.Generator) -> tuple[Law, Law, float]:
    """Two Gaussians with falling variances, and their FID."""
    size = torch.arange(features, dtype=torch.float64)
    variances = torch.exp(-size * 6 / features) + 0.01
    turn = torch.linalg.qr(
        torch.eye(features, dtype=torch.float64)
        + 0.3 * apart * torch.randn(features, features, generator=generator, dtype=torch.float64)
    ).Q
    wobble = torch.exp(apart * torch.randn(features, generator=generator, dtype=torch.float64))
    step = torch.randn(features, generator=generator, dtype=torch.float64)
    real = Law(torch.zeros(features, dtype=torch.float64), torch.diag(variances.sqrt()))
    made = Law(apart / 2 * variances.sqrt() * step, turn * (variances * wobble).sqrt())
    exact = frechet(*((law.mean, law.factor @ law.factor.T) for law in (real, made)))
    return real, made, exact


def bootstrap(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """The usual interval: quantiles of the FID after resampling both sets with replacement."""
    found = []
    for _ in range(RESAMPLINGS):
        a, b = (s[torch.randint(len(s), (len(s),), generator=generator)] for s in (x, y))
        found.append(frechet(moments(a), moments(b)))
    low, high = torch.tensor(found).quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


# --- one setting ----------------------------------------------------------------------------------


def mean_fid(made: Law, n: int, real: Tensor, moved: float, generator: torch.Generator) -> float:
    """The mean FID over samples, and over fits, on one set of real images."""
    fits = (made.moved(moved, generator) for _ in range(TRUTH))
    of_real = moments(real)
    found = [frechet(moments(fit.draw(n, generator)), of_real) for fit in fits]
    return sum(found) / len(found)


def one_setting(
    features: int, n: int, m: int, apart: float, repetitions: int
) -> tuple[float, pd.DataFrame, Counter[str]]:
    """The true FID, a row of FIDs for each repetition, and how often each interval is right."""
    generator = torch.Generator().manual_seed(0)
    law, made, exact = laws(features, apart, generator)
    hits, found = Counter[str](), []
    for repetition in range(repetitions):
        if repetition % max(1, repetitions // WORLDS) == 0:
            fixed = law.draw(m, generator)
            truth = mean_fid(made, n, fixed, 0.0, generator)
        for name, real, right in (
            ("fid_inf", law.draw(m, generator), exact),
            ("fid", fixed, truth),
        ):
            samples = [made.draw(n, generator) for _ in range(SEEDS)]
            rows = [
                {"fid": frechet(moments(x), moments(real))} | fid_at_infinity(x, real, generator)
                for x in samples
            ]
            group = pd.DataFrame(rows)
            for seeds in (1, SEEDS):
                _, low, high = interval(group[:seeds], name)
                hits[f"{name} {seeds}"] += low <= right <= high
            if name == "fid_inf":
                found.append(rows[0])
                low, high = bootstrap(samples[0], real, generator)
                hits["bootstrap"] += low <= right <= high
    return exact, pd.DataFrame(found), hits


def about_one_setting(repetitions: int) -> Table:
    intervals = ["fid_inf 1", f"fid_inf {SEEDS}", "fid 1", f"fid {SEEDS}", "bootstrap"]
    named = ["fid_inf,\n1 seed", f"fid_inf,\n{SEEDS} seeds", "fid,\n1 seed", f"fid,\n{SEEDS} seeds"]
    headings = ["features", "samples", "real", "true FID", "mean fid", "mean fid_inf"]
    table = Table(*headings, *named, "bootstrap")
    for features, n, m, apart in CASES:
        exact, found, hits = one_setting(features, n, m, apart, repetitions)
        fids = [f"{fid:.3f}" for fid in (exact, found.fid.mean(), found.fid_inf.mean())]
        shares = [f"{100 * hits[name] / repetitions:.1f} %" for name in intervals]
        table.add_row(str(features), str(n), str(m), *fids, *shares)
    return table


# --- whole runs -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Priors over Gaussian features, of 16 numbers, with 500 samples and 360 real images.

    Attributes:
        name: in the table.
        seeds: how many.
        moved: how far the fits of each contender are from their mean, in standard deviations.
        apart: how far each contender's law is from the real one; pure noise is as far as the first.
    """

    name: str
    seeds: int
    moved: tuple[float, ...] = (0.0,) * 5
    apart: tuple[float, ...] = (0.3,) * 5

    @property
    def equal(self) -> bool:
        """Whether all contenders, and pure noise, have the same mean FID."""
        return len(set(self.apart)) == len(set(self.moved)) == 1


STEADY, VARIED, UNSTABLE = (0.0,) * 5, (0.05,) * 5, (0.03, 0.03, 0.03, 0.03, 0.3)
RUNS = [
    World("fits alike", 5),
    World("fits alike", 3),
    World("fits vary", 5, VARIED),
    World("fits vary", 3, VARIED),
    World("priors differ", 5, VARIED, (0.2, 0.25, 0.3, 0.35, 0.4)),
    World("one is unstable", 5, UNSTABLE),
    World("one is unstable", 3, UNSTABLE),
]
FEATURES, SAMPLES, REAL = 16, 500, 360
STARTS = (100, 200)  # the same law at both: choosing between them is chance alone


class Runs:
    """Runs of one world on one set of real images, with the mean FID of each prior."""

    def __init__(self, world: World, generator: torch.Generator) -> None:
        self.world, self.generator = world, generator
        law, _, _ = laws(FEATURES, 0.0, torch.Generator().manual_seed(1))
        self.real = {split: law.draw(REAL, generator) for split in ("test", "validation")}
        # Pure noise has the law of the first contender, and no fit that moves it.
        given = [*zip("abcde", world.apart, world.moved, strict=True)]
        given += [("noise", world.apart[0], world.moved[0])]
        self.priors = {
            prior: (laws(FEATURES, far, torch.Generator().manual_seed(2))[1], by)
            for prior, far, by in given
        }
        distinct = {(far, by): prior for prior, far, by in given}
        means = {
            which: mean_fid(self.priors[p][0], SAMPLES, self.real["test"], which[1], generator)
            for which, p in distinct.items()
        }
        self.truth = {prior: means[far, by] for prior, far, by in given}

    def table(self) -> pd.DataFrame:
        """comparison.csv of a run."""
        return comparison(list(self._rows()), "x", 1)

    def _rows(self) -> Iterator[dict[str, object]]:
        for seed in range(self.world.seeds):
            shape = (SAMPLES, FEATURES)
            shared = torch.randn(shape, generator=self.generator, dtype=torch.float64)
            for prior, (made, by) in self.priors.items():
                for t_trunc in (1000,) if prior == "noise" else STARTS:
                    fit = made.moved(by, self.generator)
                    for split, real in self.real.items():
                        x = fit.draw(SAMPLES, self.generator, shared if split == "test" else None)
                        figures = {"fid": frechet(moments(x), moments(real))}
                        if split == "test":
                            figures |= fid_at_infinity(x, real, self.generator)
                        yield row(prior, t_trunc, seed, split) | figures


def row(prior: str, t_trunc: int, seed: int, split: str) -> dict[str, object]:
    """A row of comparison.csv without figures."""
    return {
        "prior": prior, "params": "", "control": prior == "noise", "t_trunc": t_trunc, "T": 1000,
        "solver": "x", "steps": 1, "nfe": 1, "seed": seed, "split": split, "n_samples": SAMPLES,
        "status": "ok", "prior_seconds": 0.001, "denoise_seconds": 0.001, "device": "cpu",
        "threads": 1, "concurrency": 1, "warning": "", "cell": "",
    }  # fmt: skip


def whole_runs(world: World, repetitions: int) -> Counter[str]:
    """How often each interval was right, and how often something was said of equal priors."""
    generator, hits = torch.Generator().manual_seed(0), Counter[str]()
    for repetition in range(repetitions):
        if repetition % max(1, repetitions // WORLDS) == 0:
            runs = Runs(world, generator)
        table = runs.table()
        found = best(table, summary(table))
        ranked = {row.prior: row for row in found.itertuples() if not row.control}
        for prior, mine in ranked.items():
            truth = runs.truth[prior]
            apart = mine.difference_low <= truth - runs.truth["noise"] <= mine.difference_high
            hits[f"fid {prior}"] += mine.fid_low <= truth <= mine.fid_high
            hits[f"difference {prior}"] += apart
        scores = table[table.split == "validation"].groupby(["prior", "t_trunc"]).fid.mean()
        winner = ranked[min(ranked, key=lambda p: scores[p, ranked[p].t_trunc])]
        hits["winner"] += winner.fid_low <= runs.truth[winner.prior] <= winner.fid_high
        hits["alone"] += sum(mine.rank == 1 for mine in ranked.values()) == 1
        hits["noise"] += any(mine.beats_noise != "undecided" for mine in ranked.values())
    return hits


def about_whole_runs(repetitions: int) -> Table:
    headings = ["five contenders and pure noise", "seeds", "a prior's best", "best of all"]
    headings += ["difference", "difference,\nlast prior", "first alone", "against noise"]
    table = Table(*headings)
    for world in RUNS:
        hits = whole_runs(world, repetitions)
        mean = {
            name: sum(hits[f"{name} {p}"] for p in "abcde") / 5 for name in ("fid", "difference")
        }
        found = [mean["fid"], hits["winner"], mean["difference"], hits["difference e"]]
        found += [hits["alone"], hits["noise"]] if world.equal else [math.nan, math.nan]
        shares = ["" if math.isnan(n) else f"{100 * n / repetitions:.1f} %" for n in found]
        table.add_row(world.name, str(world.seeds), *shares)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=400)
    repetitions = parser.parse_args().repetitions
    error = 196 * math.sqrt(0.95 * 0.05 / repetitions)
    console = Console(width=120)
    console.print(about_one_setting(repetitions))
    console.print(
        f"Share of {repetitions} intervals that are right. It should be 95 %, +- {error:.1f} %."
    )
    console.print(about_whole_runs(repetitions))
    console.print(
        f"Share of intervals that are right in {repetitions} runs, which should be 95 %; and of "
        "runs that call one of five equal priors the first, or say that any is better or worse "
        "than pure noise, which should be 5 % at most."
    )


if __name__ == "__main__":
    main()

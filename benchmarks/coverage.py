"""How often do the intervals of summary.csv contain the true FID?

    python benchmarks/coverage.py [--repetitions 400]

The features are Gaussian, so their FID is known in closed form. Each repetition draws samples and
real images afresh, computes the figures of a cell, and folds them as summary.csv does: one seed,
and five seeds on one set of real images. The usual bootstrap is shown beside them: the 2.5 % and
97.5 % quantiles of the FID after resampling both sets with replacement.
"""

import argparse
import math

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from priorbench.metrics.fid_infinity import fid_at_infinity, frechet, moments
from priorbench.tables.fold import interval

CASES = [  # features, samples, real images, how far apart the two laws are
    (16, 500, 360, 0.0),
    (16, 500, 360, 0.3),
    (64, 1000, 2000, 0.0),
    (64, 1000, 2000, 0.05),
    (64, 1000, 2000, 0.3),
    (64, 1000, 360, 0.1),
]
HEADINGS = [
    "features", "samples", "real", "true FID", "mean FID", "mean FID_inf", "one seed", "5 seeds",
    "bootstrap",
]  # fmt: skip
SEEDS = 5
RESAMPLINGS = 100


def laws(
    features: int, apart: float, generator: torch.Generator
) -> tuple[list[torch.Tensor], float]:
    """Means and covariance factors of two Gaussians with falling variances, and their FID."""
    size = torch.arange(features, dtype=torch.float64)
    variances = torch.exp(-size * 6 / features) + 0.01
    turn = torch.linalg.qr(
        torch.eye(features, dtype=torch.float64)
        + 0.3 * apart * torch.randn(features, features, generator=generator, dtype=torch.float64)
    ).Q
    wobble = torch.exp(apart * torch.randn(features, generator=generator, dtype=torch.float64))
    mean = (
        apart
        / 2
        * variances.sqrt()
        * torch.randn(features, generator=generator, dtype=torch.float64)
    )
    factors = [torch.diag(variances.sqrt()), turn * (variances * wobble).sqrt()]
    means = [torch.zeros(features, dtype=torch.float64), mean]
    exact = frechet((means[0], factors[0] @ factors[0].T), (means[1], factors[1] @ factors[1].T))
    return [means[0], factors[0], means[1], factors[1]], exact


def bootstrap(x: torch.Tensor, y: torch.Tensor, generator: torch.Generator) -> tuple[float, float]:
    """The usual interval: quantiles of the FID after resampling both sets with replacement."""
    found = []
    for _ in range(RESAMPLINGS):
        a, b = (s[torch.randint(len(s), (len(s),), generator=generator)] for s in (x, y))
        found.append(frechet(moments(a), moments(b)))
    low, high = torch.tensor(found).quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def coverage(
    features: int, n: int, m: int, apart: float, repetitions: int
) -> tuple[float, pd.DataFrame, list[int]]:
    """The true FID, a row of FIDs for each repetition, and how often each interval contains it."""
    generator = torch.Generator().manual_seed(0)
    (mean_y, factor_y, mean_x, factor_x), exact = laws(features, apart, generator)

    def draw(count: int, mean: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(count, len(mean), generator=generator, dtype=torch.float64)
        return mean + noise @ factor.T

    hits, found = [0, 0, 0], []
    for _ in range(repetitions):
        real = draw(m, mean_y, factor_y)
        rows = []
        for _ in range(SEEDS):
            x = draw(n, mean_x, factor_x)
            fid = frechet(moments(x), moments(real))
            rows.append({"fid": fid} | fid_at_infinity(x, real, generator))
        group = pd.DataFrame(rows)
        found.append(rows[0])
        ends = [
            interval(group[:1], "fid_inf")[1:],
            interval(group, "fid_inf")[1:],
            bootstrap(x, real, generator),
        ]
        for i, (low, high) in enumerate(ends):
            hits[i] += low <= exact <= high
    return exact, pd.DataFrame(found), hits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=400)
    repetitions = parser.parse_args().repetitions
    table = Table(*HEADINGS)
    for features, n, m, apart in CASES:
        exact, found, hits = coverage(features, n, m, apart, repetitions)
        fids = [f"{fid:.3f}" for fid in (exact, found.fid.mean(), found.fid_inf.mean())]
        shares = [f"{100 * h / repetitions:.1f} %" for h in hits]
        table.add_row(str(features), str(n), str(m), *fids, *shares)
    error = math.sqrt(0.95 * 0.05 / repetitions)
    console = Console(width=120)
    console.print(table)
    console.print(
        f"Share of {repetitions} intervals that contain the true FID. It should be 95 %, "
        f"+- {196 * error:.1f} %."
    )


if __name__ == "__main__":
    main()

"""How often do the intervals of summary.csv contain the true FID? Gaussian features, whose FID is
known in closed form.

    python benchmarks/coverage.py [--repetitions 400]

Each repetition draws samples and real images anew, computes what a cell computes, and folds it as
summary.csv does: one seed, and five seeds on one set of real images. Beside them what is usually
done: the 2.5 % and 97.5 % quantiles of FIDs of samples and real images drawn anew with replacement.
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
    (16, 500, 360, 0.0), (16, 500, 360, 0.3), (64, 1000, 2000, 0.0), (64, 1000, 2000, 0.05), (64, 1000, 2000, 0.3),
    (64, 1000, 360, 0.1),
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
    """The usual interval: quantiles of the FID of both sets drawn anew with replacement."""
    found = []
    for _ in range(RESAMPLINGS):
        a, b = (s[torch.randint(len(s), (len(s),), generator=generator)] for s in (x, y))
        found.append(frechet(moments(a), moments(b)))
    low, high = torch.tensor(found).quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=400)
    repetitions = parser.parse_args().repetitions
    table = Table(
        "features",
        "samples",
        "real",
        "true FID",
        "mean FID",
        "mean FID_inf",
        "one seed",
        "5 seeds",
        "bootstrap",
    )
    for features, n, m, apart in CASES:
        generator = torch.Generator().manual_seed(0)
        (mean_y, factor_y, mean_x, factor_x), exact = laws(features, apart, generator)

        def draw(
            count: int, mean: torch.Tensor, factor: torch.Tensor, g: torch.Generator = generator
        ) -> torch.Tensor:
            return mean + torch.randn(count, len(mean), generator=g, dtype=torch.float64) @ factor.T

        hits, plain, infinite = [0, 0, 0], [], []
        for _ in range(repetitions):
            real = draw(m, mean_y, factor_y)
            rows = []
            for _ in range(SEEDS):
                x = draw(n, mean_x, factor_x)
                rows.append(
                    {"fid": frechet(moments(x), moments(real))}
                    | fid_at_infinity(x, real, generator)
                )
            group = pd.DataFrame(rows)
            plain.append(group.fid[0])
            infinite.append(group.fid_inf[0])
            ends = [
                interval(group[:1], "fid_inf")[1:],
                interval(group, "fid_inf")[1:],
                bootstrap(x, real, generator),
            ]
            for i, (low, high) in enumerate(ends):
                hits[i] += low <= exact <= high
        error = math.sqrt(0.95 * 0.05 / repetitions)
        table.add_row(
            str(features), str(n), str(m), f"{exact:.3f}", f"{sum(plain) / repetitions:.3f}",
            f"{sum(infinite) / repetitions:.3f}", *(f"{100 * h / repetitions:.1f} %" for h in hits),
        )  # fmt: skip
    console = Console(width=120)
    console.print(table)
    console.print(
        f"Share of {repetitions} intervals that contain the true FID; 95 % is meant, +- {196 * error:.1f} %."
    )


if __name__ == "__main__":
    main()

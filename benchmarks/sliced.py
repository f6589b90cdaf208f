"""How much faster than POT's is our sliced Wasserstein loss, forward and backward?

    python benchmarks/sliced.py [--threads 2] [--repetitions 9]

Prints median times of both, their ratio, and how far values and gradients differ.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import ot
import torch
from priorbench_ot import sliced_wasserstein
from rich.console import Console
from rich.table import Table

CASES = [(2000, 784, 512), (10_000, 784, 512)]  # points per batch, dimensions, directions


def seconds(program: Callable[[], torch.Tensor], repetitions: int) -> float:
    """The median time of ``program``, after one call to warm up."""
    program()
    taken = []
    for _ in range(repetitions):
        started = time.perf_counter()
        program()
        taken.append(time.perf_counter() - started)
    return median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    table = Table(
        "N", "d", "K", "POT ms", "ours ms", "ratio", "values differ by", "gradients differ by"
    )
    for n, d, k in CASES:
        generator = torch.Generator().manual_seed(0)
        start, y = (torch.randn(n, d, generator=generator) for _ in range(2))
        theta = torch.nn.functional.normalize(torch.randn(k, d, generator=generator), dim=1)
        columns = theta.T.contiguous()

        def theirs(
            start: torch.Tensor = start, y: torch.Tensor = y, columns: torch.Tensor = columns
        ) -> torch.Tensor:
            x = start.clone().requires_grad_()
            ot.sliced_wasserstein_distance(x, y, projections=columns, p=2).backward()
            assert x.grad is not None
            return x.grad

        def ours(
            start: torch.Tensor = start, y: torch.Tensor = y, theta: torch.Tensor = theta
        ) -> torch.Tensor:
            x = start.clone().requires_grad_()
            sliced_wasserstein(x, y, directions=theta, p=2).backward()
            assert x.grad is not None
            return x.grad

        values = [
            float(ot.sliced_wasserstein_distance(start, y, projections=columns, p=2)),
            float(sliced_wasserstein(start, y, directions=theta, p=2)),
        ]
        slopes = theirs(), ours()
        pot, own = seconds(theirs, given.repetitions), seconds(ours, given.repetitions)
        table.add_row(
            str(n), str(d), str(k), f"{1000 * pot:.0f}", f"{1000 * own:.0f}", f"{pot / own:.1f}",
            f"{abs(values[0] - values[1]) / values[0]:.1e}",
            f"{float((slopes[0] - slopes[1]).norm() / slopes[0].norm()):.1e}",
        )  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

"""What a frozen model scores from pure noise in few steps: solvers x timesteps x models.

    python benchmarks/few_steps.py --dataset path/to/cifar10 --backbone cifar10-small
        [--backbone other=path/to/folder ...] [--steps 5,10,20] [--n 2000]
        [--output results/few-steps.csv]

A line of the CSV is one chain. If it is interrupted, the same command goes on with those that are
missing.
"""

import argparse
import csv
from pathlib import Path

import torch
from rich.console import Console

from priorbench.data.dataset import Dataset, batch_sizes, to_bytes
from priorbench.data.loading import load_dataset
from priorbench.diffusion.frozen import FrozenDiffusion
from priorbench.diffusion.process import generator_for, randn
from priorbench.diffusion.timesteps import quadratic_times
from priorbench.metrics.fidelity import features_of, fid, fid_floor
from priorbench.metrics.loading import load_extractor
from priorbench.task import default_for

CHAINS = [
    ("ddim", "uniform"), ("ddim", "quadratic"), ("dpm++", "uniform"), ("dpm++sde", "uniform"),
    ("unipc", "uniform"),
]  # fmt: skip
COLUMNS = ["backbone", "extractor", "solver", "timesteps", "steps", "n_samples", "fid", "fid_floor"]

say = Console(width=160, highlight=False).print


class Judge:
    """FID of ``n`` samples against the test split."""

    def __init__(self, data: Dataset, n: int) -> None:
        self.reader = load_extractor(default_for("extractor", data.name, data.shape[0]))
        self.n, self.test = n, features_of(data.test, self.reader)
        self.floor, _ = fid_floor(features_of(data.train, self.reader), self.test, n)

    def __call__(self, model: FrozenDiffusion, solver: str, timesteps: str, steps: int) -> float:
        """The FID of one chain; every chain starts from the same noise."""
        noise, draws = generator_for(0, "sample"), generator_for(0, "denoise")
        times = quadratic_times(model.T, steps) if timesteps == "quadratic" else None
        batches = []
        for size in batch_sizes(self.n, 100):
            x = randn((size, *model.shape), noise, model.device)
            x_0 = model.denoise(x, model.T, solver, steps, draws, times)
            batches.append(to_bytes(x_0))
        return fid(features_of(torch.cat(batches), self.reader), self.test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--backbone", action="append", required=True, help="MODEL or NAME=MODEL")
    parser.add_argument("--steps", default="5,10,20")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=Path("results/few-steps.csv"))
    given = parser.parse_args()
    judge = Judge(load_dataset(given.dataset), given.n)
    known: set[tuple[str, ...]] = set()
    if given.output.exists():
        with given.output.open() as file:
            known = {tuple(row[c] for c in COLUMNS[:-2]) for row in csv.DictReader(file)}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    with given.output.open("a") as file:
        writer = csv.writer(file)
        if not known:
            writer.writerow(COLUMNS)
        for named in given.backbone:
            name, _, path = named.rpartition("=")
            model = FrozenDiffusion.from_pretrained(path)
            for steps in map(int, given.steps.split(",")):
                for solver, timesteps in CHAINS:
                    chain = (name or path, judge.reader.get_name(), solver, timesteps)
                    if (*chain, str(steps), str(given.n)) in known:
                        continue
                    score = judge(model, solver, timesteps, steps)
                    row = [*chain, steps, given.n, f"{score:.2f}", f"{judge.floor:.2f}"]
                    writer.writerow(row)
                    file.flush()
                    say(*row)


if __name__ == "__main__":
    main()

"""Does `priorbench tune` find what the whole grid finds, and in what part of its time?

    python benchmarks/tuning.py [--dataset digits] [--max-nfe 5] [--seed 0] [--output build/tuning]

Runs the tuning, then the grid that it searches, each in a folder of its own, one after the other.
Prints the seconds of both commands, the setting that each picks by the validation split, and
whether the FID of the tuned one is within the 95 % interval of the grid's. If it is interrupted,
the same command resumes it, and the seconds add up.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

import priorbench
from priorbench.tuning import Limit, read_tuning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--max-nfe", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("build/tuning"))
    given = parser.parse_args()
    words = [given.dataset, "--seed", str(given.seed), "--no-report"]
    steps = read_tuning(given.dataset, {}, limit=Limit(nfe=given.max_nfe)).config.steps
    tuned, grid = (given.output / f"{name}-{given.seed}" for name in ("tuned", "grid"))
    spent = run(tuned, "tune", *words, "--max-nfe", str(given.max_nfe))
    whole = run(grid, "run", *words, "--steps", ",".join(map(str, steps)))
    found, best = (priorbench.load_best(folder, device="cpu").row for folder in (tuned, grid))
    click.echo(f"tune  {spent:7.0f} s  {said(found)}")
    click.echo(f"grid  {whole:7.0f} s  {said(best)}")
    inside = best["fid_low"] <= found["fid"] <= best["fid_high"]
    click.echo(f"{spent / whole:.3f} of the time; {'within' if inside else 'OUTSIDE'} the interval")


def run(folder: Path, *words: str) -> float:
    """The seconds of a command of priorbench, those of earlier, interrupted calls included."""
    record = folder.with_suffix(".seconds")
    before = float(record.read_text()) if record.exists() else 0.0
    command = [sys.executable, "-m", "priorbench", *words, "--output", str(folder)]
    started = time.monotonic()
    try:
        subprocess.run(command, check=True, stdout=sys.stderr)
    finally:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(str(before + time.monotonic() - started))
    return float(record.read_text())


def said(row: dict[str, Any]) -> str:
    """A setting and its FID on the test split."""
    return (
        f"{row['prior']} at t_trunc {row['t_trunc']}, {row['steps']} steps of {row['solver']}: "
        f"FID {row['fid']:.3f} ({row['fid_low']:.3f}..{row['fid_high']:.3f})"
    )


if __name__ == "__main__":
    main()

"""Does `priorbench tune` find what the whole grid finds, and in what part of its time?

    python benchmarks/tuning.py [--dataset digits] [--max-nfe 5] [--seed 0] [--output build/tuning]

Runs the tuning, then the grid that it searches, each in a folder of its own, one after the other.
Prints the seconds of both, the setting that each picks by the validation split, and whether the FID
of the tuned one is within the 95 % interval of the grid's. If it is interrupted, the same command
resumes it.
"""

import argparse
import json
import subprocess
import sys
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
    run("tune", *words, "--max-nfe", str(given.max_nfe), "--output", str(tuned))
    run("run", *words, "--steps", ",".join(map(str, steps)), "--output", str(grid))
    spent = sum(json.loads((tuned / "tuning.json").read_text()).values())
    whole = json.loads((grid / "run.json").read_text())["seconds"]
    found, best = (priorbench.load_best(folder, device="cpu").row for folder in (tuned, grid))
    click.echo(f"tune  {spent:7.0f} s  {said(found)}")
    click.echo(f"grid  {whole:7.0f} s  {said(best)}")
    inside = best["fid_low"] <= found["fid"] <= best["fid_high"]
    click.echo(f"{spent / whole:.3f} of the time; {'within' if inside else 'OUTSIDE'} the interval")


def run(*words: str) -> None:
    """A command of priorbench, which says how it gets on."""
    subprocess.run([sys.executable, "-m", "priorbench", *words], check=True, stdout=sys.stderr)


def said(row: dict[str, Any]) -> str:
    """A setting and its FID on the test split."""
    return (
        f"{row['prior']} at t_trunc {row['t_trunc']}, {row['steps']} steps of {row['solver']}: "
        f"FID {row['fid']:.3f} ({row['fid_low']:.3f}..{row['fid_high']:.3f})"
    )


if __name__ == "__main__":
    main()

"""How long does a run take under each executor?

    python benchmarks/workers.py [digits] [--executors serial,process,ray] [--workers 2]
        [--repeats 1] [--short] [--set key=value ...]

Runs a preset as a command in an empty folder, imports included, once under each executor in turn,
and that as often as ``--repeats`` says. The tables are compared too. ``--short`` makes 64 cells of
about a second. Ray runs as many cells at once as the machine has cores.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from rich.console import Console

from priorbench.tables.columns import AVERAGED, VARIES

SHORT = [
    "priors=gaussian", "controls=[]", "seeds=32", "t_trunc=[200]", "solver=dpm++", "steps=[2]",
    "full_chain.steps=2", "rivals=[]", "rival_timesteps=[uniform]", "n_samples=100",
    "n_validation=0", "batch_size=50",
]  # fmt: skip

say = Console(width=120, highlight=False).print


def seconds(folder: Path, config: str, *options: str) -> float:
    """Wall-clock seconds of a run."""
    command = [sys.executable, "-m", "priorbench", "run", config, "--output", str(folder), *options]
    started = time.perf_counter()
    subprocess.run([*command, "--no-report"], check=True, capture_output=True)
    return time.perf_counter() - started


def apart(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """The greatest relative difference between two tables in a figure that does not vary."""
    dropped = {*VARIES, "threads", "concurrency"}
    numbers = [c for c in AVERAGED if c not in dropped and one[c].notna().any()]
    first, second = (t[numbers].to_numpy(float) for t in (one, other))
    error = np.nanmax(np.abs(first - second) / np.maximum(np.abs(first), 1e-12), axis=0)
    return f"{error.max():.1e} ({numbers[int(error.argmax())]})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="digits")
    parser.add_argument("--executors", default="serial,process")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    sets = [f"--set={s}" for s in [*(SHORT if options.short else []), *options.sets]]
    executors = options.executors.split(",")
    taken: dict[str, list[float]] = {name: [] for name in executors}
    tables: dict[str, pd.DataFrame] = {}
    for _ in range(options.repeats):
        for name in executors:
            workers = ["--workers", str(options.workers)] if name == "process" else []
            with tempfile.TemporaryDirectory() as place:
                spent = seconds(Path(place), options.config, "--executor", name, *workers, *sets)
                tables[name] = pd.read_csv(Path(place) / "comparison.csv")
            taken[name].append(spent)
    first = executors[0]
    for name in executors:
        took, table = median(taken[name]), tables[name]
        say(
            f"{name}: {took:.1f} s, {took / median(taken[first]):.2f} of {first}; "
            f"{table.cell.nunique()} results, {table.threads.iloc[0]} threads, at once "
            f"{table.concurrency.iloc[0]}; all: {', '.join(f'{s:.1f}' for s in taken[name])}"
        )
        if name != first:
            say(f"    greatest relative difference of a figure: {apart(tables[first], table)}")


if __name__ == "__main__":
    main()

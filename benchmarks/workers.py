"""How much time does a second worker save?

    python benchmarks/workers.py [digits] [--workers 2] [--set key=value ...]

Runs a preset twice as a command in an empty folder, imports included: one cell after the other, and
two cells at once. The tables are compared too.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from priorbench.tables.columns import AVERAGED, VARIES

say = Console(width=120, highlight=False).print


def seconds(folder: Path, config: str, *options: str) -> float:
    """Wall-clock seconds of a run."""
    command = [sys.executable, "-m", "priorbench", "run", config, "--output", str(folder), *options]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="digits")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    sets = [f"--set={s}" for s in options.sets]
    with tempfile.TemporaryDirectory() as place:
        one, several = Path(place) / "one", Path(place) / "several"
        alone = seconds(one, options.config, *sets)
        say(f"one after the other: {alone:.1f} s")
        at_once = ["--executor", "process", "--workers", str(options.workers)]
        together = seconds(several, options.config, *at_once, *sets)
        say(f"{options.workers} at once: {together:.1f} s, {together / alone:.2f} times as long")
        tables = [pd.read_csv(f / "comparison.csv") for f in (one, several)]
    dropped = {*VARIES, "threads", "concurrency"}
    numbers = [c for c in AVERAGED if c not in dropped and tables[0][c].notna().any()]
    first, second = (t[numbers].to_numpy(float) for t in tables)
    apart = np.nanmax(np.abs(first - second) / np.maximum(np.abs(first), 1e-12), axis=0)
    threads = [int(t.threads.iloc[0]) for t in tables]
    say(
        f"threads {threads[0]} and {threads[1]}; greatest relative difference of a figure: "
        f"{apart.max():.1e} ({numbers[int(apart.argmax())]})"
    )


if __name__ == "__main__":
    main()

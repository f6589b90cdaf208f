"""Is anything lost if a run of 24 cells is killed 50 times, or if its disk fills up?

    python benchmarks/torture.py [--kills 50] [--seed 0]

The run is started, killed (SIGKILL) after a random time, and started again. Once it finishes, its
table is compared with that of an undisturbed run, and it starts over in an empty folder until all
kills are spent. After every kill each file is checked: a result is either whole or absent, and a
result that exists is never written again. The second part needs the right to mount a tmpfs of
20 MB.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from rich.console import Console

from priorbench.store.results import read_result
from priorbench.tables.columns import VARIES

CELLS = 24
SETTINGS = {
    "full_chain.steps": 2, "rivals": [], "rival_timesteps": ["uniform"], "controls": [],
    "n_validation": 8, "w2_points": 20,
    "n_samples": 40, "batch_size": 20, "seeds": 2, "steps": [2],
    "t_trunc": list(range(50, 1000, 90)), "priors": "gaussian",
}  # fmt: skip
say = Console(highlight=False, soft_wrap=True).print


def command(folder: Path, **changes: object) -> list[str]:
    sets = [f"--set={key}={json.dumps(value)}" for key, value in (SETTINGS | changes).items()]
    return [sys.executable, "-m", "priorbench", "run", "--output", str(folder), *sets]


def start(folder: Path, **changes: object) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command(folder, **changes), stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


def results(folder: Path) -> dict[Path, tuple[int, int]]:
    """Each result with its inode and time, which change on writing; raises if one is not whole."""
    found = {}
    for path in sorted((folder / "cells").glob("*.json")):
        read_result(path)
        found[path] = (path.stat().st_ino, path.stat().st_mtime_ns)
    for path in folder.rglob("*.json"):
        if path.name != ".running.json":
            json.loads(path.read_text())
    return found


def table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "comparison.csv").drop(columns=VARIES)


def killed(folder: Path, dice: random.Random) -> bool:
    """Start the run and kill it after a random time, mostly once it computes.

    Returns:
        Whether it finished before it was killed.
    """
    run = start(folder)
    before, early = len(list(folder.glob("cells/*.json"))), dice.random() < 0.2
    wait = dice.uniform(0, 8) if early else dice.uniform(0, 1.5)
    while not early and run.poll() is None and len(list(folder.glob("cells/*.json"))) <= before:
        if (folder / ".running.json").exists() and before == CELLS:
            break  # only the tables are left to write
        time.sleep(0.01)
    try:
        out, err = run.communicate(timeout=wait)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        return False
    if run.returncode:
        raise SystemExit(f"the run ended with exit code {run.returncode}: {out}{err}")
    return True


def one_round(folder: Path, dice: random.Random, kills: int) -> tuple[int, int, int]:
    """Run in an empty folder until the run finishes, killing it at most ``kills`` times.

    Returns:
        The number of kills, of results, and of results that were written again.
    """
    spent, rewritten, over = 0, 0, False
    known: dict[Path, tuple[int, int]] = {}
    while not over:
        if spent < kills:
            over = killed(folder, dice)
            spent += not over
        else:
            subprocess.run(command(folder), check=True, capture_output=True)
            over = True
        now = results(folder)
        rewritten += sum(now.get(path) != stamp for path, stamp in known.items())
        known = now
    if (folder / "set-aside").exists() or list(folder.rglob("*.tmp")):
        raise SystemExit(f"{folder} has files that were set aside or left over")
    return spent, len(known), rewritten


def torture(kills: int, seed: int, place: Path) -> None:
    """Kill runs until ``kills`` are spent, and compare their tables with that of a whole run."""
    dice, spent, rounds, started = random.Random(seed), 0, 0, time.monotonic()
    whole = place / "whole"
    subprocess.run(command(whole), check=True, capture_output=True)
    wanted = table(whole)
    cells = len(wanted.groupby(["prior", "t_trunc", "seed"]))
    seconds = time.monotonic() - started
    say(f"an undisturbed run: {cells} cells, {len(wanted)} rows, {seconds:.0f} s")
    if cells != CELLS:
        raise SystemExit(f"the run should have {CELLS} cells and has {cells}")
    rewritten = 0
    while spent < kills:
        folder = place / f"round-{rounds}"
        used, count, again = one_round(folder, dice, kills - spent)
        spent, rounds, rewritten = spent + used, rounds + 1, rewritten + again
        pd.testing.assert_frame_equal(table(folder), wanted, check_exact=True)
        say(f"round {rounds}: {spent} kills so far, {count} results, the table is the same")
    seconds = time.monotonic() - started
    say(f"{spent} kills in {rounds} rounds, {seconds:.0f} s; written twice: {rewritten}; torn: 0")
    if rewritten:
        raise SystemExit("a result was computed again after it was stored")


def fill_up(place: Path) -> None:
    """Run on a disk of 20 MB that is nearly full, and again after there is space."""
    disk = place / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        say(f"full disk: skipped, a tmpfs cannot be mounted here ({mounted.stderr.strip()})")
        return
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(b"\0" * (shutil.disk_usage(disk).free - 150_000))
        ended = subprocess.run(command(disk / "run"), capture_output=True, text=True, check=False)
        said = ended.stderr.strip().splitlines()[-1]
        done = len(results(disk / "run"))
        told = "No space left on device" in said and "Traceback" not in ended.stderr
        if ended.returncode != 2 or not told:
            raise SystemExit(f"a full disk ended with exit code {ended.returncode}: {ended.stderr}")
        say(f"full disk after {done} results, exit code 2: {said}")
        ballast.unlink()
        known = results(disk / "run")
        subprocess.run(command(disk / "run"), check=True, capture_output=True)
        now = results(disk / "run")
        if any(now[path] != stamp for path, stamp in known.items()):
            raise SystemExit("a result was computed again after it was stored")
        pd.testing.assert_frame_equal(table(disk / "run"), table(place / "whole"), check_exact=True)
        say(f"with space again: {len(now) - done} more, {done} kept, the table is the same")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        torture(options.kills, options.seed, Path(place))
        fill_up(Path(place))


if __name__ == "__main__":
    main()

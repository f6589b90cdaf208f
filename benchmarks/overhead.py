"""How many seconds of a run are spent outside fits, sampling, denoising and metrics?

    python benchmarks/overhead.py [digits] [--set key=value ...]

Runs a preset in this process, in an empty folder. The measurement begins after the imports and the
plan; their seconds are printed separately. Every second counts once: sampling inside a metric
counts as the metric.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from priorbench import runner, task  # noqa: E402
from priorbench.bench import cell, measure  # noqa: E402
from priorbench.bench.cell import task_of  # noqa: E402
from priorbench.bench.learning import Learning  # noqa: E402
from priorbench.diffusion.frozen import FrozenDiffusion  # noqa: E402
from priorbench.plan.layout import read_plan  # noqa: E402
from priorbench.report import run_grids  # noqa: E402
from priorbench.store.fits import Fits  # noqa: E402
from priorbench.store.results import Store  # noqa: E402

Parts = dict[str, list[tuple[Any, str]]]

WORK: Parts = {  # part -> (owner, name) of the functions that do the work itself
    "sample and denoise": [(cell, "drawn"), (cell, "denoised"), (FrozenDiffusion, "denoise")],
    "metrics": [
        (cell, "AtT"),
        (cell, "test_columns"),
        (cell, "choosing_fid"),
        (measure, "features_of"),
    ],
}
HARNESS: Parts = {  # part -> (owner, name) of the functions around it
    "fits saved and loaded": [(Fits, "keep"), (Fits, "load")],
    "looks at fits": [(Learning, "look"), (Learning, "curve")],
    "checks of a prior": [(cell, "quick_failures")],
    "shared state guarded": [(task.Task, "changed"), (task.Task, "put_back")],
    "results written": [(Store, "write")],
    "folder scanned": [(Store, "clean"), (Store, "missing")],
    "grids": [(run_grids, "write_grids")],
    "previews": [(cell, "preview")],
    "page": [(runner, "_write_page")],
    "tables": [(runner, "comparison"), (runner, "summary"), (runner, "best")],
}


class Stopwatch:
    """The seconds of each part. Only the outermost of nested calls counts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.inside = False

    def on(self, part: str, owner: Any, name: str) -> None:
        """Measure the function ``name`` of ``owner`` as ``part``."""
        function: Callable[..., Any] = getattr(owner, name)

        @wraps(function)
        def measured(*arguments: Any, **options: Any) -> Any:
            if self.inside:
                return function(*arguments, **options)
            self.inside, started = True, time.perf_counter()
            try:
                found: Any = function(*arguments, **options)
                # clean() is a generator: it works only when it is read
                return list(found) if name == "clean" else found
            finally:
                self.inside = False
                self.seconds[part] += time.perf_counter() - started

        setattr(owner, name, measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="digits")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    plan = read_plan(options.config, {}, options.sets)
    task_of(plan.cells[0])
    before = time.perf_counter() - STARTED
    watch = Stopwatch()
    for part, functions in (WORK | HARNESS).items():
        for owner, name in functions:
            watch.on(part, owner, name)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        table = runner.execute(plan, Store(Path(folder)))
        total = time.perf_counter() - started
    watch.seconds["fit"] = _fits(table)
    console = Console(width=100, highlight=False)
    _print(watch.seconds, total, console)
    console.print(f"Imports, data, model and plan before that: {before:.1f} s")


def _print(seconds: dict[str, float], total: float, console: Console) -> None:
    table = Table("part", "seconds", "share")

    def add(part: str, spent: float) -> None:
        table.add_row(part, f"{spent:.2f}", f"{100 * spent / total:.2f} %")

    for part in ("fit", *WORK, *HARNESS):
        add(part, seconds[part])
    add("everything else", total - sum(seconds.values()))
    console.print(table)
    work = sum(seconds[part] for part in ("fit", *WORK))
    outside, without_previews = (
        100 * (1 - spent / total) for spent in (work, work + seconds["previews"])
    )
    console.print(
        f"{total:.1f} s; outside fits, sampling, denoising and metrics: {outside:.2f} %, or "
        f"{without_previews:.2f} % if the denoising of previews counts as denoising"
    )


def _fits(table: Any) -> float:
    """The seconds of all fits. Several rows of one fit, one per solver setting, repeat them."""
    return float(table.drop_duplicates(["prior", "params", "t_trunc", "seed"]).fit_seconds.sum())


if __name__ == "__main__":
    main()

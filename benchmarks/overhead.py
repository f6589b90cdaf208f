"""What does the harness cost? The seconds of a run that are neither fit nor sampling nor denoising
nor metrics.

    python benchmarks/overhead.py [digits] [--set key=value ...]

By default the digits default, in this process, in an empty folder. What is measured begins once
everything is imported and planned; those seconds are told beside it. A part counts once: sampling
inside of a metric is the metric's.
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
from priorbench.diffusion.frozen import FrozenDiffusion  # noqa: E402
from priorbench.plan.layout import read_plan  # noqa: E402
from priorbench.report import run_grids  # noqa: E402
from priorbench.store.results import Store  # noqa: E402

WORK = {  # what the harness is there for, by where its functions are looked up
    "sample and denoise": [(cell, "drawn"), (cell, "denoised"), (FrozenDiffusion, "denoise")],
    "metrics": [
        (cell, "AtT"),
        (cell, "test_columns"),
        (cell, "choosing_fid"),
        (measure, "features_of"),
    ],
}
HARNESS = {
    "fits kept and loaded": [(cell.Fits, "keep"), (cell.Fits, "load")],
    "checks of a prior": [(cell, "quick_failures")],
    "what cells share looked after": [(task.Task, "changed"), (task.Task, "put_back")],
    "results written": [(Store, "write")],
    "folder looked through": [(Store, "clean"), (Store, "missing")],
    "grids": [(run_grids, "write_grids")],
    "samples on their way": [(cell, "preview")],
    "page": [(runner, "_write_page")],
    "tables": [(runner, "comparison"), (runner, "summary"), (runner, "best")],
}


class Stopwatch:
    """Seconds by part, of the outermost call alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.inside = False

    def on(self, part: str, owner: Any, name: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        @wraps(function)
        def measured(*arguments: Any, **options: Any) -> Any:
            if self.inside:
                return function(*arguments, **options)
            self.inside, started = True, time.perf_counter()
            try:
                found = function(*arguments, **options)
                return (
                    list(found) if name == "clean" else found
                )  # a generator works when it is read
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
    work = sum(watch.seconds[part] for part in ("fit", *WORK))
    shown = Table("part", "seconds", "share")
    for part in ("fit", *WORK, *HARNESS):
        shown.add_row(
            part, f"{watch.seconds[part]:.2f}", f"{100 * watch.seconds[part] / total:.2f} %"
        )
    rest = total - sum(watch.seconds.values())
    shown.add_row("all else", f"{rest:.2f}", f"{100 * rest / total:.2f} %")
    console = Console(width=100, highlight=False)
    console.print(shown)
    shown_samples = watch.seconds["samples on their way"]
    console.print(
        f"{total:.1f} s; outside of fit, sampling, denoising and metrics: {100 * (1 - work / total):.2f} %, "
        f"or {100 * (1 - (work + shown_samples) / total):.2f} % if the denoising of the samples that are shown counts "
        "as denoising"
    )
    console.print(f"Imports, data, model and plan before that: {before:.1f} s")


def _fits(table: Any) -> float:
    """The seconds of all fits; the rows of one fit, by several solver settings, tell them each."""
    return float(table.drop_duplicates(["prior", "params", "t_trunc", "seed"]).fit_seconds.sum())


if __name__ == "__main__":
    main()

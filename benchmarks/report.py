"""How large is the page of a large run, and how long does it take to build and to open?

    python benchmarks/report.py            # needs the 'dev' extra and a Chromium

The page has 500 rows and 60 grids of images of 3x32x32. Rows and images are random; only their
number and size matter here.
"""

import shutil
import tempfile
import time
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console

from priorbench.report.page import write_report
from priorbench.tables.fold import comparison

PRIORS = {**{f"prior{i}": False for i in range(10)}, "oracle": True, "memoriser": True}
STARTS = (100, 200, 300, 400, 500)
SETTINGS = [("dpm++", 3), ("dpm++", 5), ("dpm++sde", 3), ("dpm++sde", 5)]
RIVALS = [
    *SETTINGS, ("unipc", 3), ("unipc", 5), ("dpm++", 10), ("dpm++sde", 10), ("unipc", 10),
    ("ddim", 100),
]  # fmt: skip
MEASURED = ("kid", "precision", "recall", "sw2_xt", "w2_xt", "sw2_x0", "w2_x0")
SAME = {
    "dataset": "made-up", "params": "", "emits": "x_t", "T": 1000, "seed": 0, "n_samples": 1000,
    "extractor": "none", "fid_floor": 0.3, "prior_seconds": 1e-4, "noise_xt": 1.0,
    "noise_se": 0.01, "distinct": 1.0, "authenticity": 0.6, "authenticity_test": 0.6,
    "status": "ok", "error": "",
}  # fmt: skip


def make_rows(
    draw: np.random.Generator, prior: str, control: bool, t: int, solver: str, steps: int, cell: str
) -> list[dict[str, Any]]:
    """The test row and the choosing row of one setting."""
    rows = []
    for split in ("test", "train" if prior == "oracle" else "validation"):
        fid = float(np.exp(draw.normal(2, 1)))
        measured = {name: draw.random() for name in MEASURED}
        setting = {
            "prior": prior, "control": control, "t_trunc": t, "alpha_bar": np.exp(-t / 200),
            "solver": solver, "steps": steps, "nfe": steps, "split": split, "cell": cell,
        }  # fmt: skip
        seconds = {"fit_seconds": 60 * draw.random(), "denoise_seconds": 1e-3 * steps}
        rows.append(SAME | setting | {"fid": fid, "fid_se": fid / 30} | measured | seconds)
    return rows


def make_run(folder: Path, shape: tuple[int, int, int] = (3, 32, 32)) -> int:
    """Write a results folder of 500 rows and 60 grids; returns the number of rows."""
    draw = np.random.default_rng(0)
    rows = []
    for solver, steps in RIVALS:
        rows += make_rows(draw, "noise", True, 1000, solver, steps, "noise")
    (folder / "images").mkdir(parents=True)
    for (prior, control), t in product(PRIORS.items(), STARTS):
        cell = f"{prior}-{t}"
        for solver, steps in SETTINGS:
            rows += make_rows(draw, prior, control, t, solver, steps, cell)
        chain = [f"chain dpm++sde 5 {round(t * k / 4)}" for k in range(5)]
        images = {
            name: draw.integers(0, 256, (10, *shape)).astype(np.uint8)
            for name in ["z", "f(z)", *chain, "nearest"]
        }
        path = folder / "images" / f"{cell}.npz"
        np.savez(path, **images)  # type: ignore[arg-type] # numpy's stubs take names for options
    comparison(rows, "ddim", 100).to_csv(folder / "comparison.csv", index=False)
    return len(rows)


def seconds_to_open(page: Path) -> tuple[float, float, float]:
    """Seconds until the first paint (the verdict), until the page works, and until the last figure.

    They are medians of five, in a Chromium that is running already.
    """
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next(filter(None, map(shutil.which, names)), None)
    times: dict[str, list[float]] = {name: [] for name in ("first-paint", "ready", "drawn")}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        for _ in range(5):
            tab = browser.new_page()
            tab.goto(page.resolve().as_uri())
            tab.wait_for_selector("html[data-drawn]", state="attached")
            for name, taken in times.items():
                started = "name => performance.getEntriesByName(name)[0].startTime"
                taken.append(tab.evaluate(started, name) / 1000)
            tab.close()
        browser.close()
    painted, ready, drawn = (median(taken) for taken in times.values())
    return painted, ready, drawn


def main() -> None:
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        run, page = Path(folder) / "run", Path(folder) / "report.html"
        rows = make_run(run)
        started = time.perf_counter()
        report = write_report([str(run)], page)
        built = time.perf_counter() - started
        size = page.stat().st_size / 1e6
        console.print(
            f"{rows} rows, {len(report.grids)} grids: {size:.1f} MB, built in {built:.1f} s"
        )
        painted, ready, drawn = seconds_to_open(page)
        console.print(
            f"in Chromium: painted after {painted:.1f} s, usable after {ready:.1f} s, all figures "
            f"drawn after {drawn:.1f} s"
        )


if __name__ == "__main__":
    main()

"""How large the page of a large run is, how long it takes to build and to open: 500 rows, 60 grids
of 3x32x32.

    python benchmarks/report.py            # needs the 'dev' extra, and a Chromium to open it in

The rows and images are made up, by a seed; only their number and size matter here.
"""

import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console

from priorbench.report.page import write_report
from priorbench.tables.fold import comparison

PRIORS = {**{f"prior{i}": False for i in range(10)}, "oracle": True, "memoriser": True}
STARTS = (100, 200, 300, 400, 500)
SETTINGS = [("dpm++", 3), ("dpm++", 5), ("dpm++sde", 3), ("dpm++sde", 5)]
RIVALS = [
    *SETTINGS,
    ("unipc", 3),
    ("unipc", 5),
    ("dpm++", 10),
    ("dpm++sde", 10),
    ("unipc", 10),
    ("ddim", 100),
]


def make_run(folder: Path, shape: tuple[int, int, int] = (3, 32, 32)) -> int:
    """A results folder of 500 rows and 60 grids; returns how many rows."""
    draw = np.random.default_rng(0)
    rows = []

    def add(prior: str, control: bool, t: int, solver: str, steps: int, cell: str) -> None:
        for split in ("test", "train" if prior == "oracle" else "validation"):
            fid = float(np.exp(draw.normal(2, 1)))
            names = ("kid", "precision", "recall", "sw2_xt", "w2_xt", "sw2_x0", "w2_x0")
            measured = {name: draw.random() for name in names}
            rows.append(
                {
                    "dataset": "made-up", "prior": prior, "params": "", "emits": "x_t", "control": control,
                    "t_trunc": t, "T": 1000, "alpha_bar": np.exp(-t / 200), "solver": solver, "steps": steps,
                    "nfe": steps, "seed": 0, "split": split, "n_samples": 1000, "extractor": "none", "fid": fid,
                    "fid_se": fid / 30, "fid_floor": 0.3, "fit_seconds": 60 * draw.random(), "prior_seconds": 1e-4,
                    "denoise_seconds": 1e-3 * steps, "noise_xt": 1.0, "noise_se": 0.01, "distinct": 1.0,
                    "authenticity": 0.6, "authenticity_test": 0.6, "status": "ok", "error": "", "cell": cell,
                }
                | measured
            )  # fmt: skip

    for solver, steps in RIVALS:
        add("noise", True, 1000, solver, steps, "noise")
    (folder / "images").mkdir(parents=True)
    for prior, control in PRIORS.items():
        for t in STARTS:
            cell = f"{prior}-{t}"
            for solver, steps in SETTINGS:
                add(prior, control, t, solver, steps, cell)
            names = [
                "z",
                "f(z)",
                *(f"chain dpm++sde 5 {round(t * k / 4)}" for k in range(5)),
                "nearest",
            ]
            images = {name: draw.integers(0, 256, (10, *shape)).astype(np.uint8) for name in names}
            np.savez(folder / "images" / f"{cell}.npz", **images)
    comparison(rows, "ddim", 100).to_csv(folder / "comparison.csv", index=False)
    return len(rows)


def seconds_to_open(page: Path) -> tuple[float, float, float]:
    """Until the first paint, which shows the verdict; until the page works; until the last figure
    is drawn: the medians of five, in a Chromium that is running already.
    """
    from playwright.sync_api import sync_playwright

    binary = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    times: dict[str, list[float]] = {name: [] for name in ("first-paint", "ready", "drawn")}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        for _ in range(5):
            tab = browser.new_page()
            tab.goto(page.resolve().as_uri())
            tab.wait_for_selector("html[data-drawn]", state="attached")
            for name, taken in times.items():
                taken.append(
                    tab.evaluate("name => performance.getEntriesByName(name)[0].startTime", name)
                    / 1000
                )
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
        painted, opened, drawn = seconds_to_open(page)
        console.print(
            f"in Chromium: painted after {painted:.1f} s, open {opened:.1f} s, all figures drawn {drawn:.1f} s"
        )


if __name__ == "__main__":
    main()

"""A run from beginning to end: what ``priorbench run`` and :func:`priorbench.run` both do."""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ..diffusion.frozen import FrozenDiffusion
from ..diffusion.process import generator_for
from ..files import write_atomically
from ..plugin_manager import load_plugins
from ..prior import FitRun, make_prior
from .cell import CellResult, run_cell
from .config import RunConfig, make_config, read_budget
from .context import load_context
from .plan import CellSpec, Plan, make_plan
from .store import Store
from .table import comparison, summary
from .verdict import best


class Observer:
    """Somebody who watches a run; this one sees nothing."""

    def started(self, plan: Plan, done: int) -> None:
        """The run begins; ``done`` of its cells are there already."""

    def cell(self, spec: CellSpec) -> None:
        """A cell begins."""

    def progress(self, step: int, total: int, loss: float) -> None:
        """A fit has come so far."""

    def finished(self, spec: CellSpec, result: CellResult) -> None:
        """A cell is done."""

    def stopped(self) -> None:
        """No cell is left, or the run was broken off."""


def run(
    config: str | Path | None = None,
    *,
    priors: str | Sequence[str | Mapping[str, Any]] | None = None,
    t_trunc: int | Sequence[int] | None = None,
    solver: str | Sequence[str] | None = None,
    steps: int | Sequence[int | None] | None = None,
    fit_budget: str | float | None = None,
    seeds: int | None = None,
    seed: int | None = None,
    n_samples: int | None = None,
    dataset: str | None = None,
    backbone: str | None = None,
    extractor: str | None = None,
    metrics: str | Sequence[str] | None = None,
    device: str | None = None,
    output: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    fresh: bool = False,
    observer: Observer | None = None,
) -> pd.DataFrame:
    """Run a comparison and return it, a row a cell and solver setting, as in ``comparison.csv``.

    Arguments:
        config: a YAML file or the name of a preset; None is the digits default.
        priors: ``["ot", "vae"]``, ``"ot[projections=64],vae"`` or ``[{"name": "ot", "params": {...}}]``.
        t_trunc, solver, steps: the axes of the grid; a step count of None takes every timestep.
        fit_budget: seconds (``60``, ``"60s"``, ``"2min"``) or steps (``"500 steps"``) of every learned prior's fit.
        seeds: how many, from ``seed`` on.
        dataset, backbone, extractor: by name or path; the first and the last may have options, ``"NAME[key=value]"``.
        metrics: of plugins.
        settings: any other key of the config, as ``--set`` takes them: ``{"full_chain.steps": 50}``.
        output: where to write; ``results/<config name>`` below the current folder if left out, ``results/<data set>``
            where a data set is given without a config.
        fresh: compute everything again, whatever is there.

    Raises:
        UserError: for anything in the input that cannot be right; nothing has been written then.
    """
    overrides = {
        "priors": priors, "t_trunc": t_trunc, "solver": solver, "steps": steps, "seeds": seeds, "seed": seed,
        "fit_budget": fit_budget,
        "n_samples": n_samples, "dataset": dataset, "backbone": backbone, "extractor": extractor,
        "metrics": metrics, "device": device,
    }  # fmt: skip
    sets = [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()]
    plan = make_plan(make_config(config, overrides, sets))
    store = Store(output_folder(plan.config, output))
    return execute(plan, store, fresh=fresh, observer=observer)


def output_folder(config: RunConfig, output: str | Path | None) -> Path:
    return Path(output) if output else Path("results") / config.name


def execute(plan: Plan, store: Store, fresh: bool = False, observer: Observer | None = None) -> pd.DataFrame:
    """Compute what is missing of ``plan``, keep each cell as it is done, write the tables and grids."""
    from ..report.grids import write_grids

    watcher = observer or Observer()
    announce = load_plugins().announce
    started = time.monotonic()
    missing = [spec for spec in plan.cells if fresh or store.read(spec) is None]
    about: dict[str, Any] = {
        "command": " ".join(["priorbench", *sys.argv[1:]])
        if Path(sys.argv[0]).stem == "priorbench"
        else "priorbench.run",
        "commit": _commit(),
        "config": plan.config.model_dump(),
        "versions": plan.cells[0].versions | {"python": platform.python_version()},
        "machine": {
            "platform": platform.platform(),
            "processor": _processor(),
            "threads": torch.get_num_threads(),
        },
        "cells": [spec.cell for spec in plan.cells],
    }
    write_atomically(store.folder / "run.json", json.dumps(about, indent=2, default=str).encode() + b"\n")
    watcher.started(plan, len(plan.cells) - len(missing))
    announce("run_started", plan=plan)

    def observed(spec: CellSpec) -> CellResult:
        watcher.cell(spec)
        return run_cell(spec, watcher.progress)

    failed: dict[str, CellResult] = {}
    try:
        for result in load_plugins().find("executor", plan.config.executor).load()(observed, missing):
            if result.ok:
                store.write(result)
            else:
                failed[result.spec.cell] = result
                log = "\n".join(
                    [f"== {result.spec.label} t_trunc {result.spec.t_trunc} {result.spec.cell}", *result.log]
                )
                write_atomically(store.folder / "logs" / f"{result.spec.cell}.log", log.encode())
            announce("cell_finished", result=result)
            watcher.finished(result.spec, result)
    finally:
        watcher.stopped()

    rows: list[dict[str, Any]] = []
    for spec in plan.cells:
        rows += failed[spec.cell].rows if spec.cell in failed else store.rows([spec])
    table = comparison(rows, plan.config.full_chain.solver, plan.config.full_chain.steps)
    write_atomically(store.folder / "comparison.csv", table.to_csv(index=False).encode())
    means = summary(table)
    write_atomically(store.folder / "summary.csv", means.to_csv(index=False).encode())
    write_atomically(store.folder / "best.csv", best(table, means).to_csv(index=False).encode())
    write_grids(plan, store)
    about["seconds"] = round(time.monotonic() - started, 1)
    write_atomically(store.folder / "run.json", json.dumps(about, indent=2, default=str).encode() + b"\n")
    announce("run_finished", comparison=table)
    return table


class _Enough(Exception):
    """Ends a fit that was only begun to see how fast it goes."""


def estimate(plan: Plan, specs: Iterable[CellSpec], patience: float = 1.5) -> float:
    """Seconds that ``specs`` should take here, from a taste of each: a batch denoised, each kind of fit begun.

    A prior that reports no progress is run to its end.
    """
    specs = list(specs)
    if not specs:
        return 0.0
    config, first = plan.config, specs[0]
    context = load_context(first.dataset, first.backbone, first.extractor, first.device, first.precision, first.compile)
    per_evaluation = _seconds_per_evaluation(context.diffusion, config.batch_size)
    fits: dict[str, float] = {}
    learned: set[str] = set()
    for spec in specs:
        if spec.label not in fits:
            prior = make_prior(load_plugins().find("prior", spec.prior).load(), spec.label, spec.params)
            started, share = time.monotonic(), 1.0

            def taste(step: int, total: int, loss: float, started: float = started, label: str = spec.label) -> None:
                nonlocal share
                learned.add(label)
                if time.monotonic() - started > patience:
                    share = step / total
                    raise _Enough

            try:
                steps = read_budget(spec.fit_budget)[1]
                prior.fit(
                    context.marginal(spec.t_trunc), FitRun(generator_for(0, "estimate"), None, taste, budget=steps)
                )
            except _Enough:
                pass
            except Exception:  # a prior that fails does so in its cell, where it is reported
                share = 1.0
            fits[spec.label] = (time.monotonic() - started) / share
    total = 0.0
    for spec in specs:
        images = sum(n for _, n in spec.splits) + spec.batch_size
        evaluations = sum(spec.t_trunc if k is None else k for _, k in spec.solvers)
        seconds, _ = read_budget(spec.fit_budget)
        total += seconds if seconds and spec.label in learned else fits[spec.label]
        total += images * evaluations * per_evaluation + 1.5 * len(spec.solvers)
    return total


def _seconds_per_evaluation(diffusion: FrozenDiffusion, batch: int) -> float:
    x = torch.zeros(batch, *diffusion.shape, device=diffusion.device)
    generator = torch.Generator().manual_seed(0)
    diffusion.denoise(x, diffusion.T, "ddim", 1, generator)
    started = time.perf_counter()
    diffusion.denoise(x, diffusion.T, "ddim", 3, generator)
    return (time.perf_counter() - started) / (3 * batch)


def _commit() -> str | None:
    """The git commit of the folder that the run was started in, if it is in a repository."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

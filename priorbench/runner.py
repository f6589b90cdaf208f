"""A run from beginning to end: what ``priorbench run`` and :func:`priorbench.run` both do."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from .bench.cell import retimed
from .bench.work import Work
from .errors import UserError
from .files import CannotWrite, write_atomically
from .plan.budget import read_budget
from .plan.config import RunConfig
from .plan.layout import Plan, read_plan
from .plan.spec import CellResult, CellSpec
from .plugin_manager import load_plugins
from .store.lock import locked
from .store.log import RunLog
from .store.provenance import provenance
from .store.results import Store
from .tables.fold import comparison, summary
from .tables.selection import best

Failed = dict[str, list[dict[str, Any]]]  # rows by the name of their result


class Observer:
    """Somebody who watches a run; this one sees nothing."""

    def started(self, plan: Plan, done: int) -> None:
        """The run begins; ``done`` of its cells are there already."""

    def cell(self, spec: CellSpec) -> None:
        """A cell begins."""

    def progress(self, spec: CellSpec, step: int, total: int, loss: float) -> None:
        """A cell's fit has come so far."""

    def noted(self, line: str) -> None:
        """Something that the user should know of, such as a file that was set aside."""

    def finished(self, spec: CellSpec, result: CellResult) -> None:
        """A cell is done."""

    def more(self, cells: int) -> None:
        """So many cells are to be computed besides those that were known when the run began."""

    def stopped(self) -> None:
        """No cell is left, or the run was broken off."""


def run(
    config: str | Path | Mapping[str, Any] | None = None,
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
    collect: bool = False,
    report: bool = True,
    observer: Observer | None = None,
) -> pd.DataFrame:
    """Run a comparison and return it, a row a cell and solver setting, as in ``comparison.csv``.

    Arguments:
        config: a YAML file, the name of a preset, or a mapping of keys to values; None is the
            digits default.
        priors: ``["ot", "vae"]``, ``"ot[projections=64],vae"`` or ``[{"name": "ot", "params":
            {...}}]``.
        t_trunc, solver, steps: the axes of the grid; a step count of None takes every timestep.
        fit_budget: seconds (``60``, ``"60s"``, ``"2min"``) or steps (``"500 steps"``) of every
            learned prior's fit.
        seeds: how many, from ``seed`` on.
        dataset, backbone, extractor: by name or path; the first and the last may have options,
            ``"NAME[key=value]"``.
        metrics: of plugins.
        settings: any other key of the config, as ``--set`` takes them: ``{"full_chain.steps":
            50}``.
        output: where to write; ``results/<config name>`` below the current folder if left out,
            ``results/<data set>`` where a data set is given without a config.
        fresh: compute everything again, whatever is there.
        collect: compute nothing: the tables of what is there.
        report: write ``report.html`` besides.

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
    plan = read_plan(config, overrides, sets)
    store = Store(output_folder(plan.config, output))
    return execute(plan, store, fresh=fresh, collect=collect, report=report, observer=observer)


def output_folder(config: RunConfig, output: str | Path | None) -> Path:
    return Path(output) if output else Path("results") / config.name


def execute(
    plan: Plan,
    store: Store,
    fresh: bool = False,
    collect: bool = False,
    report: bool = True,
    observer: Observer | None = None,
) -> pd.DataFrame:
    """Compute what is missing of ``plan`` (nothing, to ``collect``), keep each result as it is
    done, write the tables, the grids and the page.

    Raises:
        UserError: if another run is in the folder, or it cannot be written to. What was done is
            kept.
    """
    watcher = observer or Observer()
    if collect:
        plan = _matched(plan, store)
        absent = sum(len(store.missing(spec)) for spec in plan.cells)
        table = _write_tables(plan, store, store.failed())
        if absent:
            every = sum(len(spec.results) for spec in plan.cells)
            watcher.noted(
                f"{every - absent} of {every} results are there: what is missing is not in the tables"
            )
        _write_page(store, report)
        return table
    with locked(store.folder):
        started, log = time.monotonic(), RunLog(store.folder / "logs", watcher.noted)
        about = provenance(plan)
        for line in (*store.clean(), *store.broken_off()):
            log.note(line)
        if fresh:
            for spec in _matched(plan, store).cells:
                store.forget(spec)
        missing = _missing(plan, store)
        _write_json(store.folder / "run.json", about)
        watcher.started(plan, len(plan.cells) - len(missing))
        load_plugins().announce("run_started", plan=plan)
        try:
            failed = _compute(plan, missing, store, watcher, log, {})
            plan = _matched(plan, store)
            if missing := _missing(plan, store, failed):
                log.note(
                    "a prior evaluates the frozen model in 'sample': rivals of as many evaluations follow"
                )
                watcher.more(len(missing))
                failed = _compute(plan, missing, store, watcher, log, failed)
            if plan.config.exclusive_timing:
                _write_tables(plan, store, failed)  # there, whatever becomes of the second pass
                _time_alone(plan, store, log)
        finally:
            watcher.stopped()
        table = _write_tables(plan, store, failed)
        about["cells"] = [one.cell for spec in plan.cells for one in spec.results]
        about["seconds"] = round(time.monotonic() - started, 1)
        _write_json(store.folder / "run.json", about)
        _write_page(store, report)
    load_plugins().announce("run_finished", comparison=table)
    return table


def _missing(plan: Plan, store: Store, failed: Failed | None = None) -> list[CellSpec]:
    """The cells that have settings without a result, with these settings alone; what ``failed`` is
    not tried again.
    """
    found = []
    for spec in plan.cells:
        left = [
            one.solvers[0]
            for one in spec.results
            if one.cell not in (failed or {}) and store.missing(one)
        ]
        found += [replace(spec, solvers=tuple(left))] if left else []
    return found


def _matched(plan: Plan, store: Store) -> Plan:
    """The plan with what contenders that evaluate the frozen model themselves are compared with."""
    rows = store.rows(spec for spec in plan.cells if not spec.control)
    return plan.matched(row["nfe"] for row in rows if row.get("nfe_prior"))


def _compute(
    plan: Plan, specs: list[CellSpec], store: Store, watcher: Observer, log: RunLog, failed: Failed
) -> Failed:
    """Run ``specs`` and keep what is good; ``failed`` with the rows of those that failed."""
    config, failed = plan.config, dict(failed)
    store.write_failed(failed)

    def tell(event: str, spec: CellSpec, *values: Any) -> None:
        if event == "cell":
            store.begin(spec)
        getattr(watcher, event)(spec, *values)

    work = Work(store.fits, config.workers, read_budget(config.timeout)[0], tell=tell)
    results = load_plugins().find("executor", config.executor).load()(work, specs)
    try:
        for result in results:
            for line in result.notes:
                log.note(line)
            store.write(result)
            bad = {row["cell"]: str(row["error"]) for row in result.rows if row["status"] != "ok"}
            for cell in bad:
                failed[cell] = [row for row in result.rows if row["cell"] == cell]
            if bad:
                store.write_failed(failed)
                spec, reasons = result.spec, dict.fromkeys(bad.values())
                log.write(
                    f"{spec.label} t_trunc {spec.t_trunc} seed {spec.seed} failed",
                    *reasons,
                    *result.log,
                )
            load_plugins().announce("cell_finished", result=result)
            watcher.finished(result.spec, result)
            store.end(result.spec)
    finally:
        store.end()
        if hasattr(results, "close"):
            results.close()  # processes that are still at work
    return failed


def _write_page(store: Store, wanted: bool) -> None:
    from .report.page import write_report

    if wanted:
        write_report([str(store.folder)], store.folder / "report.html")


def _time_alone(plan: Plan, store: Store, log: RunLog) -> None:
    """Time again, one cell after the other, what was timed while others ran."""
    for spec in plan.cells:
        crowded = [
            one for one in spec.results if any(row["concurrency"] > 1 for row in store.rows([one]))
        ]
        if crowded:
            spec = replace(spec, solvers=tuple(one.solvers[0] for one in crowded))
            rows = store.rows(crowded)
            try:
                rows = retimed(spec, rows, store.fits, log.note)
            except CannotWrite:
                raise
            except Exception as error:  # of a prior's own code
                log.note(f"{spec.label} t_trunc {spec.t_trunc}: {type(error).__name__}: {error}")
            store.rewrite(spec, rows)
            if any(row["concurrency"] > 1 for row in rows):
                log.note(
                    f"{spec.label} t_trunc {spec.t_trunc}: it could not be timed again, so its timings stay as they are"
                )


def _write_tables(
    plan: Plan, store: Store, failed: dict[str, list[dict[str, Any]]]
) -> pd.DataFrame:
    from .report.run_grids import write_grids

    rows = [
        row
        for spec in plan.cells
        for one in spec.results
        for row in failed.get(one.cell) or store.rows([one])
    ]
    if not rows:
        raise UserError(
            f"{store.folder} holds no result of this plan yet; the same command without --collect computes"
        )
    table = comparison(rows, plan.config.full_chain.solver, plan.config.full_chain.steps)
    means = summary(table)
    for name, content in {
        "comparison": table,
        "summary": means,
        "best": best(table, means),
    }.items():
        write_atomically(store.folder / f"{name}.csv", content.to_csv(index=False).encode())
    write_grids(plan, store)
    return table


def _write_json(path: Path, about: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(about, indent=2, default=str).encode() + b"\n")

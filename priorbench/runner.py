"""A run from beginning to end: what ``priorbench run`` and :func:`priorbench.run` both do."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from .bench.retiming import retimed
from .bench.work import Work
from .errors import UserError
from .files import CannotWrite, write_atomically
from .plan.budget import read_budget
from .plan.config import RunConfig
from .plan.layout import Plan, read_plan
from .plan.shards import WHOLE, Shard
from .plan.spec import CellResult, CellSpec
from .plugin_manager import load_plugins
from .report.page import write_report
from .report.run_grids import write_grids
from .store.lock import locked
from .store.log import RunLog
from .store.provenance import provenance
from .store.results import Store
from .tables.best import best
from .tables.columns import COLUMNS, Row
from .tables.fold import comparison, summary
from .tracking import Tracking, tracked

SHOWN = 6  # how many missing results are named

Failed = dict[str, list[Row]]  # the rows of each result that failed, by its name


class Observer:
    """Somebody who watches a run. This one ignores everything; override what you want to see."""

    def started(self, plan: Plan, left: Sequence[CellSpec]) -> None:
        """The run begins; ``left`` are those of its cells that are not there yet."""

    def cell(self, spec: CellSpec) -> None:
        """A cell begins."""

    def progress(self, spec: CellSpec, step: int, total: int, loss: float) -> None:
        """The fit of a cell has come this far."""

    def noted(self, line: str) -> None:
        """Something that the user should know, such as a file that was set aside."""

    def finished(self, spec: CellSpec, result: CellResult) -> None:
        """A cell is done."""

    def more(self, cells: int) -> None:
        """``cells`` will be computed besides those that were known when the run began."""

    def stopped(self) -> None:
        """No cell is left, or the run was interrupted."""


def run(
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    priors: str | Sequence[str | Mapping[str, Any]] | None = None,
    t_trunc: int | Sequence[int] | None = None,
    solver: str | Sequence[str] | None = None,
    steps: int | Sequence[int | None] | None = None,
    fit_budget: str | float | Sequence[str | float | None] | None = None,
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
    shard: str | None = None,
    track: str | Sequence[str] | None = None,
    report: bool = True,
    observer: Observer | None = None,
) -> pd.DataFrame:
    """Run a comparison.

    Arguments:
        config: a YAML file, a preset's name, or a mapping of keys to values; None is ``"digits"``.
        priors: ``"ot[width=64],vae"`` or ``[{"name": "ot", "params": {...}}, "vae"]``.
        t_trunc, solver, steps: the axes of the grid; a step count of None takes every timestep.
        fit_budget: seconds (``60``, ``"60s"``, ``"2min"``), steps (``"500 steps"``) or a share of
            its own steps (``"25%"``) for the fit of every learned prior; several are an axis too.
        seeds: how many seeds, from ``seed`` on.
        n_samples: how many samples each figure is computed from.
        dataset, backbone, extractor: by name or path. Data set and extractor may have options,
            ``"NAME[key=value]"``.
        metrics: names of metrics that plugins add.
        device: of the frozen model; ``"auto"`` takes an accelerator if there is one.
        settings: any other key of the config, as ``--set`` takes it: ``{"full_chain.steps": 50}``.
        output: the folder to write to. The default is ``results/<config name>`` in the current
            folder, or ``results/<data set>`` where a data set is given without a config.
        fresh: compute everything again, whatever is there.
        collect: compute nothing, and only rebuild the tables.
        shard: compute a part of the cells, ``"2/8"``, beside the jobs that compute the others into
            the same folder. No tables are written: ``collect`` makes them afterwards.
        track: trackers to tell of the run, ``"mlflow[experiment=mine],tensorboard"``.
        report: write ``report.html`` too.
        observer: hears how the run gets on.

    Returns:
        comparison.csv: one row for each cell, solver setting and split; of a shard, what is there
        so far.

    Raises:
        UserError: for anything in the input that cannot be right; nothing has been written then.
    """
    overrides = {
        "priors": priors, "t_trunc": t_trunc, "solver": solver, "steps": steps, "seeds": seeds,
        "seed": seed, "fit_budget": fit_budget, "n_samples": n_samples, "dataset": dataset,
        "backbone": backbone, "extractor": extractor, "metrics": metrics, "device": device,
        "track": track,
    }  # fmt: skip
    sets = [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()]
    plan = read_plan(config, overrides, sets)
    part = Shard.parse(shard) if shard else WHOLE
    store = open_store(plan.config, output, part)
    options = {"fresh": fresh, "collect": collect, "report": report}
    return execute(plan, store, shard=part, observer=observer, **options)


def output_folder(config: RunConfig, output: str | Path | None) -> Path:
    """Where a run writes to."""
    return Path(output) if output else Path("results") / config.name


def open_store(config: RunConfig, output: str | Path | None, shard: Shard = WHOLE) -> Store:
    """The results of a run, or of a shard of it."""
    return Store(output_folder(config, output), shard.name)


def execute(
    plan: Plan,
    store: Store,
    fresh: bool = False,
    collect: bool = False,
    report: bool = True,
    observer: Observer | None = None,
    shard: Shard = WHOLE,
) -> pd.DataFrame:
    """Compute what ``plan`` has no result for, and write the tables, the grids and the page.

    Each result is kept as soon as it is done. A shard writes results alone.

    Returns:
        comparison.csv; of a shard, what it would be by now.

    Raises:
        UserError: if another run is in the folder, or it cannot be written to. Results that are
            done are kept.
    """
    watcher = observer or Observer()
    if plan.config.track and shard.name:
        raise UserError("a shard is not tracked: give --track to --collect, which tells of all")
    if collect:
        return _collect(plan, store, report, watcher)
    with locked(store.folder, shard.name):
        table = _run(plan, store, shard, fresh, report, watcher)
    if not shard.name:
        load_plugins().announce("run_finished", comparison=table)
    return table


def _collect(plan: Plan, store: Store, report: bool, watcher: Observer) -> pd.DataFrame:
    """The tables of the results that are there."""
    plan = matched(plan, store)
    results = [one for spec in plan.cells for one in spec.results]
    absent = {one.cell: one for one in results if store.missing(one)}
    failed = {cell: rows for cell, rows in store.failed().items() if cell in absent}
    with tracked(plan, store, watcher.noted) as tracking:
        table = _write_tables(plan, store, failed)
        _write_page(store, report)
        tracking.finish(plan, table)
    if absent:
        there = f"{len(results) - len(absent)} of {len(results)} results are there"
        lacking = [one.long_title for cell, one in absent.items() if cell not in failed]
        watcher.noted("; ".join(filter(None, [there, _counted(failed), _named(lacking)])))
    return table


def _counted(failed: Failed) -> str:
    return f"{len(failed)} failed" if failed else ""


def _named(lacking: list[str]) -> str:
    """The results that tables lack."""
    if not lacking:
        return ""
    more = f", and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
    return f"the tables lack {'; '.join(lacking[:SHOWN])}{more}"


def _run(
    plan: Plan, store: Store, shard: Shard, fresh: bool, report: bool, watcher: Observer
) -> pd.DataFrame:
    """Compute the results that are not there, and write the tables unless it is a shard."""
    started, log = time.monotonic(), RunLog(store.folder / "logs", watcher.noted)
    about = provenance(plan)
    with tracked(plan, store, log.note, fresh) as tracking:
        for line in (*store.take_up(), *_replaced(plan, store)):
            log.note(line)
        if fresh:
            for spec in shard.of(matched(plan, store).cells):
                store.forget(spec)
        _write_json(store.folder / "run.json", about)
        about |= {"shard": shard.name} if shard.name else {}
        tracking.catch_up(plan)
        plan, failed = _compute_all(plan, store, shard, watcher, log, tracking)
        fold = _table if shard.name else _write_tables
        table = fold(plan, store, failed)
        about["cells"] = [one.cell for spec in shard.of(plan.cells) for one in spec.results]
        about["seconds"] = round(time.monotonic() - started, 1)
        _write_json(store.own / "run.json", about)
        _write_page(store, report and not shard.name)
        tracking.finish(plan, table)
    return table


def _replaced(plan: Plan, store: Store) -> Iterator[str]:
    """Say so if the tables in the folder have results that they will have no more."""
    try:
        about = json.loads((store.folder / "run.json").read_bytes())
        before, command = set(about["cells"]), str(about["command"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    now = {one.cell for spec in matched(plan, store).cells for one in spec.results}
    if before - now and (store.folder / "comparison.csv").is_file():
        yield (
            f"the tables and the page in {store.folder} were of another plan or version "
            f"({command}) and are replaced; its results stay, and that command makes them again"
        )


def _compute_all(
    plan: Plan, store: Store, shard: Shard, watcher: Observer, log: RunLog, tracking: Tracking
) -> tuple[Plan, Failed]:
    """Compute the results that are not there, then those that they turn out to be compared with.

    Returns:
        The plan with the latter, and what failed.
    """
    cells = shard.of(plan.cells)
    missing = unfinished(cells, store)
    watcher.started(replace(plan, cells=cells), missing)
    load_plugins().announce("run_started", plan=plan)
    try:
        failed = compute(plan, missing, store, watcher, log, tell=tracking.tell)
        plan = matched(plan, store)
        if missing := unfinished(shard.of(plan.cells), store, failed):
            log.note(
                "a prior evaluates the frozen model in 'sample': "
                "rivals with as many evaluations follow"
            )
            watcher.more(len(missing))
            failed = compute(plan, missing, store, watcher, log, failed, tell=tracking.tell)
        if plan.config.exclusive_timing:
            if not shard.name:
                _write_tables(plan, store, failed)  # in case the second pass is interrupted
            _time_alone(shard.of(plan.cells), store, log)
    finally:
        watcher.stopped()
    return plan, failed


def unfinished(cells: list[CellSpec], store: Store, failed: Failed | None = None) -> list[CellSpec]:
    """The cells that lack a result, with the settings that lack it; ``failed`` are not retried."""
    found = []
    for spec in cells:
        left = [
            one.solvers[0]
            for one in spec.results
            if one.cell not in (failed or {}) and store.missing(one)
        ]
        found += [replace(spec, solvers=tuple(left))] if left else []
    return found


def matched(plan: Plan, store: Store) -> Plan:
    """The plan, with rivals for contenders that evaluate the frozen model themselves."""
    rows = store.rows(spec for spec in plan.cells if not spec.control)
    return plan.matched(row["nfe"] for row in rows if row.get("nfe_prior"))


class _Listener:
    """Passes on what happens to cells, and remembers on disk which of them are under way."""

    def __init__(self, store: Store, watcher: Observer) -> None:
        self.store, self.watcher = store, watcher

    def cell(self, spec: CellSpec) -> None:
        self.store.begin(spec)
        self.watcher.cell(spec)

    def progress(self, spec: CellSpec, step: int, total: int, loss: float) -> None:
        self.watcher.progress(spec, step, total, loss)


def compute(
    plan: Plan,
    specs: list[CellSpec],
    store: Store,
    watcher: Observer,
    log: RunLog,
    failed: Failed | None = None,
    curves: bool = True,
    tell: Callable[[CellResult], None] | None = None,
) -> Failed:
    """Run ``specs`` and keep the good results; return ``failed`` with the others added.

    Arguments:
        tell: is called with each result, once it is kept.
        curves: whether to watch how the fits get on.
    """
    config, failed = plan.config, dict(failed or {})
    store.write_failed(failed)
    timeout = read_budget(config.timeout).seconds
    listener = _Listener(store, watcher)
    work = Work(store.fits, config.workers, timeout, listener=listener, curves=curves)
    execute_all = load_plugins().find("executor", config.executor).load()
    results = execute_all(work, specs, **config.executor_options)
    try:
        for result in results:
            for line in result.notes:
                log.note(line)
            store.write(result)
            if bad := _failures(result):
                failed |= bad
                store.write_failed(failed)
                reasons = dict.fromkeys(str(row["error"]) for rows in bad.values() for row in rows)
                log.write(f"{result.spec.title} failed", *filter(None, reasons), *result.log)
            if result.curve:
                load_plugins().announce("fit_finished", spec=result.spec, curve=result.curve)
            load_plugins().announce("cell_finished", result=result)
            if tell:
                tell(result)
            watcher.finished(result.spec, result)
            store.end(result.spec)
    finally:
        store.end()
        if hasattr(results, "close"):
            results.close()  # ends processes that are still at work
    return failed


def _failures(result: CellResult) -> Failed:
    """The rows of the results that failed, by their names."""
    bad = dict.fromkeys(row["cell"] for row in result.rows if row["status"] != "ok")
    return {cell: [row for row in result.rows if row["cell"] == cell] for cell in bad}


def _time_alone(cells: list[CellSpec], store: Store, log: RunLog) -> None:
    """Time again, one cell after the other, what was timed while other cells ran."""
    for spec in cells:
        crowded = [one for one in spec.results if _is_crowded(store.rows([one]))]
        if not crowded:
            continue
        spec = replace(spec, solvers=tuple(one.solvers[0] for one in crowded))
        rows = store.rows(crowded)
        try:
            rows = retimed(spec, rows, store.fits, log.note)
        except CannotWrite:
            raise
        except Exception as error:  # the prior's own code
            log.note(f"{spec.title}: {type(error).__name__}: {error}")
        store.rewrite(spec, rows)
        if _is_crowded(rows):
            log.note(f"{spec.title}: it could not be timed again, so its timings stay as they are")


def _is_crowded(rows: list[Row]) -> bool:
    return any(row["concurrency"] > 1 for row in rows)


def _write_tables(plan: Plan, store: Store, failed: Failed) -> pd.DataFrame:
    """comparison.csv, summary.csv, best.csv and the grids."""
    table = _table(plan, store, failed)
    if not len(table):
        raise UserError(
            f"{store.folder} holds no result of this plan yet; "
            "run the same command without --collect first"
        )
    means = summary(table)
    tables = {"comparison": table, "summary": means, "best": best(table, means)}
    for name, content in tables.items():
        write_atomically(store.folder / f"{name}.csv", content.to_csv(index=False).encode())
    write_grids(plan, store)
    return table


def _table(plan: Plan, store: Store, failed: Failed) -> pd.DataFrame:
    """comparison.csv, of what is there and of what failed."""
    results = [one for spec in plan.cells for one in spec.results]
    rows = [
        row | {"fit": store.fits.path(one).name, "fit_budget": budget or ""}
        for one in results
        for budget in plan.budgets(one)
        for row in failed.get(one.cell) or store.rows([one])
    ]
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    return comparison(rows, plan.config.full_chain.solver, plan.config.full_chain.steps)


def _write_page(store: Store, wanted: bool) -> None:
    if wanted:
        write_report([str(store.folder)], store.folder / "report.html")


def _write_json(path: Path, about: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(about, indent=2, default=str).encode() + b"\n")

"""The checks that any executor must pass. In the tests of a plugin that brings one:

.. code-block:: python

    from priorbench.testing import parametrize_with_executor_checks

    @parametrize_with_executor_checks("mine", options={"queue": "short"}, settings={"workers": 2})
    def test_my_executor_keeps_the_contract(check):
        check()

Each check makes small runs of digits into a folder of its own, which the executor's workers must
see. It takes from some seconds to a minute.
"""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from .bench.work import Work
from .hookspecs import hookimpl
from .plan.spec import CellResult, CellSpec
from .plugin_files import FILES
from .plugin_manager import load_plugins
from .runner import Observer, run
from .tables.columns import VARIES

FAULTS = Path(__file__).with_name("executor_faults.py")
SMALL = {
    "full_chain.steps": 2, "rivals": [], "rival_timesteps": ["uniform"], "controls": [],
    "n_validation": 0, "batch_size": 16, "w2_points": 20,
}  # fmt: skip
BY_CHANCE = [*VARIES, "concurrency", "threads", "hardware", "device"]
DYING = 5.0  # seconds in which what was interrupted must be over


@dataclass(frozen=True)
class Executor:
    """An executor that is checked.

    Attributes:
        name: as it is registered.
        options: its own.
        settings: keys of the config, such as ``workers``.
        timeout: seconds that a cell may take in the check of timeouts. All good cells must be done
            in that time.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 30.0

    def run(
        self, folder: Path, priors: Any, observer: Observer | None = None, **settings: Any
    ) -> pd.DataFrame:
        """A small run."""
        given = {"executor": self.name, "executor_options": dict(self.options), **self.settings}
        return _run(folder, priors, observer, **given | settings)


def _run(
    folder: Path, priors: Any, observer: Observer | None = None, **settings: Any
) -> pd.DataFrame:
    return run(
        priors=priors, t_trunc=[100], steps=2, n_samples=24, seeds=2, output=folder, report=False,
        observer=observer, settings=SMALL | settings,
    )  # fmt: skip


class BrokenContract(AssertionError):
    """A check that an executor did not pass: what was expected, and what came."""


class _Watcher(Observer):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []

    def cell(self, spec: CellSpec) -> None:
        self.begun.append(spec.title)

    def finished(self, spec: CellSpec, result: CellResult) -> None:
        self.done.append(spec.title)


class _Hook:
    """A plugin that counts the cells that it is told of."""

    def __init__(self) -> None:
        self.cells: Counter[str] = Counter()

    @hookimpl
    def cell_finished(self, result: CellResult) -> None:
        self.cells[result.spec.title] += 1


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise BrokenContract(what)


def _expect_same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    one, other = (t.drop(columns=BY_CHANCE).reset_index(drop=True) for t in (found, wanted))
    try:
        pd.testing.assert_frame_equal(one, other, check_exact=True, check_dtype=False)
    except AssertionError as error:
        raise BrokenContract(f"the table differs from that of 'serial': {error}") from None


def check_results(executor: Executor, place: Path) -> None:
    """Results are those of ``serial``, and each cell is heard of once, in the run's process."""
    priors = "gaussian,vae[iterations=6,width=8]"
    alone = _run(place / "serial", priors)
    watcher, hook = _Watcher(), _Hook()
    plugins = load_plugins()
    plugins.manager.register(hook, "executor checks")
    try:
        found = executor.run(place / "found", priors, watcher)
    finally:
        plugins.manager.unregister(hook)
    _expect_same(found, alone)
    cells = Counter(watcher.begun)
    _expect(len(cells) == 6, f"6 cells should begin, and these did: {', '.join(cells)}")
    for heard in (Counter(watcher.done), hook.cells):
        _expect(heard == cells, f"of each cell one end should be heard, and it was {dict(heard)}")
    _expect(set(cells.values()) == {1}, f"each cell should begin once, and it was {dict(cells)}")
    again = executor.run(place / "found", priors, watcher)
    _expect_same(again, alone)
    _expect(len(watcher.done) == 6, "cells that are done should not be computed again")


def check_no_cells(executor: Executor, place: Path) -> None:
    """It is called with no cells at all, and yields nothing."""
    execute = load_plugins().find("executor", executor.name).load()
    work = Work(workers=int(executor.settings.get("workers", 1)))
    found = list(execute(work, [], **executor.options))
    _expect(found == [], f"without cells there should be no results, got {len(found)}")


def check_failures(executor: Executor, place: Path) -> None:
    """A prior that raises, ends its process or never ends is a row, and no other row suffers."""
    marks = _marks(place)
    priors = ["raises", "exits", _hangs(marks), "plain"]
    timeout = f"{executor.timeout:g}s"
    found = executor.run(place / "found", priors, timeout=timeout, seeds=1).set_index("prior")
    bad = found[found.status != "ok"].error.to_dict()
    good = sorted(set(found[found.status == "ok"].index))
    _expect(good == ["noise", "plain"], f"noise and plain should succeed; what fails: {bad}")
    _expect(
        bad.get("raises", "") == "ValueError: raised on purpose",
        f"a prior that raises should be a row with the reason, got {bad.get('raises')!r}",
    )
    _expect("exits" in bad, "a prior that ends its process should be a failed row")
    _expect(
        str(bad.get("hangs", "")).startswith("timeout: "),
        f"a cell over its timeout should fail with 'timeout: ...', got {bad.get('hangs')!r}",
    )
    _expect(any(marks.iterdir()), "the fit that hangs should have begun")
    _expect_over(marks)


class _Impatient(_Watcher):
    """Interrupts the run when a cell is done, and another goes on if the executor has several."""

    def __init__(self, marks: Path) -> None:
        super().__init__()
        self.marks = marks

    def finished(self, spec: CellSpec, result: CellResult) -> None:
        super().finished(spec, result)
        waited = time.monotonic() + DYING
        while not any(self.marks.iterdir()) and time.monotonic() < waited:
            time.sleep(0.1)
        raise KeyboardInterrupt


def check_interrupt(executor: Executor, place: Path) -> None:
    """An interrupted run keeps what is done, leaves nothing at work, and can be taken up."""
    marks = _marks(place)
    watcher, after = _Impatient(marks), _Watcher()
    try:
        # An executor in this process, which may begin with the fit that hangs, waits for its end.
        priors = ["plain", _hangs(marks, seconds=2 * DYING)]
        executor.run(place / "found", priors, watcher, seeds=1)
    except KeyboardInterrupt:
        pass
    else:
        raise BrokenContract("an interrupt should be raised where results are asked for")
    _expect_over(marks)
    found = executor.run(place / "found", ["plain"], after, seeds=1)
    _expect((found.status == "ok").all(), "an interrupted run should be taken up")
    twice = set(watcher.done) & set(after.done)
    _expect(not twice, f"what was done should be kept, and it is computed again: {twice}")


def _marks(place: Path) -> Path:
    """A folder for the files that a fit leaves as long as it goes on."""
    folder = place / "marks"
    folder.mkdir()
    return folder


def _hangs(marks: Path, **params: float) -> dict[str, Any]:
    return {"name": "hangs", "params": {"place": str(marks), **params}}


def _expect_over(marks: Path) -> None:
    """Expect that no fit goes on that leaves files in ``marks``."""
    waited = time.monotonic() + DYING
    count = -1
    while count != (count := sum(1 for _ in marks.iterdir())):
        _expect(time.monotonic() < waited, "a fit goes on after its cell was given up")
        time.sleep(1)


Check = Callable[[Executor, Path], None]
EXECUTOR_CHECKS: dict[str, Check] = {
    "results": check_results,
    "no cells": check_no_cells,
    "failures": check_failures,
    "interrupt": check_interrupt,
}


@contextmanager
def _tried() -> Iterator[Path]:
    """A folder, with the plugin of :mod:`.executor_faults`, and one thread here as elsewhere."""
    known, threads = os.environ.get(FILES), torch.get_num_threads()
    os.environ[FILES] = os.pathsep.join(filter(None, [known, str(FAULTS)]))
    load_plugins.cache_clear()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="priorbench-") as place:
            yield Path(place)
    finally:
        torch.set_num_threads(threads)
        os.environ.pop(FILES)
        os.environ.update({FILES: known} if known else {})
        load_plugins.cache_clear()


def run_executor_check(name: str, executor: Executor) -> None:
    """Make one of the checks.

    Raises:
        BrokenContract: if the executor does not pass it.
    """
    with _tried() as place:
        EXECUTOR_CHECKS[name](executor, place)


def parametrize_with_executor_checks(
    name: str,
    options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    timeout: float = 30.0,
) -> Any:
    """A decorator that runs a pytest test once for each check of an executor.

    The test takes the argument ``check``, and calls it.

    Arguments:
        name: the executor, as it is registered.
        options: its own options.
        settings: keys of the config, such as ``workers``.
        timeout: seconds that a cell may take in the check of timeouts.
    """
    import pytest

    executor = Executor(name, options or {}, settings or {}, timeout)

    def check(name: str) -> None:
        try:
            run_executor_check(name, executor)
        except BrokenContract as failure:
            pytest.fail(f"{executor.name}: {name}: {failure}", pytrace=False)

    return pytest.mark.parametrize(
        "check", [pytest.param(partial(check, name), id=name) for name in EXECUTOR_CHECKS]
    )

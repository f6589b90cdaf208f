"""What an executor is handed: a function from a spec to its result, and how to call it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from ..plan.spec import CellResult, CellSpec
from ..store.fits import Fits
from .cell import failure, run_cell, task_of

REPORTS = 0.1  # the least seconds between two reports of a fit's progress


class Listener(Protocol):
    """Hears how cells get on."""

    def cell(self, spec: CellSpec) -> None:
        """A cell begins."""

    def progress(self, spec: CellSpec, step: int, total: int, loss: float) -> None:
        """The fit of a cell has come this far."""


class Nobody:
    """A listener that ignores everything."""

    def cell(self, spec: CellSpec) -> None:
        """Ignore it."""

    def progress(self, spec: CellSpec, step: int, total: int, loss: float) -> None:
        """Ignore it."""


class Reporter:
    """The listener of a process that computes cells for another: passes on what it hears.

    Arguments:
        send: is called with ``"cell", spec`` and, not too often, with ``"progress", spec, step,
            total, loss``.
    """

    def __init__(self, send: Callable[..., None]) -> None:
        self.send = send
        self.last = 0.0

    def cell(self, spec: CellSpec) -> None:
        """A cell begins."""
        self.last = time.monotonic()
        self.send("cell", spec)

    def progress(self, spec: CellSpec, step: int, total: int, loss: float) -> None:
        """The fit of a cell has come this far."""
        if step == total or time.monotonic() - self.last > REPORTS:
            self.last = time.monotonic()
            self.send("progress", spec, step, total, loss)


@dataclass(frozen=True)
class Work:
    """What an executor is handed.

    Called with a spec, it computes that cell, here or in the process that it was pickled to. The
    listener stays behind when it is pickled: it belongs to the process of the run.

    Attributes:
        fits: where fitted priors are kept.
        workers: how many cells may be computed at once (``--workers``).
        timeout: seconds after which a cell has failed (``--timeout``), or None.
        at_once: how many cells are computed at once, which their rows report. An executor that
            computes several replaces it.
        listener: hears when a cell begins and how its fit gets on.
        curves: whether to watch how a fit gets on, which takes seconds, and yields its curve.
    """

    fits: Fits | None = None
    workers: int = 1
    timeout: float | None = None
    at_once: int = 1
    listener: Listener = field(default_factory=Nobody)
    curves: bool = True

    def __call__(self, spec: CellSpec) -> CellResult:
        task_of(spec)  # loading takes place once per process, and is not the cell's time
        self.listener.cell(spec)
        progress = partial(self.listener.progress, spec)
        return self._signed(run_cell(spec, progress, self.fits, self.curves))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"listener": Nobody()}

    def failed(self, spec: CellSpec, reason: str, node: str | None = None) -> CellResult:
        """The result of a cell whose process is gone.

        Arguments:
            node: the machine that it was on; by default this one.
        """
        result = self._signed(failure(spec, reason))
        for row in result.rows if node is not None else ():
            row["node"] = node
        return result

    def _signed(self, result: CellResult) -> CellResult:
        for row in result.rows:
            row["concurrency"] = self.at_once
        return result

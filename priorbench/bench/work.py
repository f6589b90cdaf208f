"""What an executor is handed: a function from a spec to its result, and how it is to be called."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..plan.spec import CellResult, CellSpec
from ..store.fits import Fits
from .cell import failure, run_cell, task_of


def _nobody(event: str, spec: CellSpec, *values: Any) -> None:
    """Listens to a :class:`Work` that nobody listens to."""


@dataclass(frozen=True)
class Work:
    """What an executor is handed: called with a spec, it computes that cell, here or in the process
    it was pickled to.

    Attributes:
        fits: where fitted priors are kept.
        workers: how many cells may be computed at once (``--workers``).
        timeout: seconds after which a cell is to be given up as failed (``--timeout``), or None.
        at_once: how many cells are computed at once, for the rows to say; an executor replaces it.
        tell: is called with ("cell", spec) when one begins and ("progress", spec, step, total,
            loss) in its fit.
    """

    fits: Fits | None = None
    workers: int = 1
    timeout: float | None = None
    at_once: int = 1
    tell: Callable[..., None] = _nobody

    def __call__(self, spec: CellSpec) -> CellResult:
        task_of(spec)  # what a process loads once is not the cell's time
        self.tell("cell", spec)
        return self._signed(run_cell(spec, partial(self.tell, "progress", spec), self.fits))

    def failed(self, spec: CellSpec, reason: str) -> CellResult:
        """The result of a cell whose process is gone."""
        return self._signed(failure(spec, reason))

    def _signed(self, result: CellResult) -> CellResult:
        for row in result.rows:
            row["concurrency"] = self.at_once
        return result

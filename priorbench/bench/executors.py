"""Executors: how a list of cells is run. Every one calls the same pure function."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from .cell import CellResult, context_of, failure, run_cell
from .fits import Fits
from .plan import CellSpec


def _nobody(event: str, spec: CellSpec, *values: Any) -> None:
    """Listens to a :class:`Work` that nobody listens to."""


@dataclass(frozen=True)
class Work:
    """What an executor is handed: called with a spec, it computes that cell, here or in the process it was pickled to.

    Attributes:
        fits: where fitted priors are kept.
        workers: how many cells may be computed at once (``--workers``).
        timeout: seconds after which a cell is to be given up as failed (``--timeout``), or None.
        at_once: how many cells are computed at once, for the rows to say; an executor replaces it.
        tell: is called with ("cell", spec) when one begins and ("progress", spec, step, total, loss) in its fit.
    """

    fits: Fits | None = None
    workers: int = 1
    timeout: float | None = None
    at_once: int = 1
    tell: Callable[..., None] = _nobody

    def __call__(self, spec: CellSpec) -> CellResult:
        context_of(spec)  # what a process loads once is not the cell's time
        self.tell("cell", spec)
        return self._signed(run_cell(spec, partial(self.tell, "progress", spec), self.fits))

    def failed(self, spec: CellSpec, reason: str) -> CellResult:
        """The result of a cell whose process is gone."""
        return self._signed(failure(spec, reason))

    def _signed(self, result: CellResult) -> CellResult:
        for row in result.rows:
            row["concurrency"] = self.at_once
        return result


def serial(work: Work, specs: Iterable[CellSpec]) -> Iterator[CellResult]:
    """One after the other: in this process, or in one that can be killed where there is a timeout."""
    from .workers import pool

    specs = list(specs)
    return map(work, specs) if work.timeout is None else pool(replace(work, workers=1), specs)


def process(work: Work, specs: Iterable[CellSpec]) -> Iterator[CellResult]:
    """Several at once, each in a process of its own."""
    from .workers import pool

    return pool(work, list(specs))

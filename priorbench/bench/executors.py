"""Executors: how a list of cells is run. Every one calls the same pure function."""

from collections.abc import Callable, Iterable, Iterator

from .cell import CellResult
from .plan import CellSpec


def serial(run_cell: Callable[[CellSpec], CellResult], specs: Iterable[CellSpec]) -> Iterator[CellResult]:
    """One after the other, in this process."""
    for spec in specs:
        yield run_cell(spec)

"""Executors: how a list of cells is run. Every one calls the same pure function."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ..plan.spec import CellResult, CellSpec
from .work import Work
from .workers import pool


def serial(work: Work, specs: Iterable[CellSpec]) -> Iterator[CellResult]:
    """One after the other: in this process, or in one that can be killed where there is a timeout."""
    specs = list(specs)
    return map(work, specs) if work.timeout is None else pool(replace(work, workers=1), specs)


def process(work: Work, specs: Iterable[CellSpec]) -> Iterator[CellResult]:
    """Several at once, each in a process of its own."""
    return pool(work, list(specs))

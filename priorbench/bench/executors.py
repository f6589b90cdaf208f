"""Executors: how a list of cells is run. All of them call the same pure function.

An executor is a function of a :class:`~priorbench.bench.work.Work` and specs; it yields a result
for each. Its keyword-only arguments are its options, which a config gives in a section of its name.
A new one starts here, or in a plugin that registers it. That of Ray is in :mod:`.on_ray`, so that
nothing else imports ray.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ..plan.spec import CellResult, CellSpec
from .work import Work
from .workers import pool


def serial(work: Work, specs: Iterable[CellSpec]) -> Iterator[CellResult]:
    """One after the other: in this process, or, with a timeout, in one that can be killed."""
    specs = list(specs)
    return map(work, specs) if work.timeout is None else pool(replace(work, workers=1), specs)


def process(work: Work, specs: Iterable[CellSpec]) -> Iterator[CellResult]:
    """Several at once, each in a process of its own."""
    return pool(work, list(specs))

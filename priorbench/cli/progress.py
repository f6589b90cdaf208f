"""Progress on stderr. Importing this module imports torch, so commands import it late."""

import time
from collections.abc import Iterator, Sequence
from enum import Enum
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..plan.layout import Plan
from ..plan.spec import CellResult, CellSpec
from ..runner import Observer
from .words import duration


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


class Volume(Enum):
    """How much a run says of its cells."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


class Bars(Observer):
    """The progress of a run: on a terminal a bar over the cells and one for each fit, in a log file
    a line for each cell that is done.

    Notes are told at any volume.
    """

    def __init__(self, volume: Volume = Volume.NORMAL) -> None:
        self.bars = _progress(Console(stderr=True))
        self.volume = volume
        self.drawn = self.bars.console.is_terminal and volume is not Volume.QUIET

    def started(self, plan: Plan, left: Sequence[CellSpec]) -> None:
        if self.drawn:
            self.bars.start()
        self.total = len(plan.cells)
        self.done = self.total - len(left)
        self.efforts = {spec.cell: effort(spec) for spec in left}
        self.each = sum(map(effort, left)) / max(1, len(left))
        self.spent, self.ahead = 0.0, self.each * len(left)
        self.since = time.monotonic()
        self.cells = self.bars.add_task("cells", total=self.total, completed=self.done)
        self.fits: dict[str, TaskID] = {}
        self.begun: dict[str, float] = {}

    def cell(self, spec: CellSpec) -> None:
        self.begun[spec.cell] = time.monotonic()
        what = escape(f"  {spec.long_title}")
        self.fits[spec.cell] = self.bars.add_task(what, total=None)

    def progress(self, spec: CellSpec, step: int, total: int, loss: float) -> None:
        self.bars.update(self.fits[spec.cell], completed=step, total=total)

    def noted(self, line: str) -> None:
        self._tell(f"priorbench: {line}")

    def finished(self, spec: CellSpec, result: CellResult) -> None:
        self.done += 1
        taken = self.efforts.get(spec.cell, self.each)
        if result.ok:
            self.spent += taken
        else:  # it says nothing of how long others take
            self.ahead -= taken
        self.bars.update(self.cells, advance=1)
        if spec.cell in self.fits:
            self.bars.remove_task(self.fits.pop(spec.cell))
        seconds = time.monotonic() - self.begun.pop(spec.cell, self.since)
        verbose = self.volume is Volume.VERBOSE
        if verbose or (self.volume is Volume.NORMAL and not self.drawn):
            self._tell(
                f"{self.done} of {self.total}: {outcome(result)}, {duration(seconds)}{self._left()}"
            )
        for line in details(result) if verbose else ():
            self._tell(f"    {line}")

    def _left(self) -> str:
        """About how long the cells that are left take, by their evaluations and the time so far."""
        if self.done == self.total or not self.spent:
            return ""
        rate = (time.monotonic() - self.since) / self.spent
        return f"; about {duration(rate * (self.ahead - self.spent))} left"

    def _tell(self, line: str) -> None:
        self.bars.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def more(self, cells: int) -> None:
        self.total += cells
        self.ahead += cells * self.each
        self.bars.update(self.cells, total=self.total)

    def stopped(self) -> None:
        if self.drawn:
            self.bars.stop()


def effort(spec: CellSpec) -> float:
    """What a cell takes beside others, in evaluations; measuring a row takes as long as some."""
    return sum(3 + (steps or spec.t_trunc) for _, steps in spec.solvers)


def outcome(result: CellResult) -> str:
    """``ot t_trunc 200 seed 0: FID 3.41 by 5 steps of dpm++``: the best FID, or what failed."""
    good = [r for r in result.rows if r["status"] == "ok" and r["split"] == "test"]
    failed = list(dict.fromkeys(str(r["error"]) for r in result.rows if r["status"] != "ok"))
    best = min(good, key=lambda row: float(row["fid"]), default=None)
    said = [f"FID {best['fid']:.2f} by {_setting(best)}"] if best else []
    said += [f"failed: {'; '.join(failed)}"] if failed else []
    return f"{result.spec.title}: {'; '.join(said)}"


def _setting(row: dict[str, Any]) -> str:
    return f"{row['steps']} step{'' if row['steps'] == 1 else 's'} of {row['solver']}"


def details(result: CellResult) -> Iterator[str]:
    """Every FID of a cell, how its fit got on, and what its prior logged."""
    for row in result.rows:
        if row["status"] == "ok":
            yield f"{_setting(row)}, {row['split']}: FID {row['fid']:.2f}"
    if result.curve:
        first, last = result.curve[0], result.curve[-1]
        yield (
            f"fit: {last['step']:.0f} steps in {duration(last['seconds'])}, sliced W2 at x_t from "
            f"{first['distance']:.3f} to {last['distance']:.3f} (floor {last['floor']:.3f})"
        )
    for entry in result.log:
        yield from entry.splitlines()


class Bar:
    """The progress of one training: a bar on a terminal, lines in a log file."""

    def __init__(self, what: str) -> None:
        self.what = what
        console = Console(stderr=True)
        self.terminal = console.is_terminal
        self.bar = _progress(console)
        self.task = self.bar.add_task(what, total=None)

    def __enter__(self) -> "Bar":
        if self.terminal:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def __call__(self, step: int, total: int, loss: float) -> None:
        said = self.what if loss != loss else f"{self.what} {loss:.5f}"
        if self.terminal:
            self.bar.update(self.task, completed=step, total=total, description=said)
        else:
            click.echo(f"{step} of {total}: {said}", err=True)

"""Progress on stderr. Importing this module imports torch, so commands import it late."""

from types import TracebackType

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


class Bars(Observer):
    """The progress of a run: on a terminal a bar over the cells and one for each fit, in a log file
    a line for each cell that is done.
    """

    def __init__(self) -> None:
        self.bars = _progress(Console(stderr=True))
        self.terminal = self.bars.console.is_terminal

    def started(self, plan: Plan, done: int) -> None:
        if self.terminal:
            self.bars.start()
        self.total, self.done = len(plan.cells), done
        self.cells = self.bars.add_task("cells", total=self.total, completed=done)
        self.fits: dict[str, TaskID] = {}

    def cell(self, spec: CellSpec) -> None:
        what = escape(f"  {spec.long_title}")
        self.fits[spec.cell] = self.bars.add_task(what, total=None)

    def progress(self, spec: CellSpec, step: int, total: int, loss: float) -> None:
        self.bars.update(self.fits[spec.cell], completed=step, total=total)

    def noted(self, line: str) -> None:
        self.bars.console.print(
            f"priorbench: {line}", markup=False, highlight=False, soft_wrap=True
        )

    def finished(self, spec: CellSpec, result: CellResult) -> None:
        self.done += 1
        self.bars.update(self.cells, advance=1)
        if not self.terminal:
            click.echo(f"{self.done} of {self.total} cells: {spec.long_title}", err=True)
        if spec.cell in self.fits:
            self.bars.remove_task(self.fits.pop(spec.cell))

    def more(self, cells: int) -> None:
        self.total += cells
        self.bars.update(self.cells, total=self.total)

    def stopped(self) -> None:
        if self.terminal:
            self.bars.stop()


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

"""Plugin code runs inside a :class:`Guard`, so that no cell's figures depend on another cell."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..isolation import isolated, no_forks
from ..task import Task


class Guard:
    """Puts back whatever a plugin's code changes of the process and of the models that cells share.

    Attributes:
        log: the cell's log, with a line for each change of the process.
        notes: lines that the user should see, one for each change of a model.
    """

    def __init__(self, task: Task, label: str) -> None:
        self.task, self.label = task, label
        self.log: list[str] = []
        self.notes: list[str] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with isolated(self._changed):
            try:
                with no_forks():  # before anything is computed: torch hangs in a forked child
                    yield
            finally:
                for what in self.task.put_back():
                    _add(self.notes, f"{self.label} left {what} changed; it was put back")

    def _changed(self, name: str) -> None:
        _add(self.log, f"{self.label} changed {name}; it was put back")


def _add(lines: list[str], line: str) -> None:
    if line not in lines:
        lines.append(line)

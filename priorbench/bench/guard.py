"""Plugin code runs inside a :class:`Guard`, so that a cell's figures depend on no other cell."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..isolation import isolated
from ..task import Task


class Guard:
    """Puts back what a plugin's code changes of the process and of the models that all cells share.

    Attributes:
        log: a line for each change of the process; the cell's own lines stand here too.
        notes: a line for each change of a model, which the user should see.
    """

    def __init__(self, task: Task, label: str) -> None:
        self.task, self.label = task, label
        self.log: list[str] = []
        self.notes: list[str] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with isolated(
            lambda name: self.say(self.log, f"{self.label} changed {name}; it was put back")
        ):
            try:
                yield
            finally:
                for what in self.task.put_back():
                    self.say(self.notes, f"{self.label} left {what} changed; it was put back")

    def say(self, lines: list[str], line: str) -> None:
        """Add a line that is not there yet."""
        if line not in lines:
            lines.append(line)

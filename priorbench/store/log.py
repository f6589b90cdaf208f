"""The log of a run: what went wrong, in a file of its own."""

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ..errors import printable
from ..files import CannotWrite


class RunLog:
    """``logs/<time>-<pid>.log`` of a run, created when its first line is written.

    Arguments:
        folder: where the file goes.
        tell: is called with every note.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self.path = folder / f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
        self.tell = tell

    def note(self, line: str) -> None:
        """Write a line, and tell it to whoever watches the run."""
        self.tell(printable(line))
        self.write(line)

    def write(self, heading: str, *lines: str) -> None:
        """Write a heading with the time, and lines below it.

        Raises:
            CannotWrite: if the file cannot be written.
        """
        text = "\n".join([f"== {datetime.now():%H:%M:%S} {heading}", *map(str, lines)])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(printable(text + "\n"))
        except OSError as error:
            raise CannotWrite(f"cannot write {self.path}: {error.strerror or error}") from error

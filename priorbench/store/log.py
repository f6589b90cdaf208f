"""The log of a run: what went wrong, in a file of its own."""

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ..errors import printable
from ..files import CannotWrite


class RunLog:
    """``logs/<time>-<pid>.log`` of a run, made once there is something to say."""

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self.path = folder / f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
        self.tell = tell

    def note(self, line: str) -> None:
        """For the file, and for whoever watches the run."""
        self.tell(printable(line))
        self.write(line)

    def write(self, heading: str, *lines: str) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(
                    printable(
                        "\n".join([f"== {datetime.now():%H:%M:%S} {heading}", *map(str, lines)])
                        + "\n"
                    )
                )
        except OSError as error:
            raise CannotWrite(f"cannot write {self.path}: {error.strerror or error}") from error

"""A section is a list of checks. Whatever a check raises, it becomes a row, printed and written."""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from priorbench.diffusion.frozen import resolve_device
from priorbench.errors import one_line
from priorbench.files import write_atomically

from . import say
from .sizes import Size

Figures = dict[str, Any]


class Wrong(AssertionError):
    """What a check found is not what it should be; the figures are shown all the same."""

    def __init__(self, message: str, figures: Figures) -> None:
        super().__init__(message)
        self.figures = figures


class NotRun(Exception):
    """A check cannot be made here, for the reason given."""


def require(right: bool, message: str, figures: Figures) -> None:
    """Raise :class:`Wrong` with ``message`` unless it is ``right``."""
    if not right:
        raise Wrong(message, figures)


@dataclass
class Row:
    """How one check went.

    Attributes:
        outcome: ``ok``, or what begins with ``failed:`` or ``not run:``.
        seconds: that it took.
        figures: what it measured.
        error: the traceback, if it raised.
    """

    check: str
    outcome: str
    seconds: float = 0.0
    figures: Figures = field(default_factory=dict)
    error: str = ""

    @property
    def failed(self) -> bool:
        """Whether it was made and went wrong."""
        return self.outcome.startswith("failed")


@dataclass
class Section:
    """One section of a measurement.

    Attributes:
        about: the machine and the versions, for the JSON file.
        budget: the seconds, counted from ``started``, after which no further check begins.
        file: the JSON file, rewritten after each check, since the process may be cut off.
    """

    name: str
    device: torch.device
    size: Size
    budget: float
    file: Path
    about: dict[str, Any]
    started: float = field(default_factory=time.monotonic)
    rows: list[Row] = field(default_factory=list)

    @property
    def cuda(self) -> bool:
        """Whether it runs on CUDA."""
        return self.device.type == "cuda"

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self.budget - (time.monotonic() - self.started)

    def check(
        self, name: str, program: Callable[..., Figures], *arguments: Any, needs: float = 1.0
    ) -> Figures:
        """Call ``program`` and add a row with the figures that it returns.

        Arguments:
            needs: the seconds that it is expected to take; with fewer left, it is not run.

        Returns:
            The figures; empty if it raised or was not run.
        """
        started = time.monotonic()
        row = Row(name, "not run: out of time")
        if self.left >= needs:
            row = self._tried(name, program, arguments)
        row.seconds = round(time.monotonic() - started, 2)
        self.add(row)
        return row.figures

    def _tried(self, name: str, program: Callable[..., Figures], arguments: tuple[Any, ...]) -> Row:
        try:
            return Row(name, "ok", figures=program(*arguments))
        except NotRun as reason:
            return Row(name, f"not run: {reason}")
        except Wrong as wrong:
            return Row(name, f"failed: {one_line(wrong)}", figures=wrong.figures)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a check may end in anything, and the next one is made
            said = one_line(error, named=True)
            return Row(name, f"failed: {said}", error=traceback.format_exc())

    def add(self, row: Row) -> None:
        """Show and keep ``row``."""
        self.rows.append(row)
        show(self.name, row)
        content = {
            "section": self.name,
            "about": self.about,
            "rows": [asdict(r) for r in self.rows],
        }
        write_atomically(self.file, json.dumps(content, indent=1, default=str).encode())


def show(section: str, row: Row) -> None:
    """Print ``row`` now, on one line however long."""
    figures = "  ".join(f"{name} {_short(value)}" for name, value in row.figures.items())
    line = f"{section:6}{row.check:42}{row.seconds:7.1f} s  {row.outcome:4}  {figures}"
    say(line.rstrip())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def about(device: str) -> dict[str, Any]:
    """The device, the commit and the versions that figures are of."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from priorbench.store.provenance import commit

    found = resolve_device(device)
    versions = {}
    for name in ("torch", "diffusers", "POT", "torch-fidelity", "accelerate"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "missing"
    card = torch.cuda.get_device_name(found) if found.type == "cuda" else platform.machine()
    return {
        "device": str(found),
        "card": card,
        "cuda": torch.version.cuda,
        "commit": commit(),
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "versions": versions,
    }

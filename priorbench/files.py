"""Writing files so that nobody ever reads half of one, and moving out of the way what cannot be trusted."""

import os
import re
from contextlib import suppress
from pathlib import Path

from .errors import UserError

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


class CannotWrite(UserError):
    """The disk is full, or not ours to write to. What was there is there still."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write, flush to disk, rename: a reader sees the old file or the new one, never half of one.

    Raises:
        CannotWrite: if that fails.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # after the rename there is none; after a failure or an interrupt there may be
            temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed writers left of unfinished files below ``folder``; nobody may be writing there."""
    for path in folder.rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            with suppress(OSError):
                path.unlink()


def set_aside(path: Path, folder: Path, reason: str) -> str:
    """Move ``path`` to ``folder/set-aside`` under a name that is free there; a line that says so."""
    target = folder / "set-aside" / path.name
    number = 1
    while target.exists():
        number += 1
        target = target.with_name(f"{path.stem}-{number}{path.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    except OSError as error:
        raise CannotWrite(f"cannot move {path} to {target} ({reason}): {error.strerror or error}") from error
    return f"{path} {reason}: set aside as {target}, not used"

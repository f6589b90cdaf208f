"""Writing files so that nobody ever reads half of one, and moving out of the way what cannot be
trusted.
"""

import os
import re
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .errors import UserError

# What a file that is cut short or no archive raises when it is read as an .npz.
UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)

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
        with suppress(
            OSError
        ):  # after the rename there is none; after a failure or an interrupt there may be
            temporary.unlink(missing_ok=True)


def sweep(folder: Path, below: Iterable[str]) -> None:
    """Remove what killed writers left of unfinished files in ``folder`` and ``below``; nobody may
    be writing there.

    A run may have its folder inside of this one, so that nothing else is looked into.
    """
    for path in [
        *folder.glob(".*.tmp"),
        *(p for name in below for p in (folder / name).rglob(".*.tmp")),
    ]:
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            with suppress(OSError):
                path.unlink()


def make_folder(path: Path) -> None:
    """Make a folder that results will be written to, before anything is computed for it.

    Raises:
        CannotWrite: if that is not allowed.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot make {path}: {error.strerror or error}") from error


def remove(path: Path) -> None:
    """Delete a file, if it is there.

    Raises:
        CannotWrite: if that is not allowed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot remove {path}: {error.strerror or error}") from error


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
        raise CannotWrite(
            f"cannot move {path} to {target} ({reason}): {error.strerror or error}"
        ) from error
    return f"{path} {reason}: set aside as {target}, not used"

"""Atomic writes, and moving aside files that cannot be trusted."""

import os
import platform
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError

from .errors import UserError

# What reading an .npz can raise if the file is cut short or no archive.
UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


class CannotWrite(UserError):
    """The disk is full, or writing is not allowed. The old file is still there."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write, flush to disk, rename: a reader sees the old file or the new one, never half a file.

    Raises:
        CannotWrite: if the file cannot be written.
    """
    # Two machines that share a disk may have processes of one number.
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")
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
        with suppress(OSError):  # after a failure or an interrupt the temporary file may be there
            temporary.unlink(missing_ok=True)


def sweep(folder: Path, below: Iterable[str]) -> None:
    """Remove the temporary files of killed writers. Nobody may be writing there.

    Arguments:
        folder: the files in this folder itself are removed. Other folders inside it may be those of
            other runs.
        below: the names of folders inside it that are searched too, at any depth.
    """
    inside = (path for name in below for path in (folder / name).rglob(".*.tmp"))
    for path in [*folder.glob(".*.tmp"), *inside]:
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            with suppress(OSError):
                path.unlink()


def make_folder(path: Path) -> None:
    """Make a folder for results, before anything is computed for it.

    Raises:
        CannotWrite: if that is not allowed.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot make {path}: {error.strerror or error}") from error


def check_new(path: Path) -> None:
    """Refuse a path where something is already; an empty folder is nothing.

    Raises:
        UserError: if something is there.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} exists already; choose another")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write to, which becomes ``folder`` in the end.

    What fails, or is interrupted, leaves nothing behind.

    Raises:
        CannotWrite: if it cannot be made, or something in it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            made = Path(temporary) / "folder"
            made.mkdir()
            yield made
            made.replace(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CannotWrite(f"cannot write {folder}: {reason}") from error


def remove(path: Path) -> None:
    """Delete a file if it exists.

    Raises:
        CannotWrite: if that is not allowed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot remove {path}: {error.strerror or error}") from error


def set_aside(path: Path, folder: Path, reason: str) -> str:
    """Move ``path`` to ``folder/set-aside``, under a name that is free there.

    Returns:
        A line for the user, with the ``reason``.

    Raises:
        CannotWrite: if it cannot be moved.
    """
    target = folder / "set-aside" / path.name
    number = 1
    while target.exists():
        number += 1
        target = target.with_name(f"{path.stem}-{number}{path.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    except OSError as error:
        why = error.strerror or error
        raise CannotWrite(f"cannot move {path} to {target} ({reason}): {why}") from error
    return f"{path} {reason}: set aside as {target}, not used"

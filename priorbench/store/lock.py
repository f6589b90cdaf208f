"""One run at a time in a results folder, or several shards of one."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import UserError
from ..files import CannotWrite, write_atomically

PATIENCE = 2.0  # seconds in which another shard has looked whether a whole run is here


@contextmanager
def locked(folder: Path, shard: str = "") -> Iterator[None]:
    """Keep other processes out of ``folder`` while inside.

    The system holds the lock, and releases it when this process ends, however it ends.

    Arguments:
        shard: "2/8" keeps out the same shard and whole runs alone.

    Raises:
        UserError: if another process is inside, saying which.
    """
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            mine = folder / f".lock{_suffix(shard)}"
            _take(held, mine)
            # Whoever comes looks for the others once it can itself be seen, so none is missed.
            for other in [folder / ".lock"] if shard else folder.glob(".lock-*"):
                with ExitStack() as briefly:
                    _take(briefly, other, PATIENCE if shard else 0.0)
        except (OSError, NotImplementedError) as error:
            raise CannotWrite(
                f"cannot write {folder}: {getattr(error, 'strerror', None) or error}"
            ) from error
        holder = _holder(mine)
        held.callback(_forget, holder)
        about = {
            "pid": os.getpid(),
            "host": platform.node(),
            "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
        }
        write_atomically(holder, json.dumps(about).encode())
        yield


def _suffix(shard: str) -> str:
    return f"-{shard.replace('/', '-of-')}" if shard else ""


def _holder(lock: Path) -> Path:
    """The file that says who holds a lock."""
    return lock.with_name(f"{lock.name.replace('.lock', '.running', 1)}.json")


def _forget(holder: Path) -> None:
    with suppress(OSError):
        holder.unlink(missing_ok=True)


def _take(held: ExitStack, path: Path, patience: float = 0.0) -> None:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise UserError(
            f"{path.parent} is in use by {_who(path)}; wait for it, or give another --output"
        ) from None
    held.callback(lock.release)


def _who(lock: Path) -> str:
    number, _, count = lock.name.removeprefix(".lock").strip("-").partition("-of-")
    what = f"shard {number}/{count}" if count else "another run"
    try:
        about = json.loads(_holder(lock).read_text())
        pid, host, since = int(about["pid"]), str(about["host"])[:64], str(about["since"])[:19]
        return f"{what} (pid {pid} on {host}, since {since})"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just begun
        return what

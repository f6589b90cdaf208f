"""One run at a time in a results folder."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import UserError
from ..files import CannotWrite, write_atomically


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of ``folder`` while inside.

    The system holds the lock, and releases it when this process ends, however it ends.

    Raises:
        UserError: if another process is inside, saying which.
    """
    holder = folder / ".running.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{folder} is in use by {_who(holder)}; wait for it, or give another --output"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise CannotWrite(
            f"cannot write {folder}: {getattr(error, 'strerror', None) or error}"
        ) from error
    try:
        about = {
            "pid": os.getpid(),
            "host": platform.node(),
            "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
        }
        write_atomically(holder, json.dumps(about).encode())
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _who(holder: Path) -> str:
    try:
        about = json.loads(holder.read_text())
        pid, host, since = int(about["pid"]), str(about["host"])[:64], str(about["since"])[:19]
        return f"another run (pid {pid} on {host}, since {since})"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just begun
        return "another run"

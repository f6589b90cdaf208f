"""Where the processes that compute cells come from.

On Linux one process imports everything, and each worker is forked from it, with nothing left to
import. Nothing has been computed in that process, so no thread or lock is lost by the fork.
Elsewhere, and where there is a GPU, workers are spawned, and each imports for itself: libraries
look for a GPU when they are imported (diffusers does), and a process that is forked after that
cannot use it.

This module imports nothing slow, so that the command line can have that process begin before it
imports torch itself.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/dri")  # NVIDIA, AMD, WSL, Intel


def can_fork() -> bool:
    """Whether workers may be forked from a process that has imported everything."""
    return sys.platform == "linux" and not any(map(os.path.exists, GPUS))


CONTEXT: Any = get_context("forkserver" if can_fork() else "spawn")


def begin_to_import() -> None:
    """Start the process that workers are forked from, and do not wait for it."""
    if can_fork():
        from multiprocessing import forkserver

        CONTEXT.set_forkserver_preload(["priorbench.bench.imports"])
        with interrupts_wait():
            forkserver.ensure_running()


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """A child started inside never sees the terminal's Ctrl-C; its parent does, and ends it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

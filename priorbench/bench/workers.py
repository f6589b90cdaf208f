"""Cells in processes of their own: several at once, killed when their time is up or they die."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing import connection, parent_process
from typing import Any

import psutil
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from ..errors import UserError
from ..plan.spec import CellResult, CellSpec
from .forks import CONTEXT, begin_to_import, interrupts_wait
from .work import Reporter, Work

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PATIENCE = 3600.0  # the most seconds to wait before looking at the workers again


def pool(work: Work, specs: list[CellSpec]) -> Iterator[CellResult]:
    """The result of each spec, as soon as it is done.

    The threads that torch has here are divided among the processes.
    """
    if not specs:
        return
    count = min(work.workers, len(specs))
    threads = max(1, torch.get_num_threads() // work.workers)
    # Even where there are fewer cells than workers: all rows of a folder are timed alike.
    work = replace(work, at_once=work.workers)
    waiting, workers = deque(specs), [Worker(work, threads) for _ in range(count)]
    try:
        while waiting or any(w.spec for w in workers):
            for worker in workers:
                if waiting and worker.ready and worker.spec is None:
                    worker.give(waiting.popleft())
            for worker in _with_news(workers):
                result = worker.news()
                if worker.gone:
                    workers.remove(worker)
                    workers += [Worker(work, threads)] if waiting else []
                if result is not None:
                    yield result
    finally:
        for worker in workers:
            worker.kill()


def _with_news(workers: list["Worker"]) -> list["Worker"]:
    """Wait; return the workers that sent something, died or ran out of time."""
    deadlines = [w.deadline for w in workers if w.deadline is not None]
    patience = max(0.0, min(deadlines) - time.monotonic()) if deadlines else PATIENCE
    ends = [end for w in workers for end in (w.pipe, w.process.sentinel)]
    ready = set(connection.wait(ends, min(patience, PATIENCE)))
    return [w for w in workers if ready & {w.pipe, w.process.sentinel} or w.is_late]


class Worker:
    """A process that computes one cell after the other, seen from outside.

    Attributes:
        ready: it can be given a cell.
        gone: it has ended, and takes no more cells.
        spec: the cell that it computes, or None.
        deadline: when that cell's time is up, by ``time.monotonic()``, or None.
    """

    def __init__(self, work: Work, threads: int) -> None:
        self.work = work
        self.ready = self.gone = False
        self.spec: CellSpec | None = None
        self.deadline: float | None = None
        self.pipe, its_end = CONTEXT.Pipe()
        environment = os.environ | dict.fromkeys(THREADS, str(threads))
        arguments = (its_end, work, threads, environment)
        self.process = CONTEXT.Process(target=_serve, args=arguments, daemon=False)
        begin_to_import()
        with interrupts_wait():
            self.process.start()
        its_end.close()

    @property
    def is_late(self) -> bool:
        """Whether the cell's time is up."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def give(self, spec: CellSpec) -> None:
        """Have a cell computed."""
        self.spec = spec
        with suppress(OSError):  # the process has died, which its news will say
            self.pipe.send(spec)

    def news(self) -> CellResult | None:
        """Take in what the process sent, and see whether it lives and is in time.

        Returns:
            A result, if there is one.

        Raises:
            UserError: if the process says so, or cannot even begin.
        """
        try:
            while self.pipe.poll():
                if (result := self._hear(*self.pipe.recv())) is not None:
                    return result
        except (EOFError, OSError):
            return self._ended(None)
        if self.is_late:
            return self._ended(f"timeout: not done after {self.work.timeout:g} s, and stopped")
        return None if self.process.is_alive() else self._ended(None)

    def _hear(self, event: str, *values: Any) -> CellResult | None:
        """Act on one message of the process; see :class:`.work.Reporter` and :func:`_serve`."""
        match event:
            case "ready":
                self.ready = True
            case "cell":
                if self.work.timeout is not None:
                    self.deadline = time.monotonic() + self.work.timeout
                self.work.listener.cell(*values)
            case "progress":
                self.work.listener.progress(*values)
            case "done":
                self.spec = self.deadline = None
                result: CellResult = values[0]
                return result
            case "error":
                raise values[0]
        return None

    def _ended(self, reason: str | None) -> CellResult | None:
        if reason is None:
            self.process.join(5)
        spec, code = self.spec, self.process.exitcode
        self.kill()
        self.gone, self.spec, self.deadline = True, None, None
        reason = reason or _reason(code)
        if spec is None and not self.ready:
            raise UserError(f"a worker cannot begin: {reason}")
        return None if spec is None else self.work.failed(spec, reason)

    def kill(self) -> None:
        """End the process and those that it started."""
        with suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    child.kill()
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _reason(code: int | None) -> str:
    """Why a process ended, from its exit code."""
    if code is None or code >= 0:
        return f"its process ended by itself, with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"its process was killed by {signal.Signals(-code).name}{hint}"


def _serve(pipe: Any, work: Work, threads: int, environment: dict[str, str]) -> None:
    """What the process does: take specs, send events and results, until nobody is there.

    The environment is given, since what the process was forked from may have begun with another.
    """
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # tqdm's own lock is a semaphore of the system, which outlives a process that is killed.
    tqdm.set_lock(threading.RLock())
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # of the libraries that are loaded; others read the environment
    work = replace(work, listener=Reporter(lambda *event: pipe.send(event)))
    pipe.send(("ready",))
    with suppress(EOFError):
        while True:
            try:
                pipe.send(("done", work(pipe.recv())))
            except UserError as error:  # no cell's fault: the disk is full, for instance
                pipe.send(("error", error))


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

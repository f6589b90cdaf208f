"""Cells in processes of their own: several at once, each killed when its time is over, none missed
when it dies.
"""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import connection, get_context, parent_process
from typing import Any

import psutil
import torch
from tqdm import tqdm

from ..errors import UserError
from ..plan.spec import CellResult, CellSpec
from .work import Work

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
REPORTS = 0.1  # seconds between two reports of a fit's progress, at least


def pool(work: Work, specs: list[CellSpec]) -> Iterator[CellResult]:
    """Each result as it is done. The threads that torch has here are divided among the processes."""
    if not specs:
        return
    # Fewer cells than workers are computed as among others: rows of one folder are timed under one
    # condition.
    count, threads = min(work.workers, len(specs)), max(1, torch.get_num_threads() // work.workers)
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
    """Waits for those that said something, died or ran out of time."""
    deadlines = [w.deadline for w in workers if w.deadline is not None]
    patience = min(3600.0, max(0.0, min(deadlines) - time.monotonic())) if deadlines else None
    ready = set(
        connection.wait([end for w in workers for end in (w.pipe, w.process.sentinel)], patience)
    )
    return [w for w in workers if ready & {w.pipe, w.process.sentinel} or w.late]


class Worker:
    """A process that computes one cell after the other, seen from outside."""

    def __init__(self, work: Work, threads: int) -> None:
        self.work = work
        self.ready = self.gone = False
        self.spec: CellSpec | None = None
        self.deadline: float | None = None
        self.pipe, theirs = get_context("spawn").Pipe()
        arguments = (theirs, replace(work, tell=Work.tell), threads)
        self.process = get_context("spawn").Process(target=_serve, args=arguments, daemon=False)
        with _environment(dict.fromkeys(THREADS, str(threads))), _interrupts_wait():
            self.process.start()
        theirs.close()

    @property
    def late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def give(self, spec: CellSpec) -> None:
        self.spec = spec
        with suppress(OSError):  # it has died: the next news is of that
            self.pipe.send(spec)

    def news(self) -> CellResult | None:
        """Take in what the process said, and see whether it is there and in time: a result, if
        there is one.
        """
        try:
            while self.pipe.poll():
                said, *values = self.pipe.recv()
                if said == "ready":
                    self.ready = True
                elif said == "done":
                    self.spec = self.deadline = None
                    return values[0]
                elif said == "error":
                    raise values[0]
                else:
                    if said == "cell" and self.work.timeout is not None:
                        self.deadline = time.monotonic() + self.work.timeout
                    self.work.tell(said, *values)
        except (EOFError, OSError):
            return self._ended(None)
        if self.late:
            return self._ended(f"timeout: not done after {self.work.timeout:g} s, and stopped")
        return None if self.process.is_alive() else self._ended(None)

    def _ended(self, reason: str | None) -> CellResult | None:
        if reason is None:
            self.process.join(5)
        spec, code = self.spec, self.process.exitcode
        self.kill()
        self.gone, self.spec, self.deadline = True, None, None
        if reason is None and code is not None and code < 0:
            hint = " (out of memory?)" if code == -signal.SIGKILL else ""
            reason = f"its process was killed by {signal.Signals(-code).name}{hint}"
        reason = reason or f"its process ended by itself, with exit code {code}"
        if spec is None and not self.ready:
            raise UserError(f"a worker cannot begin: {reason}")
        if spec is None:  # it had nothing to do
            return None
        return self.work.failed(spec, reason)

    def kill(self) -> None:
        """End the process and those that it started."""
        with suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    child.kill()
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Any, work: Work, threads: int) -> None:
    """The process's side: specs in, events and results out, until nobody is there any more."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    tqdm.set_lock(
        threading.RLock()
    )  # its own is a semaphore of the system, which outlives a process that is killed
    torch.set_num_threads(threads)
    last = 0.0

    def tell(event: str, *values: Any) -> None:
        nonlocal last
        done = event != "progress" or values[1] == values[2]
        if done or time.monotonic() - last > REPORTS:
            last = time.monotonic()
            pipe.send((event, *values))

    work = replace(work, tell=tell)
    pipe.send(("ready",))
    with suppress(EOFError):
        while True:
            try:
                pipe.send(("done", work(pipe.recv())))
            except UserError as error:  # the disk is full, say: no cell's fault
                pipe.send(("error", error))


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """What the libraries of a child read when they are loaded."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ |= changes
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """A child started inside never sees the terminal's Ctrl-C: its parent does, and ends it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

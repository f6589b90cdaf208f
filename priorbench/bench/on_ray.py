"""Cells as tasks of a Ray cluster: one machine, or many that share the results folder.

Nothing is sent that need not be: the runner asks for missing cells alone, and each result comes
back to it, so that a worker or a node that dies costs no more than what it was computing.
"""

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import floor
from pathlib import Path
from typing import Any

from ..errors import UserError, one_line
from ..plan.spec import CellResult, CellSpec
from ..store.fits import Fits
from .ray_node import Board, look_around
from .ray_worker import VARIABLES, Surroundings, compute, load
from .work import Work

try:
    import ray
    from ray import exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise UserError("it needs Ray: pip install 'priorbench[ray]'") from error

RETRIES = 3  # of a cell whose worker or node died
NEWS = 0.2  # seconds between two looks at the board
ANSWER = 300.0  # seconds in which every node must have answered at the start
SEEN = 20.0  # seconds after which a file on a shared disk is seen everywhere
AHEAD = 2  # tasks in flight for each that can run, so that no worker waits for its next one


@dataclass(frozen=True)
class Needs:
    """What a cell occupies of its node while it is computed; fractions share a GPU."""

    num_cpus: float
    num_gpus: float

    def __post_init__(self) -> None:
        for name, least in (("num_cpus", "more than 0"), ("num_gpus", "at least 0")):
            value = getattr(self, name)
            if value < 0 or (value == 0 and name == "num_cpus"):
                raise UserError(f"ray.{name}: must be {least}, got {value}")
            if value > 1 and value != int(value):
                raise UserError(f"ray.{name}: must be a whole number above 1, got {value}")

    def at_once(self, node: dict[str, Any]) -> int:
        """How many cells a node can compute at once."""
        has = {name: node["Resources"].get(name, 0.0) for name in ("CPU", "GPU")}
        room = [has["CPU"] / self.num_cpus]
        room += [has["GPU"] / self.num_gpus] if self.num_gpus else []
        return int(min(room) + 1e-9)

    def task(self, function: Callable[..., Any], retries: int) -> Any:
        """``function`` as a task that occupies as much.

        Unless ``max_calls`` is 0, a worker with a GPU ends after a task, and the next one loads
        everything anew.
        """
        resources = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}
        return ray.remote(max_retries=retries, max_calls=0, **resources)(function)


def execute(
    work: Work,
    specs: Iterable[CellSpec],
    *,
    address: str = "",
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
) -> Iterator[CellResult]:
    """The result of each spec, as soon as it is done.

    Arguments:
        address: of a cluster. Without one it is the cluster that ``ray.init()`` finds or has found,
            or else this machine.
        num_cpus, num_gpus: what a cell occupies of its node. It has ``num_cpus`` threads.

    Raises:
        UserError: if the cluster cannot be reached or has no room, or a node does not see the
            results folder, or has other versions.
    """
    if work.workers > 1:
        raise UserError(
            "--workers is not for the executor 'ray': as many cells are computed at once as the "
            "cluster has room for (ray.num_cpus, ray.num_gpus)"
        )
    needs, specs = Needs(num_cpus, num_gpus), list(specs)
    return _results(work, specs, address, needs) if specs else iter(())


def _results(work: Work, specs: list[CellSpec], address: str, needs: Needs) -> Iterator[CellResult]:
    with _cluster(address):
        around = _surroundings(needs)
        if work.fits:
            work = replace(work, fits=Fits(work.fits.folder.resolve()))
        with _loading(specs, needs, around):
            _check_nodes(work, specs[0].versions, around)
        flight = _Flight(work, specs, needs, around)
        try:
            while flight.under_way:
                yield from flight.landed()
        finally:
            flight.cancel()


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    """The user's cluster if there is one, else one that ends with this run."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))  # else they never end
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # its default soon, says Ray
    try:
        with _own_signals():
            ray.init(
                address=address or None,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"the Ray cluster {address!r}" if address else "a Ray cluster"
        raise UserError(f"ray.address: {where} cannot be reached: {one_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what SIGTERM does in this process: ``ray.init`` changes it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _surroundings(needs: Needs) -> Surroundings:
    """What tasks need to know.

    Raises:
        UserError: if no node has room for a cell.
    """
    at_once = {node["NodeID"]: needs.at_once(node) for node in _nodes()}
    if not any(at_once.values()):
        has = "; ".join(
            f"{node['NodeManagerHostname']} has {node['Resources'].get('CPU', 0):g} CPUs and "
            f"{node['Resources'].get('GPU', 0):g} GPUs"
            for node in _nodes()
        )
        raise UserError(
            f"no node has room for a cell with ray.num_cpus {needs.num_cpus:g} and ray.num_gpus "
            f"{needs.num_gpus:g}: {has}"
        )
    variables = {name: os.environ.get(name, "") for name in VARIABLES}
    return Surroundings(str(Path.cwd()), variables, at_once, max(1, floor(needs.num_cpus)))


@contextmanager
def _loading(specs: list[CellSpec], needs: Needs, around: Surroundings) -> Iterator[None]:
    """Have the workers of the first cells load what all share, and cancel that on an error."""
    task = needs.task(load, retries=0)
    count = min(len(specs), sum(around.at_once.values()))
    refs = [task.remote(specs[0], around) for _ in range(count)]
    try:
        yield
    except BaseException:
        for ref in refs:
            ray.cancel(ref, force=True)
        raise


def _check_nodes(work: Work, versions: dict[str, str], around: Surroundings) -> None:
    """Have every node write a file that is seen here.

    Raises:
        UserError: naming a node that does not, and why.
    """
    folder = work.fits.folder.parent if work.fits else None
    notes: dict[Any, tuple[str, Path | None]] = {}
    look = ray.remote(num_cpus=0, max_retries=0)(look_around)
    for node in _nodes():
        if not around.at_once.get(node["NodeID"]):
            continue  # no cell can run there
        note = folder / f".seen-{node['NodeID']}.{os.getpid()}.tmp" if folder else None
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = look.options(scheduling_strategy=there)
        name = node["NodeManagerHostname"]
        notes[task.remote(str(note or ""), versions)] = (name, note)
    try:
        done, late = ray.wait(list(notes), num_returns=len(notes), timeout=ANSWER)
        for ref in late:
            raise UserError(f"node {notes[ref][0]} has not answered for {ANSWER:g} s")
        for ref in done:
            _check_node(ref, *notes[ref])
    finally:
        for _, note in notes.values():
            if note:
                note.unlink(missing_ok=True)


def _check_node(ref: Any, name: str, note: Path | None) -> None:
    try:
        fault = ray.get(ref)
    except exceptions.RayTaskError as error:  # it could not even be begun
        raise UserError(f"node {name} cannot compute cells: {_cause(error)}") from error
    except exceptions.RayError:
        return  # it has died since, or its worker has: the others compute its cells
    if fault:
        raise UserError(f"node {name} {fault}")
    waited = time.monotonic() + SEEN
    while note and note.name not in os.listdir(note.parent):
        if time.monotonic() > waited:
            raise UserError(
                f"node {name} does not share {note.parent} with this one: what it writes there is "
                "not seen here; give an --output on a shared disk, or use --shard and 'compare'"
            )
        time.sleep(NEWS)


def _cause(error: exceptions.RayTaskError) -> str:
    return one_line(getattr(error, "cause", None) or error, named=True)


@dataclass
class _Sent:
    """A cell that was sent: its number, what is known of where it is, when its time is up."""

    number: int
    spec: CellSpec
    heard: bool = False
    node: str = ""
    host: str = ""
    deadline: float | None = None

    @property
    def is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline


class _Flight:
    """The tasks that are in flight, and the cells that wait for their turn."""

    def __init__(
        self, work: Work, specs: list[CellSpec], needs: Needs, around: Surroundings
    ) -> None:
        self.work, self.needs = work, needs
        self.waiting = deque(enumerate(specs))
        self.sent: dict[Any, _Sent] = {}
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Board)
        self.board = actor.options(scheduling_strategy=here).remote()
        self.task = needs.task(compute, RETRIES)
        self.shared = ray.put(work), self.board, ray.put(around)

    @property
    def under_way(self) -> bool:
        """Whether a result is still to come."""
        return bool(self.waiting or self.sent)

    def landed(self) -> Iterator[CellResult]:
        """Send what there is room for, wait a little, and yield what is done."""
        while self.waiting and len(self.sent) < self._room():
            number, spec = self.waiting.popleft()
            work, board, around = self.shared
            ref = self.task.remote(work, spec, number, board, around)
            self.sent[ref] = _Sent(number, spec)
        done, _ = ray.wait(list(self.sent), num_returns=1, timeout=NEWS)
        self._hear()
        for ref in done:
            sent = self.sent.pop(ref)
            self._begun(sent)  # its news may be slower than its result
            yield self._result(ref, sent)
        for ref in [ref for ref, sent in self.sent.items() if sent.is_late]:
            yield from self._stopped(ref)

    def _room(self) -> int:
        return AHEAD * max(1, sum(self.needs.at_once(node) for node in _nodes()))

    def _hear(self) -> None:
        """Pass on the news of cells that are in flight."""
        by_number = {sent.number: sent for sent in self.sent.values()}
        for number, event, node, host, *values in ray.get(self.board.take.remote()):
            sent = by_number.get(number)
            if sent is None:
                continue
            sent.node, sent.host = node, host
            if event == "cell":  # again, if it is tried again
                self._begun(sent)
                if self.work.timeout is not None:
                    sent.deadline = time.monotonic() + self.work.timeout
            else:
                self.work.listener.progress(sent.spec, *values)

    def _begun(self, sent: _Sent) -> None:
        if not sent.heard:
            sent.heard = True
            self.work.listener.cell(sent.spec)

    def _result(self, ref: Any, sent: _Sent) -> CellResult:
        """The result of a task that has ended, however it did.

        Raises:
            UserError: if the task says so: no cell's fault, the disk is full, for instance.
        """
        try:
            result: CellResult = ray.get(ref)
            return result
        except exceptions.RayTaskError as error:
            if isinstance(cause := getattr(error, "cause", None), UserError):
                raise cause from error
            return self.work.failed(sent.spec, _cause(error), sent.host)
        except exceptions.RayError as error:
            tries = f"{_end_of(error)}, and was tried {RETRIES} times more"
            return self.work.failed(sent.spec, tries, sent.host)

    def _stopped(self, ref: Any) -> Iterator[CellResult]:
        """End a task whose time is up, unless its node is gone and it will begin again."""
        sent = self.sent[ref]
        if sent.node not in {node["NodeID"] for node in _nodes()}:
            sent.deadline = None
            return
        del self.sent[ref]
        ray.cancel(ref, force=True)
        reason = f"timeout: not done after {self.work.timeout:g} s, and stopped"
        yield self.work.failed(sent.spec, reason, sent.host)

    def cancel(self) -> None:
        """End all that is in flight."""
        for ref in self.sent:
            with suppress(exceptions.RayError, ValueError):
                ray.cancel(ref, force=True)
        with suppress(exceptions.RayError):
            ray.kill(self.board)


def _end_of(error: exceptions.RayError) -> str:
    """How a worker ended."""
    if isinstance(error, exceptions.OutOfMemoryError):
        return "its node ran out of memory"
    if isinstance(error, exceptions.NodeDiedError):
        return "its node died"
    if isinstance(error, exceptions.WorkerCrashedError):
        return "its process died"
    return one_line(error, named=True)

"""What a run tells trackers such as MLflow, and what they know of it already."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import UserError, one_line
from .files import write_atomically
from .hookspecs import Tracker
from .plan.choice import Choice
from .plan.layout import Plan
from .plan.spec import CellResult
from .plugin_manager import load_plugins
from .store.results import Store

STATE = "tracked.json"


class Tracking:
    """The trackers of a run (``--track``).

    ``tracked.json`` in the results folder says what each has been told. So a run that goes on
    another time goes on in the same tracked run, which is told what is new. A tracker that fails is
    left alone from then on; the run continues.

    Arguments:
        note: is called with a line for the user.
        fresh: begin a new tracked run.

    Raises:
        UserError: if a tracker cannot be used.
    """

    def __init__(
        self, plan: Plan, store: Store, note: Callable[[str], None], fresh: bool = False
    ) -> None:
        self.store, self.note = store, note
        self.path = store.folder / STATE
        self.status = "stopped"
        self.state = {} if fresh else _read(self.path)
        self.trackers = {choice.label: self._opened(choice, plan) for choice in plan.config.track}

    def _opened(self, choice: Choice, plan: Plan) -> Tracker:
        make = load_plugins().find("tracker", choice.name).load()
        state = self.state.setdefault(choice.label, {"run": None, "told": {}})
        try:
            tracker: Tracker = make(plan, self.store.folder, state["run"], **choice.params)
        except Exception as error:  # of a service, or a plugin
            known = isinstance(error, UserError)
            reason = str(error) if known else one_line(error, named=True)
            raise UserError(f"tracker {choice.label!r}: {reason}") from error
        if tracker.run != state["run"]:
            state |= {"run": tracker.run, "told": {}}
        return tracker

    def tell(self, result: CellResult) -> None:
        """Tell the trackers of a cell, or of that part of it that they have not been told."""
        for label in list(self.trackers):
            told = self.state[label]["told"]
            fit = f"fit {result.spec.fit}"
            digests = {fit: "told"} if result.curve else {}
            for row in result.rows:
                rows = [other for other in result.rows if other["cell"] == row["cell"]]
                digests[row["cell"]] = _digest(rows)
            new = {name for name, digest in digests.items() if told.get(name) != digest}
            rows = [row for row in result.rows if row["cell"] in new]
            if not rows:
                continue
            curve = result.curve if fit in new else []
            with self._guarded(label) as tracker:
                tracker.cell_finished(CellResult(result.spec, rows, log=result.log, curve=curve))
                failed = {row["cell"] for row in rows if row["status"] != "ok"}
                told |= {name: digests[name] for name in new - failed}
                self._write()

    def catch_up(self, plan: Plan) -> None:
        """Tell the trackers of the cells in the folder that they have not been told of."""
        for spec in plan.cells if self.trackers else ():
            self.tell(CellResult(spec, self.store.rows([spec]), curve=self.store.curve(spec)))

    def finish(self, plan: Plan, comparison: pd.DataFrame) -> None:
        """Tell the trackers of the tables, the pictures and the page in the folder, and of what
        was timed again.
        """
        self.catch_up(plan)
        self.status = "finished" if (comparison.status == "ok").all() else "failed"
        for label in list(self.trackers):
            with self._guarded(label) as tracker:
                tracker.run_finished(comparison)

    def close(self) -> None:
        """Nothing more is told."""
        for label in list(self.trackers):
            with self._guarded(label) as tracker:
                tracker.close(self.status)

    @contextmanager
    def _guarded(self, label: str) -> Iterator[Tracker]:
        """A tracker that is about to be told something, for the last time if that raises."""
        try:
            yield self.trackers[label]
        except Exception as error:
            del self.trackers[label]
            self.note(
                f"tracker {label!r} failed ({one_line(error, named=True)}) and is told no more; "
                "the same command with --collect tells it the rest"
            )

    def _write(self) -> None:
        write_atomically(self.path, json.dumps(self.state, indent=1).encode() + b"\n")


@contextmanager
def tracked(
    plan: Plan, store: Store, note: Callable[[str], None], fresh: bool = False
) -> Iterator[Tracking]:
    """The trackers of a run, closed at its end, whatever that is."""
    tracking = Tracking(plan, store, note, fresh)
    try:
        yield tracking
    finally:
        tracking.close()


def _read(path: Path) -> dict[str, Any]:
    """What trackers have been told before."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        found = json.loads(path.read_bytes())
        return {
            label: {"run": state["run"], "told": dict(state["told"])}
            for label, state in found.items()
        }
    return {}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]

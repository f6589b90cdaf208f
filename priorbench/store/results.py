"""Results on disk: one JSON a cell and solver setting, written atomically, named by the hash of all
that determines it.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..files import UNREADABLE, remove, set_aside, sweep, write_atomically
from ..plan.spec import CellResult, CellSpec, name_of
from .fits import Fits

FOLDERS = ("cells", "images", "priors", "grids", "figures")

ROW = {
    "prior",
    "t_trunc",
    "T",
    "solver",
    "steps",
    "nfe",
    "seed",
    "split",
    "n_samples",
    "fid",
    "status",
    "cell",
}


class Store:
    """A results folder.

    ``cells/<hash>.json`` the rows; ``images/<hash>.npz`` what the grids show (and the samples,
    where they are kept); ``priors/`` the fitted priors (:class:`~priorbench.store.fits.Fits`);
    ``set-aside/`` what could not be trusted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fits = Fits(folder / "priors")
        self.under_way: dict[str, str] = {}

    def path(self, spec: CellSpec) -> Path:
        """Of the first of the cell's results, as :meth:`images_path`."""
        return self.folder / "cells" / f"{spec.results[0].cell}.json"

    def images_path(self, spec: CellSpec) -> Path:
        return self.folder / "images" / f"{spec.results[0].cell}.npz"

    def missing(self, spec: CellSpec) -> tuple[tuple[str, int | None], ...]:
        """The solver settings of a cell that are not there. Failures are never reused."""
        return tuple(one.solvers[0] for one in spec.results if self._kept(one) is None)

    def rows(self, specs: Iterable[CellSpec]) -> list[dict[str, Any]]:
        """The rows of those results that are there, in the order given."""
        kept = [self._kept(one) for spec in specs for one in spec.results]
        return [row for found in kept if found for row in found["rows"]]

    def images(self, spec: CellSpec) -> dict[str, np.ndarray]:
        """The kept images of a cell, each (N, C, H, W) bytes, by ``x_t`` and ``x_0 <solver>
        <nfe>``.
        """
        found: dict[str, np.ndarray] = {}
        for path in (self.images_path(one) for one in spec.results):
            with suppress(*UNREADABLE), np.load(path, allow_pickle=False) as kept:
                found |= {name: kept[name] for name in kept.files if name not in found}
        return found

    def failed(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of what failed in the last run here, by result: to be shown, never to be taken
        for done.
        """
        try:
            found = json.loads((self.folder / "failed.json").read_bytes())
            return {cell: [dict(row) for row in rows] for cell, rows in found.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}

    def write_failed(self, failed: dict[str, list[dict[str, Any]]]) -> None:
        path = self.folder / "failed.json"
        if failed:
            write_atomically(path, json.dumps(failed, indent=1).encode() + b"\n")
        else:
            remove(path)

    def begin(self, spec: CellSpec) -> None:
        """Remember on disk that a cell is being computed: what crashes with the process can be
        named later.
        """
        self._say_under_way(
            self.under_way | {spec.cell: f"{spec.label} t_trunc {spec.t_trunc} seed {spec.seed}"}
        )

    def end(self, spec: CellSpec | None = None) -> None:
        """The cell is done; without one, nothing is under way any more."""
        self._say_under_way({k: v for k, v in self.under_way.items() if spec and k != spec.cell})

    def _say_under_way(self, cells: dict[str, str]) -> None:
        self.under_way = cells
        if cells:
            write_atomically(
                self.folder / "under-way.json", json.dumps(list(cells.values())).encode() + b"\n"
            )
        else:
            remove(self.folder / "under-way.json")

    def broken_off(self) -> Iterator[str]:
        """Say which cells were under way when the last run here ended without a word: a crash, or a
        kill.
        """
        path = self.folder / "under-way.json"
        with suppress(OSError, ValueError, TypeError):
            cells = ", ".join(map(str, json.loads(path.read_bytes())))
            yield f"the last run here ended without a word while it computed {cells}: it crashed, or was killed"
        remove(path)

    def write(self, result: CellResult) -> None:
        """Keep the result of each setting that did not fail; the JSON comes last, so that where it
        is everything is.
        """
        good = [row for row in result.rows if row["status"] == "ok"]
        settings = tuple(f" {row['solver']} {row['nfe']}" for row in result.rows if "nfe" in row)
        for one in result.spec.results:
            rows = [row for row in good if row["cell"] == one.cell]
            if len(rows) < len(one.splits):
                continue
            mine = f" {rows[0]['solver']} {rows[0]['nfe']}"
            images = {
                k: v
                for k, v in result.images.items()
                if k.endswith(mine) or not k.endswith(settings)
            }
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **images)  # type: ignore[arg-type]
            write_atomically(self.images_path(one), buffer.getvalue())
            self._write(one, rows, result.log, hashlib.sha256(buffer.getvalue()).hexdigest())

    def rewrite(self, spec: CellSpec, rows: list[dict[str, Any]]) -> None:
        """Replace the rows of results that are there, timed anew for instance."""
        for one in spec.results:
            kept, mine = self._kept(one), [row for row in rows if row["cell"] == one.cell]
            if kept and mine:
                self._write(one, mine, kept["log"], kept["images_sha256"])

    def _write(
        self, one: CellSpec, rows: list[dict[str, Any]], log: list[str], images: str
    ) -> None:
        known = {
            "cell": one.cell,
            "spec": asdict(one),
            "rows": rows,
            "log": log,
            "images_sha256": images,
        }
        data = json.dumps(known | {"sha256": _digest(known)}, indent=1).encode() + b"\n"
        write_atomically(self.path(one), data)

    def forget(self, spec: CellSpec) -> None:
        """Have the cell computed again, the fit included."""
        self.fits.forget(spec)
        for one in spec.results:
            remove(self.path(one))

    def clean(self) -> Iterator[str]:
        """Remove unfinished files, and set aside what is no result of a run, or no longer one: a
        line for each.

        Looks into ``cells``, ``images`` and ``priors`` alone: what else is in the folder is
        nobody's business.
        """
        sweep(self.folder, FOLDERS)
        for path in sorted((self.folder / "cells").glob("*")):
            try:
                found = read_result(path)
                images = self.folder / "images" / f"{found['cell']}.npz"
                if (
                    images.is_file()
                    and hashlib.sha256(images.read_bytes()).hexdigest() != found["images_sha256"]
                ):
                    yield set_aside(images, self.folder, "holds other images than were written")
            except (OSError, ValueError) as error:
                yield set_aside(path, self.folder, str(error))
        for path in sorted((self.folder / "images").glob("*")):
            if not re.fullmatch(r"[0-9a-f]{16}\.npz", path.name) or not path.is_file():
                yield set_aside(path, self.folder, "is no file of a run")
        for path in sorted((self.folder / "priors").glob("*")):
            if not re.fullmatch(r"[\w.-]+-t\d+-s\d+-[0-9a-f]{8}", path.name) or not path.is_dir():
                yield set_aside(path, self.folder, "is no fitted prior of a run")

    def _kept(self, one: CellSpec) -> dict[str, Any] | None:
        """What is kept of a result, or None where it has to be computed."""
        try:
            kept = read_result(self.path(one))
        except (OSError, ValueError):
            return None
        whole = kept["cell"] == one.cell and all(row["status"] == "ok" for row in kept["rows"])
        return kept if whole and self.images_path(one).is_file() else None


def read_result(path: Path) -> dict[str, Any]:
    """The JSON of a result.

    Raises:
        ValueError: for anything but what :meth:`Store.write` wrote, byte for byte.
    """
    try:
        found = json.loads(path.read_bytes())
        name, rows = name_of(found["spec"]), found["rows"]
        splits = len(found["spec"]["splits"])
        if name != found["cell"] or path.name != f"{name}.json" or len(rows) != splits:
            raise ValueError("it is the result of something else")
        if found.pop("sha256") != _digest(found):
            raise ValueError("it is not what was written")
        if any(not row.keys() >= ROW or row["cell"] != name for row in rows):
            raise ValueError("its rows lack columns")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = (
            str(error)
            if type(error) is ValueError
            else f"{type(error).__name__}: {' '.join(str(error).split())}"
        )
        raise ValueError(f"holds no result of a run ({reason})") from error
    return dict(found)


def _digest(found: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()

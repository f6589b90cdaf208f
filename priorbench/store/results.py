"""Results on disk: one JSON file for each cell and solver setting, written atomically.

Its name is the hash of everything that determines it, so a result that is there need not be
computed again.
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
import pandas as pd

from ..errors import one_line
from ..files import UNREADABLE, remove, set_aside, sweep, write_atomically
from ..plan.spec import CellResult, CellSpec, ImageKey, name_of
from ..tables.columns import Row
from .fits import Fits

FOLDERS = ("cells", "images", "priors", "fits", "grids", "figures")

# The columns without which a row cannot be used.
ROW = {
    "prior", "t_trunc", "T", "solver", "steps", "nfe", "seed", "split", "n_samples", "fid",
    "status", "cell",
}  # fmt: skip

# What is known of a fit at each look at it (bench/learning.py).
LOOK = ["share", "step", "seconds", "loss", "distance", "floor"]

IMAGES = re.compile(r"[0-9a-f]{16}\.npz")
FIT = re.compile(r"[\w.-]+-t\d+-s\d+-[0-9a-f]{8}")


class Store:
    """A results folder.

    ``cells/<hash>.json`` holds rows, ``images/<hash>.npz`` what the grids show (and all samples if
    they are saved), ``priors/`` the fitted priors (:class:`~priorbench.store.fits.Fits`), and
    ``set-aside/`` what could not be trusted.

    Several shards of a run share all that; what each of them says of itself is in a folder of its
    own.

    Attributes:
        folder: where it is.
        own: where ``run.json``, ``failed.json`` and ``under-way.json`` are: in ``folder``, or, of
            the shard 2/8, in ``shards/2-of-8``.
        fits: the fitted priors.
        under_way: the titles of the cells that are being computed, by their hash.
    """

    def __init__(self, folder: Path, shard: str = "") -> None:
        self.folder = folder
        self.own = folder / "shards" / shard.replace("/", "-of-") if shard else folder
        self.fits = Fits(folder / "priors")
        self.under_way: dict[str, str] = {}

    # --- reading

    def path(self, spec: CellSpec) -> Path:
        """The JSON file of the cell's first result."""
        return self.folder / "cells" / f"{spec.results[0].cell}.json"

    def images_path(self, spec: CellSpec) -> Path:
        """The images of the cell's first result."""
        return self.folder / "images" / f"{spec.results[0].cell}.npz"

    def missing(self, spec: CellSpec) -> tuple[tuple[str, int | None], ...]:
        """The solver settings of a cell that have no result. A failure is no result."""
        return tuple(one.solvers[0] for one in spec.results if self._kept(one) is None)

    def rows(self, specs: Iterable[CellSpec]) -> list[Row]:
        """The rows of the results that are there, in the order given."""
        kept = [self._kept(one) for spec in specs for one in spec.results]
        return [row for found in kept if found for row in found["rows"]]

    def images(self, spec: CellSpec) -> dict[str, np.ndarray]:
        """The images that were kept of a cell, (N, C, H, W) bytes, by the text of an ImageKey."""
        found: dict[str, np.ndarray] = {}
        for path in (self.images_path(one) for one in spec.results):
            with suppress(*UNREADABLE), np.load(path, allow_pickle=False) as kept:
                found |= {name: kept[name] for name in kept.files if name not in found}
        return found

    def curve(self, spec: CellSpec) -> list[dict[str, float]]:
        """How the fit of a cell got on; empty if it was not watched."""
        with suppress(OSError, ValueError, KeyError):
            rows = pd.read_csv(self._curve_path(spec), float_precision="round_trip")
            return [dict(zip(LOOK, map(float, row), strict=True)) for row in rows[LOOK].to_numpy()]
        return []

    def failed(self) -> dict[str, list[Row]]:
        """The rows of what failed in the last run here, or the last of each shard, by result.

        They are shown in tables, but never taken for results.
        """
        found: dict[str, list[Row]] = {}
        for path in self._of_all("failed.json"):
            with suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
                failed = json.loads(path.read_bytes())
                found |= {cell: [dict(row) for row in rows] for cell, rows in failed.items()}
        return found

    def _of_all(self, name: str) -> list[Path]:
        """The files of that name of the run and of its shards."""
        return [self.folder / name, *sorted((self.folder / "shards").glob(f"*/{name}"))]

    def _kept(self, one: CellSpec) -> dict[str, Any] | None:
        """What is kept of a result; None if it has to be computed."""
        try:
            kept = read_result(self.path(one))
        except (OSError, ValueError):
            return None
        whole = kept["cell"] == one.cell and all(row["status"] == "ok" for row in kept["rows"])
        return kept if whole and self.images_path(one).is_file() else None

    # --- writing

    def write(self, result: CellResult) -> None:
        """Keep the result of each setting that did not fail.

        The JSON file comes last: where it is, everything is.
        """
        good = [row for row in result.rows if row["status"] == "ok"]
        if good and result.curve:
            self._write_curve(result)
        for one in result.spec.results:
            rows = [row for row in good if row["cell"] == one.cell]
            if len(rows) < len(one.splits):
                continue
            chain = (rows[0]["solver"], rows[0]["nfe"])
            images = {
                name: shown
                for name, shown in result.images.items()
                if ImageKey.parse(name).chain in (None, chain)
            }
            buffer = io.BytesIO()
            # The stub takes the images for the option allow_pickle.
            np.savez_compressed(buffer, **images)  # type: ignore[arg-type]
            write_atomically(self.images_path(one), buffer.getvalue())
            self._write(one, rows, result.log, hashlib.sha256(buffer.getvalue()).hexdigest())

    def _write_curve(self, result: CellResult) -> None:
        """Write how the fit got on to ``fits/<prior>-t<t_trunc>-s<seed>-<hash>.csv``."""
        spec = result.spec
        name = {"prior": spec.prior, "params": spec.settings, "t_trunc": spec.t_trunc}
        name |= {"seed": spec.seed, "fit_budget": spec.fit_budget or ""}
        rows = pd.DataFrame([name | point for point in result.curve])
        write_atomically(self._curve_path(spec), rows.to_csv(index=False).encode())

    def _curve_path(self, spec: CellSpec) -> Path:
        return self.folder / "fits" / f"{self.fits.path(spec).name}.csv"

    def rewrite(self, spec: CellSpec, rows: list[Row]) -> None:
        """Replace the rows of results that are there, because they were timed again."""
        for one in spec.results:
            kept, new = self._kept(one), [row for row in rows if row["cell"] == one.cell]
            if kept and new:
                self._write(one, new, kept["log"], kept["images_sha256"])

    def _write(self, one: CellSpec, rows: list[Row], log: list[str], images: str) -> None:
        known = {"cell": one.cell, "spec": asdict(one), "rows": rows}
        known |= {"log": log, "images_sha256": images}
        data = json.dumps(known | {"sha256": _digest(known)}, indent=1).encode() + b"\n"
        write_atomically(self.path(one), data)

    def write_failed(self, failed: dict[str, list[Row]]) -> None:
        """Keep the rows of what failed, in place of those of the last run."""
        path = self.own / "failed.json"
        if failed:
            write_atomically(path, json.dumps(failed, indent=1).encode() + b"\n")
        else:
            remove(path)

    def forget(self, spec: CellSpec) -> None:
        """Have the cell computed again, with a new fit."""
        self.fits.forget(spec)
        for one in spec.results:
            remove(self.path(one))

    # --- crashes

    @property
    def is_alone(self) -> bool:
        """Whether nobody else is at work in the folder: a shard is not, a whole run is."""
        return self.own == self.folder

    def begin(self, spec: CellSpec) -> None:
        """Remember on disk that a cell is being computed, so that a crash can be traced to it."""
        self._note_under_way(self.under_way | {spec.cell: spec.title})

    def end(self, spec: CellSpec | None = None) -> None:
        """The cell is done; without one, no cell is under way any more."""
        self._note_under_way({k: v for k, v in self.under_way.items() if spec and k != spec.cell})

    def _note_under_way(self, cells: dict[str, str]) -> None:
        self.under_way = cells
        path = self.own / "under-way.json"
        if cells:
            write_atomically(path, json.dumps(list(cells.values())).encode() + b"\n")
        else:
            remove(path)

    def broken_off(self) -> Iterator[str]:
        """Say which cells were under way if the last run here crashed or was killed."""
        name = "under-way.json"
        for path in self._of_all(name) if self.is_alone else [self.own / name]:
            with suppress(OSError, ValueError, TypeError):
                cells = ", ".join(map(str, json.loads(path.read_bytes())))
                yield (
                    f"the last run here ended without a word while it computed {cells}: "
                    "it crashed, or was killed"
                )
            remove(path)

    def take_up(self) -> Iterator[str]:
        """Make the folder ready to go on with.

        Yields:
            A line for the user for each thing that was not as it should be.
        """
        if self.is_alone:
            yield from self.clean()
            for path in self._of_all("failed.json"):  # whatever failed is tried again
                remove(path)
        yield from self.broken_off()

    def clean(self) -> Iterator[str]:
        """Remove unfinished files, and set aside files that are damaged or not a run's.

        Only ``cells``, ``images`` and ``priors`` are looked into: anything else in the folder is
        not ours.

        Yields:
            A line for each file that was set aside.
        """
        sweep(self.folder, FOLDERS)
        for path in sorted((self.folder / "cells").glob("*")):
            try:
                found = read_result(path)
                images = self.folder / "images" / f"{found['cell']}.npz"
                if images.is_file() and _sha256(images) != found["images_sha256"]:
                    yield set_aside(images, self.folder, "holds other images than were written")
            except (OSError, ValueError) as error:
                yield set_aside(path, self.folder, str(error))
        for path in sorted((self.folder / "images").glob("*")):
            if not IMAGES.fullmatch(path.name) or not path.is_file():
                yield set_aside(path, self.folder, "is no file of a run")
        for path in sorted((self.folder / "priors").glob("*")):
            if not FIT.fullmatch(path.name) or not path.is_dir():
                yield set_aside(path, self.folder, "is no fitted prior of a run")


def read_result(path: Path) -> dict[str, Any]:
    """The JSON of a result.

    Raises:
        ValueError: unless it is, byte for byte, what :meth:`Store.write` wrote.
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
        known = type(error) is ValueError
        reason = str(error) if known else one_line(error, named=True)
        raise ValueError(f"holds no result of a run ({reason})") from error
    return dict(found)


def _digest(found: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

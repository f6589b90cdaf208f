"""Results on disk: one JSON a cell, written atomically, named by the hash of all that determines it."""

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_atomically
from .cell import CellResult, as_json
from .plan import CellSpec


class Store:
    """A results folder.

    ``cells/<hash>.json`` the rows; ``images/<hash>.npz`` what the grids show (and the samples, where they are kept);
    ``priors/<prior>-t<t_trunc>-s<seed>-<hash>/`` the fitted prior, for :func:`priorbench.load_prior`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, spec: CellSpec) -> Path:
        return self.folder / "cells" / f"{spec.cell}.json"

    def read(self, spec: CellSpec) -> dict[str, Any] | None:
        """What is kept of a cell, or None where it has to be computed. Failures are never reused."""
        try:
            kept = json.loads(self.path(spec).read_text())
            every = len(kept["rows"]) == len(spec.solvers) * len(spec.splits)
            complete = every and kept["cell"] == spec.cell and all(r["status"] == "ok" for r in kept["rows"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return kept if complete and self.images_path(spec).is_file() else None

    def images_path(self, spec: CellSpec) -> Path:
        return self.folder / "images" / f"{spec.cell}.npz"

    def images(self, spec: CellSpec) -> dict[str, np.ndarray]:
        """The kept images of a cell, each (N, C, H, W) bytes, by ``x_t`` and ``x_0 <solver> <nfe>``."""
        with np.load(self.images_path(spec), allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}

    def write(self, result: CellResult) -> None:
        """Keep a result; the JSON comes last, so that where it is everything is."""
        spec = result.spec
        if result.images:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **result.images)  # type: ignore[arg-type]
            write_atomically(self.images_path(spec), buffer.getvalue())
        if result.weights:
            folder = self.folder / "priors" / f"{spec.prior}-t{spec.t_trunc}-s{spec.seed}-{spec.cell[:8]}"
            write_atomically(folder / "prior.safetensors", result.weights)
            about = result.about | {"prior": spec.prior, "t_trunc": spec.t_trunc, "backbone": spec.backbone}
            write_atomically(folder / "prior.json", json.dumps(about, indent=2).encode() + b"\n")
        write_atomically(self.path(spec), json.dumps(as_json(result), indent=1).encode() + b"\n")

    def rows(self, specs: Iterable[CellSpec]) -> list[dict[str, Any]]:
        """The rows of those cells that are there, in the order given."""
        found = []
        for spec in specs:
            if self.path(spec).is_file():
                found += json.loads(self.path(spec).read_text())["rows"]
        return found

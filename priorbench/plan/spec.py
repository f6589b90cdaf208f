"""What a cell is, and what it yields: plain data that crosses process boundaries and names results
on disk.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ..task import Source

# Of these, what a fit computes with. The rest may change, and a fitted prior is what it was.
FITTED_BY = ("torch", "diffusers", "POT", "scikit-learn", "priorbench")

Setting = tuple[str, int | None]  # a solver and its steps; None: every timestep


@dataclass(frozen=True)
class CellSpec:
    """All that determines a cell. Plain data: it crosses process boundaries, and its hash names the
    result.
    """

    dataset: Source
    backbone: str
    extractor: Source
    prior: str
    distribution: str
    params: dict[str, Any]
    settings: str
    control: bool
    metrics: tuple[str, ...]
    t_trunc: int
    seed: int
    solvers: tuple[Setting, ...]
    n_samples: int
    splits: tuple[tuple[str, int], ...]
    batch_size: int
    w2_points: int
    fit_budget: str | None
    device: str
    precision: str
    compile: bool
    save_samples: bool
    digests: dict[str, str]
    versions: dict[str, str]

    @property
    def cell(self) -> str:
        """The name of the result: a hash of everything above. Of data and extractor it is the
        content that counts (in ``digests``), not the options, such as a path, by which they were
        found.
        """
        return name_of(asdict(self))

    @property
    def fit(self) -> str:
        """The name of the fitted prior: a hash of what determines the fit alone. Solvers, steps,
        samples and metrics do not, so that another of them takes the prior that is there.
        """
        names = (
            "prior",
            "params",
            "t_trunc",
            "seed",
            "fit_budget",
            "device",
            "precision",
            "compile",
        )
        versions = {name: self.versions.get(name) for name in (*FITTED_BY, self.distribution)}
        known: dict[str, Any] = {name: getattr(self, name) for name in names}
        return _hash(
            known
            | {
                "digests": [
                    self.digests["dataset"],
                    self.digests["backbone"],
                    self.digests["network"],
                ],
                "versions": versions,
            }
        )

    @property
    def results(self) -> list["CellSpec"]:
        """The cell by one (solver, steps) after the other: each is a result of its own on disk."""
        return [replace(self, solvers=(setting,)) for setting in self.solvers]

    @property
    def label(self) -> str:
        """``ot[projections=64]``."""
        return f"{self.prior}[{self.settings}]" if self.settings else self.prior


def name_of(spec: dict[str, Any]) -> str:
    """The hash that names the result of a :class:`CellSpec`, given as a dictionary (from JSON,
    perhaps).
    """
    return _hash(
        spec | {"dataset": spec["dataset"]["name"], "extractor": spec["extractor"]["name"]}
    )


def _hash(known: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class CellResult:
    """What a cell yields: rows for the table, images for the grids, the log, and notes that the
    user should see.
    """

    spec: CellSpec
    rows: list[dict[str, Any]]
    images: dict[str, np.ndarray] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(row["status"] == "ok" for row in self.rows)

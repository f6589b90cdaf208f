"""What determines a cell, and what it yields. Plain data that crosses processes and names files."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .choice import label_of

if TYPE_CHECKING:  # reports are made from kept images without importing torch
    from ..task import Source

# The versions that a fit depends on. If others change, a fitted prior stays what it was.
FITTED_BY = ("torch", "diffusers", "POT", "scikit-learn", "priorbench")

Setting = tuple[str, int | None]  # a solver and its steps; None: every timestep


@dataclass(frozen=True)
class CellSpec:
    """Everything that determines a cell: one fit, and the settings that its samples go through.

    It is plain data that crosses process boundaries, and its hash names the result.
    """

    dataset: "Source"
    backbone: str
    extractor: "Source"
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
        """The name of the result: a hash of everything above.

        Data set and extractor count by their content (in ``digests``), not by the options, such as
        a path, by which they were found.
        """
        return name_of(asdict(self))

    @property
    def fit(self) -> str:
        """The name of the fitted prior: a hash of what determines the fit.

        Solvers, steps, samples and metrics are left out: other values of them reuse the fit.
        """
        known = {
            "prior": self.prior,
            "params": self.params,
            "t_trunc": self.t_trunc,
            "seed": self.seed,
            "fit_budget": self.fit_budget,
            "device": self.device,
            "precision": self.precision,
            "compile": self.compile,
            "digests": [self.digests[name] for name in ("dataset", "backbone", "network")],
            "versions": {n: self.versions.get(n) for n in (*FITTED_BY, self.distribution)},
        }
        return _hash(known)

    @property
    def results(self) -> list["CellSpec"]:
        """The cell with one (solver, steps) at a time: each is a result of its own on disk."""
        return [replace(self, solvers=(setting,)) for setting in self.solvers]

    @property
    def label(self) -> str:
        """``ot[width=64]``."""
        return label_of(self.prior, self.settings)

    @property
    def title(self) -> str:
        """``ot t_trunc 200 seed 0, fit of 60s``: how logs and notes name the cell."""
        budget = f", fit of {self.fit_budget}" if self.fit_budget else ""
        return f"{self.label} t_trunc {self.t_trunc} seed {self.seed}{budget}"

    @property
    def long_title(self) -> str:
        """The title, and of a cell with a single setting ``, 5 steps of ddim``."""
        if len(self.solvers) > 1:
            return self.title
        solver, steps = self.solvers[0]
        return f"{self.title}, {steps or 'all'} step{'' if steps == 1 else 's'} of {solver}"


def name_of(spec: dict[str, Any]) -> str:
    """The hash that names the result of a :class:`CellSpec`, given as a dictionary."""
    return _hash(
        spec | {"dataset": spec["dataset"]["name"], "extractor": spec["extractor"]["name"]}
    )


def _hash(known: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class CellResult:
    """What a cell yields.

    Attributes:
        rows: of comparison.csv.
        images: (N, C, H, W) bytes, by the text of an ``ImageKey``.
        log: lines for the run's log.
        notes: lines that the user should see.
        curve: how the fit got on, a point for each look (``bench/learning.py``); usually 9.
    """

    spec: CellSpec
    rows: list[dict[str, Any]]
    images: dict[str, np.ndarray] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no row failed."""
        return all(row["status"] == "ok" for row in self.rows)


@dataclass(frozen=True)
class ImageKey:
    """Which images a cell kept: the key of a ``.npz`` file, as text.

    ``x_t``, what the prior supplied; ``x_0 <solver> <nfe>``, what the chain made of it;
    ``chain <solver> <nfe> <t>``, samples on their way, at t; ``z`` and ``f(z)``, the prior's
    latents and their images; ``nearest``, the training image nearest to each x_0.

    Attributes:
        kind: the first word of the text.
        solver, nfe: of ``x_0`` and ``chain``.
        t: of ``chain``.
    """

    kind: str
    solver: str = ""
    nfe: int = 0
    t: int = 0

    def __str__(self) -> str:
        words = {"x_0": (self.solver, self.nfe), "chain": (self.solver, self.nfe, self.t)}
        return " ".join(map(str, (self.kind, *words.get(self.kind, ()))))

    @classmethod
    def parse(cls, text: str) -> "ImageKey":
        """The key whose text is ``text``.

        Raises:
            ValueError: if no key has that text.
        """
        kind, *words = text.split(" ")
        if len(words) != {"x_0": 2, "chain": 3}.get(kind, 0):
            raise ValueError(f"{text!r} is no key of images")
        if not words:
            return cls(kind)
        solver, nfe, *t = words
        return cls(kind, solver, int(nfe), *map(int, t))

    @property
    def chain(self) -> tuple[str, int] | None:
        """The solver and NFE that made the images, None where they come before any chain."""
        return (self.solver, self.nfe) if self.kind in ("x_0", "chain") else None

"""The plan: a list of cells, each a fit with all the (solver, steps) settings that its samples go through."""

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from .. import __version__
from ..diffusion.solvers import respace, solver_class
from ..errors import UserError, unknown
from ..plugin_manager import Registration, load_plugins
from ..prior import make_prior, parameter_defaults
from .config import Choice, RunConfig
from .context import Source, default_for, load_context, load_data

# What computes the figures: another version may give another number, so it is part of a cell's name.
MEASURED_BY = ("torch", "diffusers", "torch-fidelity", "POT", "scikit-learn")


@dataclass(frozen=True)
class CellSpec:
    """All that determines a cell. Plain data: it crosses process boundaries, and its hash names the result."""

    dataset: Source
    backbone: str
    extractor: Source
    prior: str
    params: dict[str, Any]
    settings: str
    control: bool
    metrics: tuple[str, ...]
    t_trunc: int
    seed: int
    solvers: tuple[tuple[str, int | None], ...]
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
        """The name of the result: a hash of everything above. Of data and extractor it is the content that counts
        (in ``digests``), not the options, such as a path, by which they were found."""
        known = asdict(self) | {"dataset": self.dataset.name, "extractor": self.extractor.name}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """``ot[projections=64]``."""
        return f"{self.prior}[{self.settings}]" if self.settings else self.prior


@dataclass(frozen=True)
class Plan:
    """What a run will do."""

    config: RunConfig
    cells: list[CellSpec]
    T: int

    @property
    def rows(self) -> int:
        return sum(len(c.solvers) * len(c.splits) for c in self.cells)


def make_plan(config: RunConfig) -> Plan:
    """Check everything that can be checked before any work starts, then lay out the cells."""
    plugins = load_plugins()
    problems: list[str] = []
    priors: list[tuple[Choice, Registration]] = []
    for given in [*config.priors, *config.controls]:
        try:
            registration = plugins.find("prior", given.name)
            check_params(given, registration)
            if registration.load().chosen_on != "validation" and not registration.control:
                raise UserError(f"prior {given.name!r} is no control, so its settings are chosen on 'validation'")
            if all(given.label != p.label for p, _ in priors):
                priors.append((given, registration))
        except UserError as error:
            problems.append(str(error))
    metrics: dict[str, str] = {}
    for kind, name in [*(("metric", m) for m in config.metrics), ("executor", config.executor)]:
        try:
            measuring = plugins.find(kind, name)
            measuring.load()
            metrics |= {measuring.distribution: measuring.version} if kind == "metric" else {}
        except UserError as error:
            problems.append(str(error))
    context = None
    try:
        load_data(_source(config.dataset))  # a name that does not exist has no backbone either: say the first
        backbone = config.backbone or default_for("backbone", config.dataset.name)
        extractor = config.extractor or Choice(name=default_for("extractor", config.dataset.name))
        config = config.model_copy(update={"backbone": backbone, "extractor": extractor})
        sources: dict[str, Any] = {
            "dataset": _source(config.dataset),
            "backbone": backbone,
            "extractor": _source(extractor),
        }
        context = load_context(**sources, **{k: getattr(config, k) for k in ("device", "precision", "compile")})
    except UserError as error:
        problems.append(str(error))
    for solver in dict.fromkeys([*config.solver, *config.rivals, config.full_chain.solver]):
        try:
            solver_class(solver)
        except UserError as error:
            problems.append(str(error))
    if context is not None:
        process = context.diffusion.process
        for t in config.t_trunc:
            try:
                process.check(t, "t_trunc")
                for steps in config.steps:
                    respace(t, steps)
            except UserError as error:
                problems.append(str(error))
        try:
            respace(process.T, config.full_chain.steps)
        except UserError as error:
            problems.append(f"full_chain: {error}")
    if problems or context is None:
        raise UserError("; ".join(dict.fromkeys(problems)))

    T = context.diffusion.T

    def settings(
        t: int, solvers: list[str], first: tuple[tuple[str, int | None], ...] = ()
    ) -> tuple[tuple[str, int | None], ...]:
        """Each (solver, steps) once; ``all`` and t_trunc steps are the same chain."""
        chains: dict[tuple[str, int], tuple[str, int | None]] = {}
        for solver, steps in (*first, *((s, k) for s in solvers for k in config.steps)):
            chains.setdefault((solver, steps or t), (solver, steps))
        return tuple(chains.values())

    full = (config.full_chain.solver, config.full_chain.steps)
    versions = {name: metadata.version(name) for name in MEASURED_BY} | {"priorbench": __version__}
    digests = {
        "dataset": context.dataset.digest(),
        "backbone": context.backbone_digest,
        "extractor": context.extractor_digest,
    }

    def cell(given: Choice, found: Registration, t: int, seed: int, solvers: tuple[Any, ...]) -> CellSpec:
        defaults = parameter_defaults(found.load())
        return CellSpec(
            prior=given.name,
            params=defaults | given.params,
            settings=given.settings,
            control=found.control,
            t_trunc=t,
            seed=seed,
            solvers=solvers,
            digests=digests,
            versions=versions | metrics | {found.distribution: found.version},
            metrics=tuple(config.metrics),
            splits=(("test", config.n_samples), *(((found.load().chosen_on, choosing),) if choosing else ())),
            **sources,
            **{name: getattr(config, name) for name in _COPIED},
        )

    choosing = config.n_samples // 2 if config.n_validation is None else min(config.n_validation, config.n_samples)
    noise = (Choice(name="noise"), plugins.find("prior", "noise"))
    cells = []
    for seed in range(config.seed, config.seed + config.seeds):
        # The full chain comes first: every speed-up is measured against it. With it, pure noise by
        # the solvers of the grid and by those that anybody would run instead.
        cells.append(cell(*noise, T, seed, settings(T, [*config.solver, *config.rivals], (full,))))
        for t in config.t_trunc:
            cells += [
                cell(p, r, t, seed, settings(t, config.solver))
                for p, r in priors
                if not (p.label == "noise" and t == T)
            ]
    return Plan(config, cells, T)


def _source(choice: Choice) -> Source:
    for key, value in choice.params.items():
        if isinstance(value, dict):
            raise UserError(f"option {key!r} of {choice.name!r} must be a value or a list of values, got {value!r}")
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in choice.params.items()}
    return Source(choice.name, tuple(sorted(frozen.items())))


_COPIED = (
    "n_samples",
    "batch_size",
    "w2_points",
    "fit_budget",
    "device",
    "precision",
    "compile",
    "save_samples",
)


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


def check_params(given: Choice, registration: Registration) -> None:
    """Raise :class:`UserError` for a hyperparameter that the prior does not have or does not take."""
    cls = registration.load()
    known = parameter_defaults(cls)
    for name in given.params:
        if name not in known:
            raise unknown("parameter", name, known, of=f"prior {given.name!r}")
        kind = type(known[name])
        fits = isinstance(given.params[name], (int, float) if kind is float else kind)
        if kind in _KINDS and (not fits or (kind is not bool and isinstance(given.params[name], bool))):
            raise UserError(
                f"parameter {name!r} of prior {given.name!r} must be {_KINDS[kind]}, got {given.params[name]!r}"
            )
    make_prior(cls, given.name, given.params)

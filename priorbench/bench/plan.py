"""The plan: a list of cells, each a fit with all the (solver, steps) settings that its samples go through."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__
from ..diffusion.solvers import respace, solver_class
from ..errors import UserError, unknown
from ..plugin_manager import Registration, load_plugins
from ..prior import parameter_defaults
from .config import Choice, ConfigError, RunConfig, make_config
from .context import Source, default_for, forget_changed, load_context, load_data

# What computes the figures: another version may give another number, so it is part of a cell's name.
MEASURED_BY = ("torch", "diffusers", "torch-fidelity", "POT", "scikit-learn")
# Of these, what a fit computes with. The rest may change, and a fitted prior is what it was.
FITTED_BY = ("torch", "diffusers", "POT", "scikit-learn", "priorbench")

# Raised whenever our own code would give the same cell other figures: results of earlier code are not reused then.
MEASUREMENT = "2"

Setting = tuple[str, int | None]  # a solver and its steps; None: every timestep


@dataclass(frozen=True)
class CellSpec:
    """All that determines a cell. Plain data: it crosses process boundaries, and its hash names the result."""

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
        """The name of the result: a hash of everything above. Of data and extractor it is the content that counts
        (in ``digests``), not the options, such as a path, by which they were found."""
        return name_of(asdict(self))

    @property
    def fit(self) -> str:
        """The name of the fitted prior: a hash of what determines the fit alone. Solvers, steps, samples and metrics
        do not, so that another of them takes the prior that is there."""
        names = ("prior", "params", "t_trunc", "seed", "fit_budget", "device", "precision", "compile")
        versions = {name: self.versions.get(name) for name in (*FITTED_BY, self.distribution)}
        known: dict[str, Any] = {name: getattr(self, name) for name in names}
        return _hash(
            known
            | {
                "digests": [self.digests["dataset"], self.digests["backbone"], self.digests["network"]],
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
    """The hash that names the result of a :class:`CellSpec`, given as a dictionary (from JSON, perhaps)."""
    return _hash(spec | {"dataset": spec["dataset"]["name"], "extractor": spec["extractor"]["name"]})


def _hash(known: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    """What a run will do."""

    config: RunConfig
    cells: list[CellSpec]
    T: int

    @property
    def rows(self) -> int:
        return sum(len(c.solvers) * len(c.splits) for c in self.cells)

    def matched(self, evaluations: Iterable[int]) -> "Plan":
        """The plan with rivals from pure noise, and oracles, in as many steps as ``evaluations`` names besides.

        How often a prior evaluates the frozen model in ``sample`` is known once it has been fitted and sampled; what it
        is compared with at equal NFE can be planned only then.
        """
        counts = sorted(set(evaluations))
        cells = [replace(spec, solvers=self._with_steps(spec, counts)) for spec in self.cells]
        return replace(self, cells=cells)

    def _with_steps(self, spec: CellSpec, counts: list[int]) -> tuple[Setting, ...]:
        rival = spec.prior == "noise" and spec.t_trunc == self.T
        if not rival and spec.prior != "oracle":
            return spec.solvers
        solvers = [*self.config.solver, *(self.config.rivals if rival else ())]
        new = [(solver, k) for k in counts if k <= spec.t_trunc for solver in dict.fromkeys(solvers)]
        return tuple(dict.fromkeys([*spec.solvers, *new]))


def read_plan(
    source: str | Path | Mapping[str, Any] | None, overrides: dict[str, Any], sets: Iterable[str] = ()
) -> Plan:
    """The plan of a config file, preset or mapping with what is set on top; every mistake in all of it in one error."""
    try:
        config = make_config(source, overrides, sets)
    except ConfigError as error:
        rest = problems_of(error.rest) if error.rest else []
        raise UserError("; ".join([str(error), *rest])) from None
    return make_plan(config)


def problems_of(config: RunConfig) -> list[str]:
    """What is wrong with the names and parameters in a config, each with its path."""
    plugins, found = load_plugins(), []
    for axis in ("priors", "controls"):
        for i, given in enumerate(getattr(config, axis)):
            try:
                registration = plugins.find("prior", given.name)
                if registration.load().chosen_on != "validation" and not registration.control:
                    found.append(
                        f"{axis}[{i}]: {given.name!r} is no control, so its settings are chosen on 'validation'"
                    )
                found += [f"{axis}[{i}].{said}" for said in param_problems(given, registration)]
            except UserError as error:
                found.append(f"{axis}[{i}].name: {error}")
    named = [(f"metrics[{i}]", "metric", name) for i, name in enumerate(config.metrics)]
    for where, kind, name in [*named, ("executor", "executor", config.executor)]:
        try:
            plugins.find(kind, name).load()
        except UserError as error:
            found.append(f"{where}: {error}")
    solvers = [(f"{axis}[{i}]", s) for axis in ("solver", "rivals") for i, s in enumerate(getattr(config, axis))]
    for where, solver in [*solvers, ("full_chain.solver", config.full_chain.solver)]:
        try:
            solver_class(solver)
        except UserError as error:
            found.append(f"{where}: {error}")
    return found


def make_plan(config: RunConfig) -> Plan:
    """Check everything that can be checked before any work starts, then lay out the cells."""
    plugins = load_plugins()
    problems = problems_of(config)
    priors: list[tuple[Choice, Registration]] = []
    metrics: dict[str, str] = {}
    if not problems:
        for given in [*config.priors, *config.controls]:
            if all(given.label != p.label for p, _ in priors):
                priors.append((given, plugins.find("prior", given.name)))
        metrics = {r.distribution: r.version for r in (plugins.find("metric", name) for name in config.metrics)}
    context = None
    try:
        forget_changed(config.dataset.name, config.backbone or "", config.extractor.name if config.extractor else "")
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
    except (UserError, OSError, RuntimeError, TypeError) as error:  # '~nobody', a name too long, an option unhashable
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

    def settings(t: int, solvers: list[str], first: tuple[Setting, ...] = ()) -> tuple[Setting, ...]:
        """Each (solver, steps) once; ``all`` and t_trunc steps are the same chain."""
        chains: dict[tuple[str, int], Setting] = {}
        for solver, steps in (*first, *((s, k) for s in solvers for k in config.steps)):
            chains.setdefault((solver, steps or t), (solver, steps))
        return tuple(chains.values())

    full = (config.full_chain.solver, config.full_chain.steps)
    versions = {name: metadata.version(name) for name in MEASURED_BY}
    versions |= {"priorbench": __version__, "measurement": MEASUREMENT}
    readers = plugins.of_kind("extractor")
    reader = {r.distribution: r.version for r in [readers[extractor.name]]} if extractor.name in readers else {}
    digests = {
        "dataset": context.dataset_digest,
        "backbone": context.backbone_digest,
        "network": context.diffusion.architecture(),
        "extractor": context.extractor_digest,
    }

    def cell(given: Choice, found: Registration, t: int, seed: int, solvers: tuple[Any, ...]) -> CellSpec:
        defaults = parameter_defaults(found.load())
        return CellSpec(
            prior=given.name,
            distribution=found.distribution,
            params=defaults | given.params,
            settings=given.settings,
            control=found.control,
            t_trunc=t,
            seed=seed,
            solvers=solvers,
            digests=digests,
            versions=versions | metrics | reader | {found.distribution: found.version},
            metrics=tuple(config.metrics),
            # Equally many for every cell: FID falls with their number, and what had more of them would be chosen.
            splits=(("test", config.n_samples), *(((found.load().chosen_on, choosing),) if choosing else ())),
            **sources,
            **{name: getattr(config, name) for name in _COPIED},
        )

    # As many as are reported by default: few choose a rival that is not the best, which flatters every prior.
    choosing = config.n_samples if config.n_validation is None else min(config.n_validation, config.n_samples)
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
    """Raise :class:`UserError` for hyperparameters that the prior does not have or does not take."""
    problems = param_problems(given, registration)
    if problems:
        raise UserError(f"prior {given.name!r}: {'; '.join(problems)}")


def param_problems(given: Choice, registration: Registration) -> list[str]:
    """What is wrong with the hyperparameters: ``params.projections: must be at least 1, got 0``, and so on."""
    cls = registration.load()
    known = parameter_defaults(cls)
    found = []
    for name, value in given.params.items():
        if name not in known:
            found.append(f"params.{name}: {unknown('parameter', name, known, of=f'prior {given.name!r}')}")
            continue
        kind = type(known[name])
        fits = isinstance(value, (int, float) if kind is float else kind)
        if kind in _KINDS and (not fits or (kind is not bool and isinstance(value, bool))):
            found.append(f"params.{name}: must be {_KINDS[kind]}, got {value!r}")
            continue
        try:
            cls(**{name: value})
        except Exception as error:  # a prior's own code
            found.append(f"params.{name}: {str(error).removeprefix(f'{name} ')}")
    if not found:
        try:  # what is wrong with them together
            cls(**given.params)
        except Exception as error:
            found.append(f"params: {error}")
    return found

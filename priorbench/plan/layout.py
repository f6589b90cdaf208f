"""The plan: a list of cells, each a fit with all the (solver, steps) settings that its samples go
through.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from ..diffusion.solvers import respace
from ..errors import UserError
from ..plugin_manager import Registration, load_plugins
from ..prior import parameter_defaults
from ..task import Source, default_for, forget_changed, load_data, load_task
from ..version import __version__
from .choice import Choice
from .config import RunConfig
from .mistakes import problems_of
from .reading import ConfigError, make_config
from .spec import CellSpec, Setting

# What computes the figures: another version may give another number, so it is part of a cell's
# name.
MEASURED_BY = ("torch", "diffusers", "torch-fidelity", "POT", "scikit-learn")

# Raised whenever our own code would give the same cell other figures: results of earlier code are
# not reused then.
MEASUREMENT = "2"


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
        """The plan with rivals from pure noise, and oracles, in as many steps as ``evaluations``
        names besides.

        How often a prior evaluates the frozen model in ``sample`` is known once it has been fitted
        and sampled; what it is compared with at equal NFE can be planned only then.
        """
        counts = sorted(set(evaluations))
        cells = [replace(spec, solvers=self._with_steps(spec, counts)) for spec in self.cells]
        return replace(self, cells=cells)

    def _with_steps(self, spec: CellSpec, counts: list[int]) -> tuple[Setting, ...]:
        rival = spec.prior == "noise" and spec.t_trunc == self.T
        if not rival and spec.prior != "oracle":
            return spec.solvers
        solvers = [*self.config.solver, *(self.config.rivals if rival else ())]
        new = [
            (solver, k) for k in counts if k <= spec.t_trunc for solver in dict.fromkeys(solvers)
        ]
        return tuple(dict.fromkeys([*spec.solvers, *new]))


def read_plan(
    source: str | Path | Mapping[str, Any] | None,
    overrides: dict[str, Any],
    sets: Iterable[str] = (),
) -> Plan:
    """The plan of a config file, preset or mapping with what is set on top; every mistake in all of
    it in one error.
    """
    try:
        config = make_config(source, overrides, sets)
    except ConfigError as error:
        rest = problems_of(error.rest) if error.rest else []
        raise UserError("; ".join([str(error), *rest])) from None
    return make_plan(config)


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
        metrics = {
            r.distribution: r.version
            for r in (plugins.find("metric", name) for name in config.metrics)
        }
    task = None
    try:
        forget_changed(
            config.dataset.name,
            config.backbone or "",
            config.extractor.name if config.extractor else "",
        )
        load_data(
            _source(config.dataset)
        )  # a name that does not exist has no backbone either: say the first
        backbone = config.backbone or default_for("backbone", config.dataset.name)
        extractor = config.extractor or Choice(name=default_for("extractor", config.dataset.name))
        config = config.model_copy(update={"backbone": backbone, "extractor": extractor})
        sources: dict[str, Any] = {
            "dataset": _source(config.dataset),
            "backbone": backbone,
            "extractor": _source(extractor),
        }
        task = load_task(
            **sources, **{k: getattr(config, k) for k in ("device", "precision", "compile")}
        )
    except (
        UserError,
        OSError,
        RuntimeError,
        TypeError,
    ) as error:  # '~nobody', a name too long, an option unhashable
        problems.append(str(error))
    if task is not None:
        process = task.diffusion.process
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
    if problems or task is None:
        raise UserError("; ".join(dict.fromkeys(problems)))

    T = task.diffusion.T

    def settings(
        t: int, solvers: list[str], first: tuple[Setting, ...] = ()
    ) -> tuple[Setting, ...]:
        """Each (solver, steps) once; ``all`` and t_trunc steps are the same chain."""
        chains: dict[tuple[str, int], Setting] = {}
        for solver, steps in (*first, *((s, k) for s in solvers for k in config.steps)):
            chains.setdefault((solver, steps or t), (solver, steps))
        return tuple(chains.values())

    full = (config.full_chain.solver, config.full_chain.steps)
    versions = {name: metadata.version(name) for name in MEASURED_BY}
    versions |= {"priorbench": __version__, "measurement": MEASUREMENT}
    readers = plugins.of_kind("extractor")
    reader = (
        {r.distribution: r.version for r in [readers[extractor.name]]}
        if extractor.name in readers
        else {}
    )
    digests = {
        "dataset": task.dataset_digest,
        "backbone": task.backbone_digest,
        "network": task.diffusion.architecture(),
        "extractor": task.extractor_digest,
    }

    def cell(
        given: Choice, found: Registration, t: int, seed: int, solvers: tuple[Any, ...]
    ) -> CellSpec:
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
            # Equally many for every cell: FID falls with their number, and what had more of them
            # would be chosen.
            splits=(
                ("test", config.n_samples),
                *(((found.load().chosen_on, choosing),) if choosing else ()),
            ),
            **sources,
            **{name: getattr(config, name) for name in _COPIED},
        )

    # As many as are reported by default: few choose a rival that is not the best, which flatters
    # every prior.
    choosing = (
        config.n_samples
        if config.n_validation is None
        else min(config.n_validation, config.n_samples)
    )
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
            raise UserError(
                f"option {key!r} of {choice.name!r} must be a value or a list of values, got {value!r}"
            )
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

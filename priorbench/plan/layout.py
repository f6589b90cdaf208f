"""The plan: a list of cells, laid out from a config once everything in it has been checked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from ..diffusion.timesteps import LARGEST_TUNED
from ..errors import UserError
from ..plugin_manager import Registration, load_plugins
from ..prior import parameter_defaults
from ..task import Source, Task, default_for, forget_changed, load_data, load_task
from ..version import MEASUREMENT, __version__
from .choice import Choice
from .config import RunConfig
from .mistakes import axis_problems, problems_of
from .reading import ConfigError, make_config
from .spec import CellSpec, Setting

# The libraries that compute figures. Another version may give another figure, so versions are part
# of a cell's name.
MEASURED_BY = ("torch", "diffusers", "torch-fidelity", "POT", "scikit-learn")

# The keys of a config that a cell takes over as they are.
COPIED = (
    "n_samples", "batch_size", "w2_points", "device", "precision", "compile", "save_samples",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        config: with the names of backbone and extractor filled in.
        cells: in the order that they are computed in.
        T: the number of noising steps of the whole chain.
    """

    config: RunConfig
    cells: list[CellSpec]
    T: int

    @property
    def rows(self) -> int:
        """The number of rows that comparison.csv will have."""
        return sum(len(c.solvers) * len(c.splits) * len(self.budgets(c)) for c in self.cells)

    def budgets(self, spec: CellSpec) -> list[str | None]:
        """The budgets that the rows of a cell are of: its own, or all if its prior takes none."""
        takes = spec.control or load_plugins().find("prior", spec.prior).load().takes_budget
        return [spec.fit_budget] if takes else self.config.fit_budget

    def matched(self, evaluations: Iterable[int]) -> "Plan":
        """The plan with rivals and oracles added at every NFE in ``evaluations``.

        How often a prior evaluates the frozen model in ``sample`` is only known once it has been
        fitted and sampled. What it has to be compared with at equal NFE can only be planned then.
        """
        counts = sorted(set(evaluations))
        cells = [replace(spec, solvers=self._with_steps(spec, counts)) for spec in self.cells]
        return replace(self, cells=cells)

    def _with_steps(self, spec: CellSpec, counts: list[int]) -> tuple[Setting, ...]:
        is_rival = spec.prior == "noise" and spec.t_trunc == self.T
        if not is_rival and spec.prior != "oracle":
            return spec.solvers
        solvers = dict.fromkeys([*self.config.solver, *(self.config.rivals if is_rival else ())])
        new: list[Setting] = [(s, k) for k in counts if k <= spec.t_trunc for s in solvers]
        if is_rival:
            new = _of_timesteps(spec.params["timesteps"], self.config, self.T, new)
        return tuple(dict.fromkeys([*spec.solvers, *new]))


def read_plan(
    source: str | Path | Mapping[str, Any] | None,
    overrides: dict[str, Any],
    sets: Iterable[str] = (),
) -> Plan:
    """The plan of a config file, preset or mapping, with ``overrides`` and ``sets`` on top.

    Raises:
        UserError: naming every mistake in all of them.
    """
    try:
        config = make_config(source, overrides, sets)
    except ConfigError as error:
        rest = problems_of(error.rest) if error.rest else []
        raise UserError("; ".join([str(error), *rest])) from None
    return make_plan(config)


def make_plan(config: RunConfig) -> Plan:
    """Check everything that can be checked before any work starts, then lay out the cells.

    Raises:
        UserError: naming every mistake.
    """
    problems, found = problems_of(config), None
    try:
        found = resolve(config)
        problems += axis_problems(config, found.task.diffusion.process)
    # A path such as '~nobody', a name too long for a path, an option that cannot be hashed.
    except (UserError, OSError, RuntimeError, TypeError) as error:
        problems.append(str(error))
    if problems or found is None:
        raise UserError("; ".join(dict.fromkeys(problems)))
    return Plan(found.config, layout(found), found.task.diffusion.T)


@dataclass(frozen=True)
class Resolved:
    """A config and what its names stand for.

    Attributes:
        config: with the names of backbone and extractor filled in.
        sources: dataset, backbone and extractor, as cells name them.
        task: the three of them, loaded.
    """

    config: RunConfig
    sources: dict[str, Any]
    task: Task


def resolve(config: RunConfig) -> Resolved:
    """Find and load the data set, the backbone and the extractor of a config.

    Raises:
        UserError: if one of them does not exist, or they do not fit together.
    """
    extractor = config.extractor
    forget_changed(config.dataset.name, config.backbone or "", extractor.name if extractor else "")
    # First of all the data set: a name that does not exist has no backbone either.
    channels = load_data(_source(config.dataset)).shape[0]
    backbone = config.backbone or default_for("backbone", config.dataset.name)
    if extractor is None:
        extractor = Choice(name=default_for("extractor", config.dataset.name, channels))
    config = config.model_copy(update={"backbone": backbone, "extractor": extractor})
    sources: dict[str, Any] = {
        "dataset": _source(config.dataset),
        "backbone": backbone,
        "extractor": _source(extractor),
    }
    arithmetic = {key: getattr(config, key) for key in ("device", "precision", "compile")}
    return Resolved(config, sources, load_task(**sources, **arithmetic))


def _source(choice: Choice) -> Source:
    for key, value in choice.params.items():
        if isinstance(value, dict):
            raise UserError(
                f"option {key!r} of {choice.name!r} must be a value or a list of values, "
                f"got {value!r}"
            )
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in choice.params.items()}
    return Source(choice.name, tuple(sorted(frozen.items())))


def layout(found: Resolved) -> list[CellSpec]:
    """The cells of a config, seed by seed.

    The full chain comes first: every speed-up is measured against it. It shares a cell with pure
    noise by the solvers of the grid and by the rivals, which anybody would run instead of a prior.
    Cells of the same with other timesteps follow.
    """
    config, T = found.config, found.task.diffusion.T
    make = _CellMaker(found)
    rivals = _rivals(config, T)
    priors: dict[str, Choice] = {}
    for given in (*config.priors, *config.controls):
        priors.setdefault(given.label, given)
    cells = []
    for seed in range(config.seed, config.seed + config.seeds):
        for noise, settings in rivals:
            cells += make(noise, T, seed, settings)
        for t_trunc in config.t_trunc:
            settings = _distinct(t_trunc, _settings(config, config.solver))
            for given in priors.values():
                if t_trunc < T or given not in [noise for noise, _ in rivals]:
                    cells += make(given, t_trunc, seed, settings)
    return cells


def _rivals(config: RunConfig, T: int) -> list[tuple[Choice, tuple[Setting, ...]]]:
    """Pure noise with each kind of timesteps, and the settings that it is run by.

    The full chain is uniform.
    """
    full = (config.full_chain.solver, config.full_chain.steps)
    every = _settings(config, list(dict.fromkeys([*config.solver, *config.rivals])))
    found = []
    for kind in dict.fromkeys(["uniform", *config.rival_timesteps]):
        uniform = kind == "uniform"
        settings = [full] * uniform + _of_timesteps(kind, config, T, every)
        if settings:
            noise = Choice(name="noise", params={} if uniform else {"timesteps": kind})
            found.append((noise, _distinct(T, settings)))
    return found


def _of_timesteps(kind: str, config: RunConfig, T: int, settings: list[Setting]) -> list[Setting]:
    """Those of ``settings`` that pure noise is run by with timesteps of that ``kind``.

    Uniform ones stand in wherever another kind has no times of its own, so no chain is run twice.
    """
    if kind != "uniform":
        return [s for s in settings if _has_own_times(kind, s[1], T)]
    kinds = config.rival_timesteps
    return [s for s in settings if not all(_has_own_times(k, s[1], T) for k in kinds)]


def _has_own_times(kind: str, steps: int | None, T: int) -> bool:
    """Whether chains of ``steps`` steps have other times than uniform ones."""
    if kind == "uniform" or steps in (None, 1, T):  # of one step, or of all T, there is one grid
        return False
    return kind != "tuned" or steps <= LARGEST_TUNED


def _settings(config: RunConfig, solvers: list[str]) -> list[Setting]:
    return [(solver, steps) for solver in solvers for steps in config.steps]


def _distinct(t_trunc: int, settings: list[Setting]) -> tuple[Setting, ...]:
    """Each chain once: ``all`` steps and t_trunc steps are the same chain."""
    chains: dict[tuple[str, int], Setting] = {}
    for solver, steps in settings:
        chains.setdefault((solver, steps or t_trunc), (solver, steps))
    return tuple(chains.values())


class _CellMaker:
    """Makes the cells of a prior from what it adds to what all cells share."""

    def __init__(self, found: Resolved) -> None:
        config, task = found.config, found.task
        # By default as many samples as are reported. A choice by few is often wrong, and a rival
        # that is not the best flatters every prior.
        wanted = config.n_samples if config.n_validation is None else config.n_validation
        self.choosing = min(wanted, config.n_samples)
        self.n_samples = config.n_samples
        self.budgets = config.fit_budget
        self.versions = _versions(config)
        self.shared: dict[str, Any] = {
            **found.sources,
            **{name: getattr(config, name) for name in COPIED},
            "metrics": tuple(config.metrics),
            "digests": {
                "dataset": task.dataset_digest,
                "backbone": task.backbone_digest,
                "network": task.diffusion.architecture(),
                "extractor": task.extractor_digest,
            },
        }

    def __call__(
        self, given: Choice, t_trunc: int, seed: int, solvers: tuple[Setting, ...]
    ) -> list[CellSpec]:
        """A cell for each budget that the prior can take."""
        registered = load_plugins().find("prior", given.name)
        prior = registered.load()
        # Every cell scores equally many: FID falls with their number, so whatever had more of them
        # would be chosen.
        splits = (("test", self.n_samples), (prior.chosen_on, self.choosing))
        params = parameter_defaults(prior) | given.params
        # Of the controls, none but tuned times are learned: the others stand beside every budget.
        tuned = params.get("timesteps") == "tuned"
        learned = tuned if registered.control else prior.takes_budget
        spec = CellSpec(
            **self.shared,
            prior=given.name,
            distribution=registered.distribution,
            params=params,
            settings=given.settings,
            control=registered.control,
            t_trunc=t_trunc,
            seed=seed,
            solvers=solvers,
            splits=splits if self.choosing else splits[:1],
            versions=self.versions | {registered.distribution: registered.version},
            fit_budget=None,
        )
        return [replace(spec, fit_budget=b) for b in (self.budgets if learned else [None])]


def _versions(config: RunConfig) -> dict[str, str]:
    """The versions of whatever a cell's figures depend on, the prior's own left out."""
    plugins, extractors = load_plugins(), load_plugins().of_kind("extractor")
    used: list[Registration] = [plugins.find("metric", name) for name in config.metrics]
    if config.extractor and config.extractor.name in extractors:
        used.append(extractors[config.extractor.name])
    versions = {name: metadata.version(name) for name in MEASURED_BY}
    versions |= {"priorbench": __version__, "measurement": MEASUREMENT}
    return versions | {r.distribution: r.version for r in used}

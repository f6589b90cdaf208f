"""The settings that are searched, what they may cost, and how each is tried in small."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from ..bench.estimate import seconds_per_evaluation
from ..errors import UserError
from ..plan.budget import part_of
from ..plan.layout import Plan, read_plan
from ..plan.spec import CellSpec, Setting
from ..plugin_manager import load_plugins
from ..task import load_task
from .record import recorded, write

FACTOR = 4  # one setting in so many goes on, to the next rung
FITS = (1 / FACTOR**2, 1 / FACTOR, 1.0)  # the part of the fit at each rung
SAMPLES = (1 / 2, 1.0, 1.0)  # and of the samples: FID of few says less than a short fit
FEWEST = 500  # samples that settings are judged by, at least
TESTED = 64  # samples of the test split in a trial, of which the time is taken and nothing else
STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50)  # where none are given


@dataclass(frozen=True)
class Limit:
    """What an image may cost.

    Attributes:
        nfe: evaluations of the network.
        seconds: seconds on this machine, the prior's included.
    """

    nfe: int | None = None
    seconds: float | None = None

    def broken_by(self, nfe: float, seconds: float) -> str:
        """What of a setting is too much; empty if nothing is."""
        if self.nfe is not None and nfe > self.nfe:
            return f"takes {nfe:.0f} evaluations"
        if self.seconds is not None and seconds > self.seconds:
            return f"takes {seconds:.3g} s"
        return ""


def read_tuning(
    source: str | Path | Mapping[str, Any] | None,
    overrides: dict[str, Any],
    sets: Sequence[str] = (),
    limit: Limit = Limit(),
    folder: Path | None = None,
) -> Plan:
    """The plan of the grid that is searched: that of a run, with all steps that the limit allows.

    Arguments:
        folder: where the tuning will write. The time of an evaluation that it was begun with is
            kept there, so that a tuning that is resumed has the same grid.

    Raises:
        UserError: naming every mistake in the config, or if there is no limit.
    """
    if limit == Limit():
        raise UserError("a limit is needed: max_nfe, max_seconds or both")
    for name, value in (("max_nfe", limit.nfe), ("max_seconds", limit.seconds)):
        if value is not None and not 0 < value < inf:
            raise UserError(f"{name} must be more than 0 and finite, got {value}")
    plan = read_plan(source, overrides, sets)
    if len(plan.config.fit_budget) > 1:
        raise UserError(
            "fit_budget must be one budget, the longest that a fit may have; "
            f"got {', '.join(map(str, plan.config.fit_budget))}"
        )
    if plan.config.track:
        raise UserError("a tuning is not tracked: leave track out, and track a run afterwards")
    if plan.config.n_validation == 0:
        raise UserError("n_validation must be more than 0: settings are chosen by it")
    if overrides.get("steps") is None and not any(s.split("=")[0].strip() == "steps" for s in sets):
        most = _most_evaluations(plan, limit, folder)
        steps = sorted({k for k in STEPS if k <= most} | ({most} if most <= STEPS[-1] else set()))
        plan = read_plan(source, overrides | {"steps": steps}, sets)
    return plan


def _most_evaluations(plan: Plan, limit: Limit, folder: Path | None) -> int:
    """The evaluations that an image may take, at least 1."""
    most = min(plan.config.t_trunc) if limit.nfe is None else limit.nfe
    if limit.seconds is not None:
        most = min(most, int(limit.seconds / _evaluation(plan.cells[0], folder)) + 1)
    return max(1, min(most, *plan.config.t_trunc))


def _evaluation(spec: CellSpec, folder: Path | None) -> float:
    """Seconds of an evaluation for an image: those on record, otherwise measured now."""
    words = (spec.digests["backbone"], spec.device, spec.precision, spec.compile, spec.batch_size)
    name = "evaluation " + " ".join(map(str, words))
    record = recorded(folder) if folder else {}
    if name not in record:
        names = (spec.dataset, spec.backbone, spec.extractor)
        task = load_task(*names, spec.device, spec.precision, spec.compile)
        record[name] = seconds_per_evaluation(task.diffusion, spec.batch_size)
        if folder:
            write(record, folder)
    return record[name]


@dataclass(frozen=True)
class Arm:
    """A setting of the grid.

    Attributes:
        spec: its cell, with its solver setting alone, as the grid would run it.
        learned: whether its prior takes a budget.
    """

    spec: CellSpec
    learned: bool

    @property
    def setting(self) -> Setting:
        """Solver and steps."""
        return self.spec.solvers[0]

    @property
    def is_noise(self) -> bool:
        """Whether it is pure noise: a rival, which a prior has to beat."""
        return self.spec.control

    @property
    def steps(self) -> int:
        """The number of its steps."""
        return self.setting[1] or self.spec.t_trunc

    @property
    def values(self) -> dict[str, Any]:
        """What Optuna knows it by."""
        values: dict[str, Any] = {"prior": self.spec.label, "steps": self.setting[1]}
        if self.is_noise:
            return values | {"rival": self.setting[0]}
        return values | {"solver": self.setting[0], "t_trunc": self.spec.t_trunc}

    def at(self, rung: int) -> CellSpec:
        """The cell of a trial: few samples, and a part of the fit."""
        if rung == len(FITS) - 1:
            return self.spec
        (test, _), (split, n) = self.spec.splits
        n = min(n, max(FEWEST, round(n * SAMPLES[rung])))
        few = min(TESTED, n)
        budget = part_of(self.spec.fit_budget, FITS[rung]) if self.learned else self.spec.fit_budget
        return replace(
            self.spec,
            n_samples=few,
            splits=((test, few), (split, n)),
            w2_points=min(self.spec.w2_points, few),
            fit_budget=budget,
            save_samples=False,
        )


def arms_of(plan: Plan, limit: Limit) -> list[Arm]:
    """The settings of the grid: pure noise first, then closed forms, then what has to be learned.

    In this order the cheap ones are the bar that the dear ones have to clear.
    """
    first = [spec for spec in plan.cells if spec.seed == plan.config.seed]
    specs = [s for s in first if not s.control or (s.prior == "noise" and s.t_trunc == plan.T)]
    full = (plan.config.full_chain.solver, plan.config.full_chain.steps)
    arms = [
        Arm(one, _is_learned(one))
        for spec in specs
        for one in spec.results
        if (one.solvers[0][1] or one.t_trunc) <= (limit.nfe or one.t_trunc)
        and not (one.control and one.solvers[0] == full and full[1] not in plan.config.steps)
    ]
    return sorted(arms, key=lambda arm: (not arm.is_noise, arm.learned))


def _is_learned(spec: CellSpec) -> bool:
    if spec.control:
        return spec.params.get("timesteps") == "tuned"
    prior: Any = load_plugins().find("prior", spec.prior).load()
    return bool(prior.takes_budget)

"""The best setting under a cost, without the whole grid: what ``priorbench tune`` does.

Settings, the pure-noise rivals among them, are tried with few samples and short fits. The best
quarter goes on with more, and of these the best quarter again (successive halving: Jamieson and
Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016).
The best setting of each prior that is learned goes on to the second rung in any case.
Where there are more settings than trials, Optuna's tree-structured Parzen estimator proposes which
to try (Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011). Its pruners are
not used: they decide on a trial before others are measured, and let half of a small grid through.

Settings are judged on the split that settings are chosen on. Those that come through are then
measured as in any run, which is what the tables hold. Each trial's result is kept like that of a
cell, so that a repeated command takes up where the last one ended.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from math import inf, isnan
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import pandas as pd

from .bench.estimate import estimate, seconds_per_evaluation
from .errors import UserError
from .files import write_atomically
from .plan.budget import part_of
from .plan.layout import Plan, read_plan
from .plan.spec import CellSpec, Setting
from .plugin_manager import load_plugins
from .runner import Observer, compute, execute
from .store.lock import locked
from .store.log import RunLog
from .store.results import Store
from .tables.columns import Row
from .task import load_task

FACTOR = 4  # one setting in so many goes on, to the next rung
FITS = (1 / FACTOR**2, 1 / FACTOR, 1.0)  # the part of the fit at each rung
SAMPLES = (1 / 2, 1.0, 1.0)  # and of the samples: FID of few says less than a short fit
FEWEST = 500  # samples that settings are judged by, at least
NEAR = 1.5  # pure noise of up to so many times its least FID is measured in the end
TESTED = 64  # samples of the test split in a trial, of which the time is taken and nothing else
STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50)  # where none are given
TRIALS = 32
RECORD = "tuning.json"


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


@dataclass(frozen=True)
class Tuned:
    """What a tuning found.

    Attributes:
        tried: a row for each setting and rung: tried.csv.
        comparison: comparison.csv, of the settings that came through and their rivals.
        seconds: that all of it took, earlier parts of an interrupted tuning included.
        grid_seconds: that the whole grid should take here, as ``run --dry-run`` estimates it.
        settings: how many settings the grid has.
    """

    tried: pd.DataFrame
    comparison: pd.DataFrame
    seconds: float
    grid_seconds: float
    settings: int


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
    record = _recorded(folder) if folder else {}
    if name not in record:
        names = (spec.dataset, spec.backbone, spec.extractor)
        task = load_task(*names, spec.device, spec.precision, spec.compile)
        record[name] = seconds_per_evaluation(task.diffusion, spec.batch_size)
        if folder:
            _write(record, folder)
    return record[name]


def _recorded(folder: Path) -> dict[str, float]:
    """The seconds in tuning.json: of each trial by its cell, and of what is measured else."""
    try:
        found = json.loads((folder / RECORD).read_bytes())
        return {str(name): float(seconds) for name, seconds in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write(record: dict[str, float], folder: Path) -> None:
    write_atomically(folder / RECORD, json.dumps(record, indent=2).encode() + b"\n")


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
    def title(self) -> str:
        """``ot t_trunc 200, 3 steps of dpm++``."""
        solver, steps = self.setting
        counted = "all steps" if steps is None else f"{steps} step{'s' * (steps != 1)}"
        return f"{self.spec.label} t_trunc {self.spec.t_trunc}, {counted} of {solver}"

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


@dataclass
class Search:
    """The trials of a tuning.

    Attributes:
        tried: a row for each setting and rung.
        finalists: the settings that came through.
        chains: seconds of the chains that were timed, by their NFE.
        prior_seconds: those of the prior, by cell.
    """

    plan: Plan
    store: Store
    limit: Limit
    trials: int
    watcher: Observer
    tried: list[Row] = field(default_factory=list)
    finalists: list[Arm] = field(default_factory=list)
    chains: dict[float, list[float]] = field(default_factory=dict)
    prior_seconds: dict[str, float] = field(default_factory=dict)

    @cached_property
    def arms(self) -> list[Arm]:
        return arms_of(self.plan, self.limit)

    @cached_property
    def short(self) -> Store:
        """Where trials are kept that are not whole, and so no run may take up."""
        return Store(self.store.folder / "trials")

    @cached_property
    def log(self) -> RunLog:
        return RunLog(self.store.folder / "logs", self.watcher.noted)

    def run(self) -> None:
        """Try settings, and let the best of them go on, rung by rung."""
        count = min(self.trials, len(self.arms))
        rungs = [count, *(-(-count // FACTOR**rung) for rung in range(1, len(FITS)))]
        self.watcher.started(replace(self.plan, cells=self.plan.cells[:1] * count), 0)
        rows = self.everything() if count == len(self.arms) else self.proposals()
        for rung, most in enumerate(rungs):
            if rung:
                self.watcher.more(len(rows))
                rows = [(arm, self.measured(arm, rung)) for arm, _ in rows]
            for _, row in rows:
                row["outcome"] = row["outcome"] or self.too_much(row)
            rows = sorted(
                ((arm, row) for arm, row in rows if not row["outcome"]),
                # Of equals, what needs no fit, then what takes fewer evaluations.
                key=lambda pair: (float(pair[1]["fid"]), pair[0].learned, pair[1]["nfe"]),
            )
            last = rung == len(FITS) - 1
            goes_on = most if last else rungs[rung + 1]
            kept = rows[:goes_on] + ([] if rung else _best_of_absent(rows, goes_on))
            for _, row in rows:
                row["outcome"] = "dropped"
            for _, row in kept:
                row["outcome"] = "came through" if last else "went on"
            rows = kept
        self.finalists = [arm for arm, _ in rows]

    def everything(self) -> list[tuple[Arm, Row]]:
        """Every setting at the first rung."""
        return [(arm, self.measured(arm, 0)) for arm in self.arms]

    def proposals(self) -> list[tuple[Arm, Row]]:
        """As many settings as there are trials at the first rung: some that are given, then those
        that the estimator proposes.
        """
        optuna = _optuna()
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=self.plan.config.seed, n_startup_trials=1)
        )
        given = self.first()
        found: dict[str, tuple[Arm, Row]] = {}
        for _ in range(20 * self.trials):  # the estimator may propose a setting again
            if len(found) == self.trials:
                break
            if values := next(given, None):
                study.enqueue_trial(values)
            trial = study.ask()
            arm = self.proposed(trial)
            if arm is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            row = found[arm.spec.cell][1] if arm.spec.cell in found else self.measured(arm, 0)
            found[arm.spec.cell] = (arm, row)
            # What is out of bounds scores as the worst, so that the estimator keeps away from it.
            bad = row["outcome"] or self.too_much(row)
            study.tell(trial, 1e9 if bad else float(row["fid"]))
        return list(found.values())

    def first(self) -> Iterator[dict[str, Any]]:
        """Settings that are tried before any are proposed: pure noise for a quarter of the trials,
        and priors for half of them. They have the most steps that are not known to take too long,
        which are seldom worse than fewer.
        """
        noise = [arm for arm in self.arms if arm.is_noise]
        others = [arm for arm in self.arms if not arm.is_noise]
        quarter = max(1, self.trials // 4)
        for arms, count in ((noise, quarter), (others, 2 * quarter)):
            for steps in sorted({arm.steps for arm in arms}, reverse=True):
                longest = [arm for arm in arms if arm.steps == steps]
                for arm in longest[:: -(-len(longest) // count)]:
                    if self.is_slow(steps):
                        break
                    yield arm.values
                if not self.is_slow(steps):
                    break

    def is_slow(self, nfe: int) -> bool:
        """Whether chains of so many evaluations were timed, and take too long."""
        return nfe in self.chains and bool(self.limit.broken_by(nfe, median(self.chains[nfe])))

    def proposed(self, trial: Any) -> Arm | None:
        """The setting of a trial; None where the grid has no such chain."""
        suggest = trial.suggest_categorical
        label = suggest("prior", list(dict.fromkeys(arm.spec.label for arm in self.arms)))
        is_noise = any(arm.is_noise for arm in self.arms if arm.spec.label == label)
        steps = suggest("steps", self.values(lambda arm: arm.setting[1]))
        if is_noise:
            solver, t_trunc = suggest("rival", self.values(lambda a: a.setting[0], True)), None
        else:
            solver = suggest("solver", self.values(lambda a: a.setting[0], False))
            t_trunc = suggest("t_trunc", self.values(lambda a: a.spec.t_trunc, False))
        for arm in self.arms:
            at = t_trunc or arm.spec.t_trunc
            if (arm.spec.label, arm.spec.t_trunc, arm.setting) == (label, at, (solver, steps)):
                return arm
        return None

    def values(self, value: Any, noise: bool | None = None) -> list[Any]:
        """The values of an axis, each once."""
        arms = [arm for arm in self.arms if noise in (None, arm.is_noise)]
        return list(dict.fromkeys(value(arm) for arm in arms))

    def measured(self, arm: Arm, rung: int) -> Row:
        """The row of tried.csv for a setting; its outcome is given if it cannot go on."""
        spec = arm.at(rung)
        whole = rung == len(FITS) - 1
        store = self.store if whole else self.short
        started, failed = time.monotonic(), {}
        if store.missing(spec):
            failed = compute(self.plan, [spec], store, self.watcher, self.log, curves=whole)
            self.spend(spec.cell, time.monotonic() - started)
        else:
            self.watcher.more(-1)
        row: Row = {
            "cell": arm.spec.cell, "trial": spec.cell,
            "prior": arm.spec.prior, "params": arm.spec.settings,
            "t_trunc": arm.spec.t_trunc, "solver": arm.setting[0],
            "steps": arm.steps, "rung": rung,
            "fit_budget": spec.fit_budget or "", "n_samples": spec.splits[1][1],
            "nfe": float("nan"), "seconds": float("nan"), "fid": float("nan"),
            "trial_seconds": self.spent.get(spec.cell, 0.0), "outcome": "",
        }  # fmt: skip
        self.tried.append(row)
        if failed:
            row["outcome"] = f"failed: {next(iter(failed.values()))[0]['error']}"
            return row
        test, choosing = store.rows([spec])
        self.chains.setdefault(test["nfe"], []).append(test["denoise_seconds"])
        row |= {"nfe": test["nfe"], "seconds": test["prior_seconds"] + test["denoise_seconds"]}
        row |= {"fid": choosing["fid"], "outcome": "has no FID" if isnan(choosing["fid"]) else ""}
        self.prior_seconds[arm.spec.cell] = test["prior_seconds"]
        return row

    def too_much(self, row: Row) -> str:
        """What of a trial breaks a limit; its seconds become those that count.

        Chains of as many evaluations take as long, and one timing may be far out. So the median of
        theirs counts, as in the tables.
        """
        if row["nfe"] in self.chains:
            chain = median(self.chains[row["nfe"]])
            row["seconds"] = self.prior_seconds[row["cell"]] + chain
        return self.limit.broken_by(row["nfe"], row["seconds"])

    def nothing_to_try(self) -> str:
        """Why there is no setting of a prior."""
        priors = [spec for spec in self.plan.cells if not spec.control]
        if not priors:
            return "priors must name a prior that is to be tuned: noise is what it is compared with"
        steps = ", ".join(str(k) for k in self.plan.config.steps)
        return f"steps must be at most max_nfe, {self.limit.nfe}, got {steps}"

    # --- the seconds that trials took, which a resumed tuning has to know

    @cached_property
    def spent(self) -> dict[str, float]:
        """What is in tuning.json."""
        return _recorded(self.store.folder)

    def spend(self, what: str, seconds: float) -> None:
        """Add seconds to those of a cell, or of what is measured in the end."""
        self.spent[what] = round(self.spent.get(what, 0.0) + seconds, 2)
        _write(self.spent, self.store.folder)

    def seconds(self, final: str) -> float:
        """What the trials of this search took, and what is measured in the end."""
        names = {row["trial"] for row in self.tried} | {final}
        return sum(self.spent.get(name, 0.0) for name in names)

    # --- what is measured in the end

    def final(self) -> Plan:
        """What came through, with every seed; the best prior in any case.

        Pure noise is there at the NFE of every prior, since it is what they are compared with: all
        of it that may be the best, for a rival that is not flatters them.

        Raises:
            UserError: if there is no prior that may be measured.
        """
        wanted = self.finalists or []
        if all(arm.is_noise for arm in wanted):
            wanted = [*wanted, self.furthest([arm for arm in self.arms if not arm.is_noise])]
        for nfe in {self.last()[arm.spec.cell]["nfe"] for arm in wanted if not arm.is_noise}:
            wanted = [*wanted, *self.rivals(nfe)]
        for row in (self.last()[arm.spec.cell] for arm in wanted):
            if row["outcome"] == "dropped":
                is_noise = row["t_trunc"] == self.plan.T
                row["outcome"] = f"measured as {'a rival' if is_noise else 'the best prior'}"
        seeds = range(self.plan.config.seed, self.plan.config.seed + self.plan.config.seeds)
        cells = [
            replace(arm.spec, seed=seed) for seed in seeds for arm in self.arms if arm in wanted
        ]
        return replace(self.plan, cells=cells)

    def last(self) -> dict[str, Row]:
        """The last row of each setting that was tried and did not break a limit, by its cell."""
        last = {row["cell"]: row for row in self.tried}
        good = ("dropped", "went on", "came through")
        return {cell: row for cell, row in last.items() if row["outcome"] in good}

    def furthest(self, arms: list[Arm]) -> Arm:
        """Of those that went furthest the one with the least FID.

        Raises:
            UserError: if none of them was within the limits.
        """
        last = self.last()
        known = [(last[arm.spec.cell], arm) for arm in arms if arm.spec.cell in last]
        if known:
            return min(known, key=lambda pair: (-pair[0]["rung"], pair[0]["fid"]))[1]
        here = {arm.spec.cell for arm in arms}
        mine = [row for row in self.tried if row["cell"] in here]
        slow = [row for row in mine if row["outcome"].startswith("takes")]
        if not slow:
            raise UserError(f"every setting of a prior failed; the first {mine[0]['outcome']}")
        least = min(slow, key=lambda row: (row["seconds"], row["nfe"]))
        raise UserError(
            f"no setting of a prior is within the limits: the quickest {least['outcome']}"
        )

    def rivals(self, nfe: float) -> list[Arm]:
        """Pure noise of ``nfe`` evaluations that may be the best. What was not tried is tried."""
        noise = [arm for arm in self.arms if arm.is_noise]
        for arm in noise:
            if arm.setting[1] == nfe and all(r["cell"] != arm.spec.cell for r in self.tried):
                self.watcher.more(1)
                row = self.measured(arm, 0)
                row["outcome"] = row["outcome"] or self.too_much(row) or "dropped"
        known = self.last()
        tried = [(arm, known[arm.spec.cell]) for arm in noise if arm.spec.cell in known]
        scores = [(arm, row["fid"]) for arm, row in tried if row["nfe"] == nfe]
        least = min((fid for _, fid in scores), default=0.0)
        return [arm for arm, fid in scores if fid <= NEAR * least]


def _best_of_absent(rows: list[tuple[Arm, Row]], count: int) -> list[tuple[Arm, Row]]:
    """The best setting of each prior that is learned and has none among the first ``count``.

    After a sixteenth of a fit a slow learner is behind closed forms, which have shown all they can.
    """
    known = {arm.spec.label for arm, _ in rows[:count]}
    found: dict[str, tuple[Arm, Row]] = {}
    for arm, row in rows[count:]:
        if arm.learned and arm.spec.label not in known:
            found.setdefault(arm.spec.label, (arm, row))
    return list(found.values())


def tune(
    plan: Plan,
    store: Store,
    limit: Limit,
    trials: int = TRIALS,
    report: bool = True,
    observer: Observer | None = None,
) -> Tuned:
    """Find the best setting of a plan from :func:`read_tuning`, and measure it.

    Raises:
        UserError: if nothing came through, or the folder is in use or cannot be written to. What
            is done is kept.
    """
    watcher = observer or Observer()
    search = Search(plan, store, limit, trials, watcher)
    if all(arm.is_noise for arm in search.arms):
        raise UserError(search.nothing_to_try())
    with locked(store.folder):
        try:
            search.run()
            final = search.final()
        finally:
            watcher.stopped()
            tried = pd.DataFrame(search.tried)
            write_atomically(store.folder / "tried.csv", tried.to_csv(index=False).encode())
        grid = estimate(plan, plan.cells)
    watcher.noted("measuring what came through, and its rivals")
    started, cells = time.monotonic(), " ".join(spec.cell for spec in final.cells)
    name = f"final {sha256(cells.encode()).hexdigest()[:16]}"
    try:
        table = execute(final, store, report=report, observer=watcher)
    finally:
        search.spend(name, time.monotonic() - started)
    return Tuned(tried, table, search.seconds(name), grid, len(search.arms))


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError:
        raise UserError(
            "tuning needs Optuna, which is not installed; pip install 'priorbench[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna

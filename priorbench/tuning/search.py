"""The trials: which settings are tried, which go on, and which are measured in the end."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isnan
from statistics import median
from types import ModuleType
from typing import Any

from ..errors import UserError
from ..plan.layout import Plan
from ..runner import Observer, compute
from ..store.log import RunLog
from ..store.results import Store
from ..tables.columns import Row
from .grid import FACTOR, FITS, Arm, Limit, arms_of
from .record import recorded, write

NEAR = 1.5  # pure noise of up to so many times its least FID is measured in the end


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
        cells = self.plan.cells[:1] * count  # which they are turns out as it goes
        self.watcher.started(replace(self.plan, cells=cells), cells)
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
        return recorded(self.store.folder)

    def spend(self, what: str, seconds: float) -> None:
        """Add seconds to those of a cell, or of what is measured in the end."""
        self.spent[what] = round(self.spent.get(what, 0.0) + seconds, 2)
        write(self.spent, self.store.folder)

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


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError:
        raise UserError(
            "tuning needs Optuna, which is not installed; pip install 'priorbench[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna

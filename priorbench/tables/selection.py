"""Figures that need other rows: rivals at equal cost, the distance to the oracle, best settings.

Everything chosen here (the rival's solver, the oracle's t_trunc, a prior's best setting) is chosen
by its mean FID over seeds on another split than the test split, and reported by its test rows.
"""

from collections.abc import Iterable
from math import isnan
from typing import Any

import pandas as pd

from .columns import (
    ADDED,
    CLOCK,
    FIT,
    LABEL,
    PLACE,
    Row,
    budgets_of,
    choosing,
    contenders,
    reported,
    succeeded,
)
from .flags import flag_of, of_oracles
from .intervals import Seeds
from .learning import still_learning

Place = tuple[Any, ...]  # a setting: the values of PLACE

# Where these stand in a Place.
LABELLED, FITTED = slice(len(LABEL)), slice(len(FIT))
BUDGET = FIT.index("fit_budget")

SAME_TIME = 1.05  # a rival may take this many times the row's seconds
LEAST_COST = 0.5  # if no rival takes this share of its cost, the next dearer one counts too


class Chosen:
    """The settings of a table, with their means over seeds, and the choices among them.

    Attributes:
        failed: how many seeds of a setting failed.
        one_clock: whether all seconds were taken under the same conditions.
        seconds: seconds per image. They have an interval too (:mod:`priorbench.tables.seconds`),
            which is a point in tables of earlier versions.
        flops: operations for an image, NaN where they are not known.
        score: FID on the choosing split, which settings are chosen by.
        reported: FID on the test split.
        rivals: the settings that start from pure noise.
        oracles: the settings of the oracle.
        ranked: the settings of contenders.
        fresh: the settings whose samples are drawn afresh for each seed, not stored.
        budgets: those that contenders were fitted with, the smallest first; "" is each prior's own.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        table = table.fillna({"params": "", "fit_budget": ""})
        bad = table[table.status != "ok"]
        self.failed: dict[Place, int] = bad.groupby(PLACE).seed.nunique().to_dict()
        table = succeeded(table)
        clocks = [c for c in (*CLOCK, "run") if c in table]
        self.one_clock = len(table[clocks].drop_duplicates()) <= 1
        test = reported(table)
        point = test.prior_seconds + test.denoise_seconds
        self.seconds, self._least, self._most = (
            seconds.groupby([test[c] for c in PLACE]).mean().to_dict()
            for seconds in (point, test.seconds_low.fillna(point), test.seconds_high.fillna(point))
        )
        flops = test.flops_prior + test.flops_chain
        self.flops: dict[Place, float] = flops.groupby([test[c] for c in PLACE]).mean().to_dict()
        self.score: dict[Place, float] = choosing(table).groupby(PLACE).fid.mean().to_dict()
        self.reported: dict[Place, float] = test.groupby(PLACE).fid.mean().to_dict()
        self._fid: dict[Place, float] = test.groupby([*PLACE, "seed"]).fid.mean().to_dict()
        self._variance: dict[Place, float] = (
            (test.fid_se.astype(float) ** 2).groupby([test[c] for c in PLACE]).mean().to_dict()
        )
        self._seeds: dict[Place, list[int]] = test.groupby(PLACE).seed.unique().map(list).to_dict()
        # Where a prior's own evaluations differ between seeds, the largest number counts.
        settings = test.groupby(PLACE, sort=False).agg({"nfe": "max", "T": "first"})
        self._nfe: dict[Place, int] = settings.nfe.astype(int).to_dict()
        self.places: list[Place] = list(settings.index)
        noise = settings[settings.index.get_level_values("prior") == "noise"]
        self.rivals = list(noise[noise.index.get_level_values("t_trunc") == noise["T"]].index)
        self.oracles = [p for p in self.places if p[0] == "oracle"]
        self.ranked = set(contenders(test).groupby(PLACE).groups)
        given = {p[LABELLED] for p in self.places if p[BUDGET]}
        self._shared = {p for p in self.places if p not in self.ranked and p[LABELLED] not in given}
        self.fresh = [p for p in self.places if p in self.ranked or p[0] == "noise"]
        self.budgets = budgets_of(test)

    def nfe(self, place: Place) -> int:
        """Evaluations of the frozen network for an image."""
        return self._nfe[place]

    def fid(self, place: Place | None, seed: int) -> float:
        """FID of one seed on the test split; NaN where nothing was chosen or the seed has none."""
        return float("nan") if place is None else self._fid.get((*place, seed), float("nan"))

    def seeds(self, place: Place) -> Seeds:
        """The FIDs of a setting, one for each seed."""
        return Seeds([self.fid(place, seed) for seed in self._seeds[place]], self._variance[place])

    def paired(self, place: Place, other: Place) -> Seeds:
        """The FIDs of ``place`` minus those of ``other``, for each seed that both have.

        There are none if only one is left of several, which would say nothing about seeds.
        """
        both = [seed for seed in self._seeds[place] if seed in self._seeds[other]]
        several = max(len(self._seeds[place]), len(self._seeds[other])) > 1
        if len(both) < 2 and several:
            both = []
        differences = [self.fid(place, seed) - self.fid(other, seed) for seed in both]
        return Seeds(differences, self._variance[place] + self._variance[other])

    def oracle(self, place: Place) -> Place | None:
        """The best oracle with exactly as many evaluations, None where there is none."""
        return self.best(p for p in self.oracles if self.nfe(p) == self.nfe(place))

    def beside(self, place: Place, budget: str) -> bool:
        """Whether a setting stands beside the contenders that were fitted with ``budget``.

        So do those of controls that are given no budgets (:func:`.columns.with_budget`).
        """
        return place[BUDGET] == budget or place in self._shared

    def met(self, place: Place) -> list[Place]:
        """The rivals of a setting: tuned times count if they had its budget."""
        return [p for p in self.rivals if self.beside(p, place[BUDGET])]

    def rival(self, place: Place) -> Place | None:
        """The best rival with exactly as many evaluations, None where there is none."""
        return self.best(p for p in self.met(place) if self.nfe(p) == self.nfe(place))

    def in_time(self, place: Place) -> Place | None:
        """The best rival that is not shown to take longer than ``place``; else the quickest rival.

        Intervals of seconds are compared by the ends that favour the rivals, so that seconds that
        vary let more rivals count. Rivals have the step counts of the grid: a prior that takes far
        longer than any of them would meet none that uses its time. The next slower rival then
        stands for those that were not run, which never favours the prior.

        Returns:
            None where seconds were taken under different conditions.
        """
        if not self.one_clock:
            return None
        return self._within(place, self._least, SAME_TIME * self._most[place], self._most[place])

    def in_flops(self, place: Place) -> Place | None:
        """The best rival of no more operations; else the one of the fewest.

        As in :meth:`in_time`, the next larger rival counts where none takes half of them.

        Returns:
            None where operations are not known.
        """
        rivals, mine = self.met(place), self.flops[place]
        if any(isnan(self.flops[p]) for p in (place, *rivals)):
            return None
        return self._within(place, self.flops, mine, mine)

    def _within(
        self, place: Place, costs: dict[Place, float], most: float, mine: float
    ) -> Place | None:
        """The best of the rivals that cost at most ``most``; see :meth:`in_time`."""
        by_cost = sorted(self.met(place), key=costs.__getitem__)
        cheap = [p for p in by_cost if costs[p] <= most]
        spent = costs[cheap[-1]] if cheap else 0.0
        if spent < LEAST_COST * mine or not cheap:
            cheap = by_cost[: len(cheap) + 1]
        return self.best(cheap)

    def saved(self, place: Place) -> float | None:
        """Seconds per image that ``place`` saves over every rival with as low a FID.

        Returns:
            0 where it is not shown to save any; None where no rival is as good, or where seconds
            were taken under different conditions.
        """
        if not self.one_clock:
            return None
        as_good = [p for p in self.met(place) if self.reported[p] <= self.reported[place]]
        return min((self._saved(place, rival) for rival in as_good), default=None)

    def _saved(self, place: Place, rival: Place) -> float:
        shown = self._most[place] < self._least[rival]
        return self.seconds[rival] - self.seconds[place] if shown else 0.0

    def best(self, places: Iterable[Place]) -> Place | None:
        """The place with the least FID on the choosing split; a single place needs no choice.

        Returns:
            None where a score is missing.
        """
        candidates = list(places)
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        scored = [(self.score[p], p) for p in candidates if p in self.score]
        return min(scored)[1] if len(scored) == len(candidates) else None


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with the columns that need other rows: :data:`~priorbench.tables.columns.ADDED`."""
    known = Chosen(table)
    chosen = {
        p: (known.oracle(p), known.rival(p), known.in_time(p), known.in_flops(p), known.saved(p))
        for p in known.places
    }
    unseen = of_oracles(table)
    found: list[Row] = []
    for row in table.itertuples():
        if row.status != "ok" or row.split != "test":
            found.append(dict.fromkeys(ADDED, float("nan")) | {"flag": "", "learning": ""})
            continue
        values = (getattr(row, column) for column in PLACE)
        oracle, rival, in_time, in_flops, saved = chosen[tuple("" if v != v else v for v in values)]
        found.append(
            {
                "excess": row.fid - known.fid(oracle, row.seed),
                "relative_nfe": row.fid / known.fid(rival, row.seed),
                "relative_time": row.fid / known.fid(in_time, row.seed),
                "relative_flops": row.fid / known.fid(in_flops, row.seed),
                "break_even": _break_even(row, saved),
                "flag": flag_of(row, unseen),
                "learning": still_learning(row.late_gain, row.fit_steps),
            }
        )
    table = table.copy()
    table[ADDED] = pd.DataFrame(found, columns=ADDED, index=table.index)
    return table


def _break_even(row: Any, saved: float | None) -> float:
    """Images after which the fit has paid for itself; inf: never; NaN: no rival is as good."""
    if row.control or saved is None:
        return float("nan")
    return float(row.fit_seconds / saved) if saved > 0 else float("inf")

"""Figures that need other rows: rivals at equal cost, the distance to the oracle, best settings.

Everything chosen here (the rival's solver, the oracle's t_trunc, a prior's best setting) is chosen
by its mean FID over seeds on another split than the test split, and reported by its test rows.
"""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from .columns import ADDED, BEST, CLOCK, PLACE, Row, choosing, reported, succeeded
from .flags import cheats, flag_of, of_oracles, unfair

Place = tuple[Any, ...]  # a setting: the values of PLACE

SAME_TIME = 1.05  # a rival may take this many times the row's seconds
LEAST_TIME = 0.5  # if no rival takes this share of them, the next slower one counts too


class Chosen:
    """The settings of a table, with their means over seeds, and the choices among them.

    Attributes:
        failed: how many seeds of a setting failed.
        one_clock: whether all seconds were taken under the same conditions.
        seconds: seconds per image. They have an interval too (:mod:`priorbench.tables.seconds`),
            which is a point in tables of earlier versions.
        score: FID on the choosing split, which settings are chosen by.
        reported: FID on the test split.
        rivals: the settings that start from pure noise.
        oracles: the settings of the oracle.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        table = table.assign(params=table.params.fillna(""))
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
        self.score: dict[Place, float] = choosing(table).groupby(PLACE).fid.mean().to_dict()
        self.reported: dict[Place, float] = test.groupby(PLACE).fid.mean().to_dict()
        self._fid: dict[Place, float] = test.groupby([*PLACE, "seed"]).fid.mean().to_dict()
        # Where a prior's own evaluations differ between seeds, the largest number counts.
        settings = test.groupby(PLACE, sort=False).agg({"nfe": "max", "T": "first"})
        self._nfe: dict[Place, int] = settings.nfe.astype(int).to_dict()
        self.places: list[Place] = list(settings.index)
        noise = settings[settings.index.get_level_values("prior") == "noise"]
        self.rivals = list(noise[noise.index.get_level_values("t_trunc") == noise["T"]].index)
        self.oracles = [p for p in self.places if p[0] == "oracle"]

    def nfe(self, place: Place) -> int:
        """Evaluations of the frozen network for an image."""
        return self._nfe[place]

    def fid(self, place: Place | None, seed: int) -> float:
        """FID of one seed on the test split; NaN where nothing was chosen or the seed has none."""
        return float("nan") if place is None else self._fid.get((*place, seed), float("nan"))

    def oracle(self, place: Place) -> Place | None:
        """The best oracle with exactly as many evaluations, None where there is none."""
        return self.best(p for p in self.oracles if self.nfe(p) == self.nfe(place))

    def rival(self, place: Place) -> Place | None:
        """The best rival with exactly as many evaluations, None where there is none."""
        return self.best(p for p in self.rivals if self.nfe(p) == self.nfe(place))

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
        least, most = self._least, self._most[place]
        by_time = sorted(self.rivals, key=least.__getitem__)
        quick = [p for p in by_time if least[p] <= SAME_TIME * most]
        spent = least[quick[-1]] if quick else 0.0
        if spent < LEAST_TIME * most or not quick:
            quick = by_time[: len(quick) + 1]
        return self.best(quick)

    def saved(self, place: Place) -> float | None:
        """Seconds per image that ``place`` saves over every rival with as low a FID.

        Returns:
            0 where it is not shown to save any; None where no rival is as good, or where seconds
            were taken under different conditions.
        """
        if not self.one_clock:
            return None
        as_good = [p for p in self.rivals if self.reported[p] <= self.reported[place]]
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
        place: (known.oracle(place), known.rival(place), known.in_time(place), known.saved(place))
        for place in known.places
    }
    unseen = of_oracles(table)
    found: list[Row] = []
    for row in table.itertuples():
        if row.status != "ok" or row.split != "test":
            found.append(dict.fromkeys(ADDED, float("nan")) | {"flag": ""})
            continue
        values = (getattr(row, column) for column in PLACE)
        oracle, rival, in_time, saved = chosen[tuple("" if v != v else v for v in values)]
        found.append(
            {
                "excess": row.fid - known.fid(oracle, row.seed),
                "relative_nfe": row.fid / known.fid(rival, row.seed),
                "relative_time": row.fid / known.fid(in_time, row.seed),
                "break_even": _break_even(row, saved),
                "flag": flag_of(row, unseen),
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


def best(table: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """best.csv: for each NFE and prior, the setting that did best on the choosing split.

    ``rank`` is 1 plus the number of contenders whose interval lies wholly below, so that those with
    overlapping intervals share a rank. Rows with an :func:`~priorbench.tables.flags.unfair` flag
    have none, nor rows without an interval, nor rows of one seed, whose interval does not cover how
    fits differ. A prior that was caught storing or repeating images in any setting is flagged in
    all.
    """
    known = Chosen(table)
    means = reported(summary.assign(params=summary.params.fillna(""))).set_index(PLACE)
    chosen_on = choosing(table).groupby("prior").split.first().to_dict()
    caught = cheats(table)
    rows: list[Row] = []
    for nfe, place in _choices(known):
        label = place[:2]
        flags = [*_failures(known, place, means), *means.loc[place, "flag"].split("; ")]
        rows.append(
            {c: means.loc[place, c] for c in BEST if c in means.columns}
            | dict(zip(PLACE, place, strict=True))
            | {"chosen_on": chosen_on.get(label[0], ""), "nfe": nfe}
            | {"flag": "; ".join(dict.fromkeys(filter(None, [*flags, *caught.get(label, [])])))}
        )
    for nfe in {row["nfe"] for row in rows}:
        _compare([row for row in rows if row["nfe"] == nfe], known, means)
    return pd.DataFrame(rows).reindex(columns=BEST)


def _choices(known: Chosen) -> Iterable[tuple[int, Place]]:
    """(NFE, best setting) of each prior at each NFE; pure noise from t_trunc = T alone.

    Pure noise counts as one prior, whatever its timesteps: its best setting is the rival.
    """
    for nfe in sorted({known.nfe(place) for place in known.places}):
        here = [p for p in known.places if known.nfe(p) == nfe]
        here = [p for p in here if p[0] != "noise" or p in known.rivals]
        labels = {p: p[:1] if p in known.rivals else p[:2] for p in here}
        for label in dict.fromkeys(labels.values()):
            mine = [p for p in here if labels[p] == label]
            place = known.best([p for p in mine if p not in known.failed] or mine)
            if place is not None:
                yield nfe, place


def _failures(known: Chosen, place: Place, means: pd.DataFrame) -> list[str]:
    failed = known.failed.get(place, 0)
    return (
        [f"failed in {failed} of {failed + int(means.loc[place, 'seeds'])} seeds"] if failed else []
    )


def _compare(rows: list[Row], known: Chosen, means: pd.DataFrame) -> None:
    """Add rank, beats_noise and beats_noise_in_time to the contenders among rows of one NFE.

    ``beats_noise`` is yes or no where the interval lies apart from that of the best solver from
    pure noise, else undecided. ``beats_noise_in_time`` goes by the interval of ``relative_time``
    over seeds; one seed has none, so it goes by the FID intervals of the prior and its rival.
    """
    noise = next((row for row in rows if row["prior"] == "noise"), None)
    ranked = [row for row in rows if _is_ranked(row)]
    for row in rows:
        if row["control"]:
            continue
        if _is_ranked(row):
            row["rank"] = 1 + sum(other["fid_high"] < row["fid_low"] for other in ranked)
        ends = (noise["fid_low"], noise["fid_high"]) if noise else (None, None)
        row["beats_noise"] = _answer(row, "fid", *ends)
        row["beats_noise_in_time"] = _answer(row, "relative_time", 1.0, 1.0)
        rival = known.in_time(tuple(row[c] for c in PLACE)) if row["seeds"] == 1 else None
        if rival is not None:
            ends = (means.loc[rival, "fid_low"], means.loc[rival, "fid_high"])
            row["beats_noise_in_time"] = _answer(row, "fid", *ends)


def _is_ranked(row: Row) -> bool:
    known = row["seeds"] > 1 and row["fid_low"] == row["fid_low"]
    return bool(known and not row["control"] and not unfair(row["flag"]))


def _answer(row: Row, column: str, low: float | None, high: float | None) -> str:
    """Whether the row's interval lies below ``low`` (yes), above ``high`` (no) or neither."""
    if low is None or high is None:
        return ""
    below, above = row[f"{column}_high"] < low, row[f"{column}_low"] > high
    return "yes" if below else "no" if above else "undecided"

"""What needs other rows: rivals at equal cost, the distance to the oracle, flags, best settings,
the verdict in words.

Whatever is chosen (the rival's solver, the oracle's t_trunc, a prior's best setting) is chosen by
the mean FID of the rows of another split than the test split, and reported by its test rows.
"""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from .columns import ADDED, BEST, CLOCK, PLACE, choosing, reported, succeeded
from .flags import cheats, flag_of, of_oracles, unfair

SAME_TIME = 1.05  # a rival may take so many times the row's seconds
LEAST_TIME = 0.5  # and where none takes so many, the next slower one is a rival too


class Chosen:
    """The settings of a table with their means over seeds: FID on the choosing split, seconds an
    image, NFE.

    Seconds have an interval besides (see :mod:`priorbench.tables.seconds`); in tables of earlier
    versions, which have none, it is a point. Where a prior's own evaluations differ between seeds,
    the most of them count.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        table = table.assign(params=table.params.fillna(""))
        self.failed: dict[Any, int] = (
            table[table.status != "ok"].groupby(PLACE).seed.nunique().to_dict()
        )
        table = succeeded(table)
        clocks = [c for c in (*CLOCK, "run") if c in table]
        self.one_clock = len(table[clocks].drop_duplicates()) <= 1
        test = reported(table)
        point = test.prior_seconds + test.denoise_seconds
        self.seconds, self._least, self._most = (
            seconds.groupby([test[c] for c in PLACE]).mean().to_dict()
            for seconds in (point, test.seconds_low.fillna(point), test.seconds_high.fillna(point))
        )
        self.settings = test.groupby(PLACE, sort=False).agg({"nfe": "max", "T": "first"})
        self.settings["control"] = test.groupby(PLACE, sort=False).control.first().astype(bool)
        self.score: dict[Any, float] = choosing(table).groupby(PLACE).fid.mean().to_dict()
        self.reported: dict[Any, float] = test.groupby(PLACE).fid.mean().to_dict()
        self._fid = test.groupby([*PLACE, "seed"]).fid.mean().to_dict()
        self._nfe: dict[Any, int] = self.settings.nfe.astype(int).to_dict()
        noise = self.settings[self.settings.index.get_level_values("prior") == "noise"]
        self.rivals = list(noise[noise.index.get_level_values("t_trunc") == noise["T"]].index)
        self.oracles = list(
            self.settings[self.settings.index.get_level_values("prior") == "oracle"].index
        )

    def nfe(self, place: Any) -> int:
        return self._nfe[place]

    def fid(self, place: Any, seed: int) -> float:
        """The test split's, NaN where nothing was chosen or that seed has none."""
        return float("nan") if place is None else self._fid.get((*place, seed), float("nan"))

    def rival(self, place: Any) -> Any:
        """The best rival with exactly as many evaluations, None where there is none."""
        return self.best(p for p in self.rivals if self.nfe(p) == self.nfe(place))

    def in_time(self, place: Any) -> Any:
        """The best rival that cannot be shown to take more time than ``place``; where all can, the
        quickest.

        The ends of the seconds' intervals are compared that are in the rivals' favour: seconds that
        vary make more of them count. Rivals have the steps of the grid. A prior that takes far
        longer than any of these would meet none that uses its time, and so the next slower one
        stands for those that were not run: never in the prior's favour. None where seconds were
        taken under unlike conditions.
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

    def saved(self, place: Any, rival: Any) -> float:
        """Seconds an image by which ``place`` is quicker than ``rival``; 0 where it cannot be shown
        to be.
        """
        return (
            self.seconds[rival] - self.seconds[place]
            if self._most[place] < self._least[rival]
            else 0.0
        )

    def best(self, places: Iterable[Any]) -> Any:
        """The place with the least FID on the choosing split, None where that is not known; one
        alone is no choice.
        """
        candidates = list(places)
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        scored = [(self.score[p], p) for p in candidates if p in self.score]
        return min(scored)[1] if len(scored) == len(candidates) else None


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with excess, relative_nfe, relative_time, break_even and flag."""
    known = Chosen(table)
    oracle, rival, in_time, price = ({} for _ in range(4))
    for place in known.settings.index:
        oracle[place] = known.best(p for p in known.oracles if known.nfe(p) == known.nfe(place))
        rival[place] = known.rival(place)
        in_time[place] = known.in_time(place)
        as_good = [
            p for p in known.rivals if known.reported[p] <= known.reported[place]
        ]  # of as many samples
        price[place] = (
            min((known.saved(place, p) for p in as_good), default=None) if known.one_clock else None
        )

    table = table.copy()
    unseen = of_oracles(table)
    found = []
    for row in table.itertuples():
        if row.status != "ok" or row.split != "test":
            found.append(dict.fromkeys(ADDED, float("nan")) | {"flag": ""})
            continue
        place = tuple("" if value != value else value for value in (getattr(row, c) for c in PLACE))
        found.append(
            {
                "excess": row.fid - known.fid(oracle[place], row.seed),
                "relative_nfe": row.fid / known.fid(rival[place], row.seed),
                "relative_time": row.fid / known.fid(in_time[place], row.seed),
                "break_even": _break_even(row, price[place]),
                "flag": flag_of(row, unseen),
            }
        )
    table[ADDED] = pd.DataFrame(found, columns=ADDED, index=table.index)
    return table


def _break_even(row: Any, saved: float | None) -> float:
    """Samples after which fitting has paid, by the seconds saved an image; inf: never; NaN: no
    rival is as good.
    """
    if row.control or saved is None:
        return float("nan")
    return float(row.fit_seconds / saved) if saved > 0 else float("inf")


def best(table: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """For every NFE and prior, the setting that did best on the choosing split, with its test
    figures.

    ``rank`` counts, among contenders, those whose interval lies wholly below, so that overlapping
    ones share a rank; those with an :func:`unfair` flag or without an interval have none, nor those
    of one seed, whose interval knows nothing of how fits differ. A prior that was caught at storing
    or repeating in any setting is flagged in all. ``beats_noise`` is yes or no where the intervals
    of the prior and of the best solver from pure noise at the same NFE are apart, else undecided;
    ``beats_noise_in_time`` is by the interval of ``relative_time`` over seeds, and of one seed by
    those of the prior and of the best rival in its time.
    """
    known = Chosen(table)
    means = summary.assign(params=summary.params.fillna(""))
    means = reported(means).set_index(PLACE)
    splits = choosing(table).groupby("prior").split.first()
    caught = cheats(table)
    found = []
    for nfe in sorted(set(known.settings.nfe.astype(int))):
        here = [
            p
            for p in known.settings.index
            if known.nfe(p) == nfe and (p[0] != "noise" or p in known.rivals)
        ]
        for label in dict.fromkeys(p[:2] for p in here):
            mine = [p for p in here if p[:2] == label]
            place = known.best([p for p in mine if p not in known.failed] or mine)
            if place is None:
                continue
            row = means.loc[place]
            failed = known.failed.get(place, 0)
            said = [f"failed in {failed} of {failed + int(row['seeds'])} seeds"] if failed else []
            said += [f for f in row["flag"].split("; ") if f] + caught.get(label, [])
            found.append(
                {c: row[c] for c in BEST if c in means.columns}
                | dict(zip(PLACE, place, strict=True))
                | {"chosen_on": splits.get(label[0], ""), "nfe": nfe}
                | {"flag": "; ".join(dict.fromkeys(said))}
            )
    for row in found:
        here = [r for r in found if r["nfe"] == row["nfe"]]
        noise = next((r for r in here if r["prior"] == "noise"), None)
        if not row["control"]:
            if _ranked(row):
                row["rank"] = 1 + sum(r["fid_high"] < row["fid_low"] for r in here if _ranked(r))
            row["beats_noise"] = _answer(
                row, "fid", noise and noise["fid_low"], noise and noise["fid_high"]
            )
            row["beats_noise_in_time"] = _answer(row, "relative_time", 1.0, 1.0)
            rival = known.in_time(tuple(row[c] for c in PLACE)) if row["seeds"] == 1 else None
            if rival is not None:
                row["beats_noise_in_time"] = _answer(
                    row, "fid", *means.loc[rival, ["fid_low", "fid_high"]]
                )
    return pd.DataFrame(found).reindex(columns=BEST)


def _ranked(row: dict[str, Any]) -> bool:
    known = row["seeds"] > 1 and row["fid_low"] == row["fid_low"]
    return known and not row["control"] and not unfair(row["flag"])


def _answer(row: dict[str, Any], column: str, low: float | None, high: float | None) -> str:
    """Whether the row's interval lies below ``low``, above ``high`` or cannot be told from what
    lies between.
    """
    if low is None or high is None:
        return ""
    return (
        "yes"
        if row[f"{column}_high"] < low
        else "no"
        if row[f"{column}_low"] > high
        else "undecided"
    )

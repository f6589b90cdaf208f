"""The verdict of a run in one sentence: does any prior pay, which, at which t_trunc and how many
steps, how surely.

A setting pays where it beats the best solver from pure noise at equal NFE beyond the intervals
(``beats_noise``), is not shown to lose in equal time, and no flag is unfair. Of those that pay, the
one with the least FID on the choosing split is named. Of one seed the sentence is about that fit,
and says so: what another fit would score nobody knows.
"""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from .columns import PLACE, Row, contenders, reported, succeeded
from .flags import unfair
from .selection import Chosen
from .words import earned, plus_minus, times, where


@dataclass(frozen=True)
class Headline:
    """The sentence, whether a prior pays, the row of best.csv that it is about, (name, figure)
    pairs beside it, and what else there is to say."""

    sentence: str
    pays: bool = False
    row: Row | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    remark: str = ""


def headline(table: pd.DataFrame, best: pd.DataFrame) -> Headline:
    """The verdict of comparison.csv and best.csv."""
    ranked = reported(contenders(table))
    if not len(ranked):
        return Headline("No verdict: there is no contender in this run.")
    if not len(succeeded(ranked)):
        return Headline("No verdict: every contender failed.")
    rows: list[Row] = contenders(best).fillna({"params": "", "flag": ""}).to_dict("records")
    if not rows:
        return Headline(
            "No verdict: settings were not chosen on a split of their own.",
            remark=_peeked(ranked),
        )
    fair = [row for row in rows if not unfair(row["flag"])]
    if not fair:
        return Headline("No prior pays: every contender that did not fail is flagged.")
    paying = [row for row in fair if row["beats_noise"] == "yes" and _holds_in_time(row)]
    known = Chosen(table)
    if paying:
        row = _first(paying, known)
        return Headline(_pays(row), True, row, _facts(row, _noise(best, row)), _one_seed(row))
    compared = [row for row in fair if row["relative_nfe"] == row["relative_nfe"]]
    if not compared:
        return Headline(
            "No verdict against pure noise: no solver from pure noise has as many evaluations, or none could be chosen."
        )
    row = _nearest(compared, known)
    noise = _noise(best, row)
    return Headline(_pays_not(row, noise, fair), False, row, _facts(row, noise), _one_seed(row))


def _holds_in_time(row: Row) -> bool:
    """Not shown to lose in equal time, nor (where one seed has no interval) behind by the figure
    itself.
    """
    return row["beats_noise_in_time"] != "no" and not row["relative_time"] >= 1


def _first(rows: list[Row], known: Chosen) -> Row:
    """The least FID on the choosing split; on the test split where not every row was scored, there
    being no choice.
    """
    scores = [known.score.get(_place(row)) for row in rows]
    return _least(rows, scores, "fid")


def _nearest(rows: list[Row], known: Chosen) -> Row:
    """The least FID over that of the best rival at equal NFE, both on the choosing split; on the
    test split where not every row and rival was scored, there being no choice.
    """
    scores = []
    for row in rows:
        mine, rival = (known.score.get(p) for p in (_place(row), known.rival(_place(row))))
        scores.append(mine / rival if mine is not None and rival else None)
    return _least(rows, scores, "relative_nfe")


def _least(rows: list[Row], scores: list[float | None], reported: str) -> Row:
    """The row of the least score, or of the least ``reported`` figure where not all have a score."""
    known = [score for score in scores if score is not None]
    values = known if len(known) == len(rows) else [float(row[reported]) for row in rows]
    return min(zip(values, rows, strict=True), key=lambda pair: pair[0])[1]


def _place(row: Row) -> Any:
    return tuple(row[c] for c in PLACE)


def _noise(best: pd.DataFrame, row: Row) -> Row | None:
    """Pure noise by its best solver in as many evaluations."""
    found = best[(best.prior == "noise") & (best.nfe == row["nfe"])].to_dict("records")
    return found[0] if found else None


def _pays(row: Row) -> str:
    cost = "equal cost" if row["beats_noise_in_time"] == "yes" else "equal NFE"
    ratios = [row["relative_nfe"], *([row["relative_time"]] if cost == "equal cost" else [])]
    better = f"{times(1 / max(ratios))} times better than" if max(ratios) > 0 else "better than"
    quick = f"; {times(row['speedup'])}x faster than the full chain" if row["speedup"] > 1 else ""
    return f"{where(row)}: FID {plus_minus(row)}, {better} the best solver from pure noise at {cost}{quick}."


def _pays_not(row: Row, noise: Row | None, fair: list[Row]) -> str:
    against = (
        f" against {plus_minus(noise)} of the best solver from pure noise at equal NFE"
        if noise
        else ""
    )
    nearest = f"{where(row)}: FID {plus_minus(row)}{against}"
    if row["beats_noise"] == "yes":
        lost = "is lost" if row["beats_noise_in_time"] == "no" else "is not shown to last"
        return f"No prior pays. The nearest is {nearest}; what is gained at equal NFE {lost} in equal time."
    if any(r["beats_noise"] == "undecided" for r in fair):
        known = row["fid_low"] == row["fid_low"]
        why = (
            "their intervals do not decide it"
            if known
            else "there are no intervals to decide it by"
        )
        return f"No prior is shown to pay. The nearest is {nearest}; {why}."
    return f"No prior pays. The nearest is {nearest}."


def _one_seed(row: Row) -> str:
    if row["seeds"] > 1:
        return ""
    return "One seed neither tells what other fits would score nor ranks the priors; --seeds 3 or more would."


def _peeked(ranked: pd.DataFrame) -> str:
    """What can be said all the same, with what is wrong with it."""
    good = succeeded(ranked)
    good = good[~good.flag.map(unfair)].dropna(subset="fid")
    if not len(good):
        return "Every contender is flagged."
    row = good.loc[good.fid.idxmin()].to_dict()
    return f"The least of the reported FIDs, and so too good by the choice, is {row['fid']:.3g}: {where(row)}."


def _facts(row: Row, noise: Row | None) -> list[tuple[str, str]]:
    """What the sentence leaves out, each as a name and a figure."""
    found = [(f"FID, 95 % interval{' of this fit' if row['seeds'] == 1 else ''}", plus_minus(row))]
    found += [("pure noise, equal NFE", plus_minus(noise))] if noise else []
    found += [
        (f"FID ÷ pure noise, {cost}", plus_minus(row, column))
        for column, cost in (("relative_nfe", "equal NFE"), ("relative_time", "equal time"))
        if row[column] == row[column]
    ]
    found += (
        [("above the oracle", plus_minus(row, "excess"))] if row["excess"] == row["excess"] else []
    )
    found += (
        [("fit", f"{row['fit_seconds']:.3g} s")] if row["fit_seconds"] == row["fit_seconds"] else []
    )
    return [*found, ("fit earned back", earned(row["break_even"]))]

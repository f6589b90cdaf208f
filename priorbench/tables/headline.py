"""The verdict of a run in one sentence: does any prior pay, which one, where, how surely?

A setting pays if it is shown to beat the best solver from pure noise at equal NFE
(``beats_noise``), is not shown to lose in equal time, and has no flag that is unfair. Of the
settings that pay, the sentence is about the one with the least FID on the choosing split and those
with as many evaluations that are not shown to be worse: all of them are named, the cheapest to fit
first. With one seed the sentence is about these fits alone and says so: nobody knows what other
fits would score. Where the figures speak of the backbone (:mod:`.doubt`), that comes first. Of
several budgets of the fit, each has a sentence of its own.
"""

import math
from dataclasses import dataclass, field, replace

import pandas as pd

from .columns import LABEL, Row, contenders, reported, succeeded
from .contest import level, place_of
from .doubt import doubt
from .flags import unfair
from .learning import STILL
from .selection import Chosen
from .words import brief, budgeted, earned, named, plus_minus, times, where


@dataclass(frozen=True)
class Headline:
    """The verdict.

    Attributes:
        sentence: the verdict itself.
        pays: whether a prior pays.
        row: the row of best.csv that the sentence is about.
        facts: (name, figure) pairs to show beside it.
        remark: what limits the verdict.
        learning: whose fits ended too early to tell.
        others: the verdicts of the other budgets, if there are several.
        doubt: why the figures speak of the backbone more than of the priors; usually empty.
    """

    sentence: str
    pays: bool = False
    row: Row | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    remark: str = ""
    learning: str = ""
    others: list[str] = field(default_factory=list)
    doubt: str = ""

    @property
    def doubted(self) -> str:
        """The doubt as a sentence, or nothing."""
        said = f"This run measures its backbone more than its priors: {self.doubt}."
        return said if self.doubt else ""

    @property
    def words(self) -> str:
        """The doubt, if there is one, the sentence, what limits it, and the other budgets."""
        limits = [self.remark, self.learning]
        return " ".join(filter(None, [self.doubted, self.sentence, *limits, *self.others]))


def headline(table: pd.DataFrame, best: pd.DataFrame) -> Headline:
    """The verdict of comparison.csv and best.csv."""
    found = _verdict(table, best)
    rows = best.fillna({"fit_budget": ""}).groupby("fit_budget", sort=False)
    if found.row and len(rows) > 1:
        mine = found.row["fit_budget"]
        each = {budget: _verdict(table, part) for budget, part in rows if budget != mine}
        others = [f"{budgeted(b)}: {v.sentence} {v.learning}".strip() for b, v in each.items()]
        found = replace(found, sentence=f"{budgeted(mine)}: {found.sentence}", others=others)
    return replace(found, doubt=doubt(table))


def _verdict(table: pd.DataFrame, best: pd.DataFrame) -> Headline:
    ranked = reported(contenders(table))
    if not len(ranked):
        return Headline("No verdict: there is no contender in this run.")
    if not len(succeeded(ranked)):
        return Headline("No verdict: every contender failed.")
    empty = {"params": "", "fit_budget": "", "flag": ""}
    rows: list[Row] = contenders(best).fillna(empty).to_dict("records")
    if not rows:
        return Headline(
            "No verdict: settings were not chosen on a split of their own.", remark=_peeked(ranked)
        )
    fair = [row for row in rows if not unfair(row["flag"])]
    if not fair:
        return Headline("No prior pays: every contender that did not fail is flagged.")
    return _of_fair(fair, best, table)


def _of_fair(fair: list[Row], best: pd.DataFrame, table: pd.DataFrame) -> Headline:
    """The verdict where some rows have no unfair flag."""
    known = Chosen(table)
    paying = [row for row in fair if row["beats_noise"] == "yes" and _holds_in_time(row)]
    compared = [row for row in fair if row["relative_nfe"] == row["relative_nfe"]]
    if not paying and not compared:
        return Headline(
            "No verdict against pure noise: no solver from pure noise has as many evaluations, "
            "or none could be chosen."
        )
    if paying:
        tied = _tied(_first(paying, known), paying, known)
        row, sentence = tied[0], _pays(tied)
    else:
        row = _nearest(compared, known)
        sentence = _pays_not(row, _noise(best, row), fair, table)
    facts = _facts(row, _noise(best, row))
    return Headline(
        sentence, bool(paying), row, facts, _one_seed(row), learning=_more_fitting(row, fair)
    )


def _holds_in_time(row: Row) -> bool:
    """Whether the gain lasts in equal time: not shown lost, and the ratio itself is below 1."""
    return row["beats_noise_in_time"] != "no" and not row["relative_time"] >= 1


def _first(rows: list[Row], known: Chosen) -> Row:
    """The row with the least FID on the choosing split."""
    return _least(rows, [known.score.get(place_of(row)) for row in rows], "fid")


def _tied(first: Row, paying: list[Row], known: Chosen) -> list[Row]:
    """The paying rows beside ``first`` that none is shown to beat, cheapest fit first."""
    here = [row for row in paying if _beside(row, first)]
    ranks = [row["rank"] for row in here if row["rank"] == row["rank"]]
    if ranks:
        tied = [row for row in here if row["rank"] == min(ranks)]
    else:  # one seed: nothing but these fits is compared
        kept = level(place_of(first), [place_of(row) for row in here], known)
        tied = [row for row in here if place_of(row) in kept]
    return sorted(tied, key=lambda row: (math.isnan(row["fit_seconds"]), row["fit_seconds"]))


def _nearest(rows: list[Row], known: Chosen) -> Row:
    """The row whose FID is the smallest multiple of its rival's, both on the choosing split."""
    scores = []
    for row in rows:
        rival = known.rival(place_of(row))
        mine, theirs = known.score.get(place_of(row)), known.score.get(rival) if rival else None
        scores.append(mine / theirs if mine is not None and theirs else None)
    return _least(rows, scores, "relative_nfe")


def _least(rows: list[Row], scores: list[float | None], column: str) -> Row:
    """The row with the least score, or with the least test figure if a score is missing.

    A score is missing only where there was nothing to choose between.
    """
    known = [score for score in scores if score is not None]
    values = known if len(known) == len(rows) else [float(row[column]) for row in rows]
    return min(zip(values, rows, strict=True), key=lambda pair: pair[0])[1]


def _beside(row: Row, other: Row) -> bool:
    """Whether two rows have the same NFE and budget."""
    return all(row[name] == other[name] for name in ("nfe", "fit_budget"))


def _noise(best: pd.DataFrame, row: Row) -> Row | None:
    """Pure noise by its best solver with the row's NFE."""
    rows = best[best.prior == "noise"].fillna({"fit_budget": ""}).to_dict("records")
    return next((found for found in rows if _beside(found, row)), None)


def _pays(tied: list[Row]) -> str:
    """What the first row gains, after the names of all that it is level with."""
    row = tied[0]
    cost = "equal cost" if row["beats_noise_in_time"] == "yes" else "equal NFE"
    ratios = [row["relative_nfe"], *([row["relative_time"]] if cost == "equal cost" else [])]
    better = f"{times(1 / max(ratios))} times better than" if max(ratios) > 0 else "better than"
    quick = f"; {times(row['speedup'])}x faster than the full chain" if row["speedup"] > 1 else ""
    gain = f"{better} the best solver from pure noise at {cost}{quick}"
    if len(tied) == 1:
        return f"{where(row)}: FID {plus_minus(row)}, {gain}."
    names = [
        f"{named(*(r[c] for c in LABEL))} ({plus_minus(r)}, fitted in {brief(r['fit_seconds'])} s)"
        for r in tied
    ]
    return (
        f"{len(names)} priors are level at NFE {int(row['nfe'])}, the cheapest to fit first: "
        f"{', '.join(names)}. {where(row)}: {gain}."
    )


def _pays_not(row: Row, noise: Row | None, fair: list[Row], table: pd.DataFrame) -> str:
    nearest = f"{where(row)}: FID {plus_minus(row)}"
    if noise:
        nearest += f" against {plus_minus(noise)} of the best solver from pure noise at equal NFE"
    if row["beats_noise"] == "yes":
        lost = "is lost" if row["beats_noise_in_time"] == "no" else "is not shown to last"
        return (
            f"No prior pays. The nearest is {nearest}; its gain at equal NFE {lost} in equal time."
        )
    if any(r["beats_noise"] == "undecided" for r in fair):
        known = row["difference_low"] == row["difference_low"]
        why = "the difference may be chance" if known else _no_intervals(row, table)
        return f"No prior is shown to pay. The nearest is {nearest}; {why}."
    return f"No prior pays. The nearest is {nearest}."


def _no_intervals(row: Row, table: pd.DataFrame) -> str:
    """Why there is no interval to decide it, and what would give one."""
    good = reported(succeeded(table))
    features, images = good.features.max(), good.n_reference.max()
    least = 2 * features + 2
    if row["seeds"] > 1 or not least > min(row["n_samples"], images):
        return "there are no intervals to decide it"
    missing = {"samples": row["n_samples"], "test images": images}
    few = [f"it has {n:.0f} {what}" for what, n in missing.items() if n < least]
    return (
        f"there are no intervals to decide it, since with {features:.0f} features they take "
        f"{least:.0f} samples and as many test images, or several seeds, and {' and '.join(few)}"
    )


def _one_seed(row: Row) -> str:
    if row["seeds"] > 1:
        return ""
    return (
        "One seed says nothing about what other fits would score, and ranks no prior; "
        "--seeds 3 or more would."
    )


def _more_fitting(row: Row, fair: list[Row]) -> str:
    """Who might do better after a longer fit, among those with as many evaluations."""
    here = [r for r in fair if _beside(r, row) and r["learning"] == STILL]
    names = [named(*(r[c] for c in LABEL)) for r in here]
    are = "was" if len(names) == 1 else "were"
    return (
        f"{', '.join(names)} {are} {STILL} when the fit ended: more fitting may change the order."
        if names
        else ""
    )


def _peeked(ranked: pd.DataFrame) -> str:
    """What can still be said, and what is wrong with it."""
    good = succeeded(ranked)
    good = good[~good.flag.map(unfair)].dropna(subset="fid")
    if not len(good):
        return "Every contender is flagged."
    row = good.loc[good.fid.idxmin()].to_dict()
    return (
        "The least of the reported FIDs, which is too low because it was picked by itself, is "
        f"{row['fid']:.3g}: {where(row)}."
    )


def _facts(row: Row, noise: Row | None) -> list[tuple[str, str]]:
    """(name, figure) pairs that the sentence leaves out."""
    found = [(f"FID, 95 % interval{' of this fit' if row['seeds'] == 1 else ''}", plus_minus(row))]
    if noise:
        found.append(("pure noise, equal NFE", plus_minus(noise)))
    for column, name in (
        ("relative_nfe", "FID ÷ pure noise, equal NFE"),
        ("relative_time", "FID ÷ pure noise, equal time"),
        ("relative_flops", "FID ÷ pure noise, equal operations"),
        ("excess", "above the oracle"),
    ):
        if row[column] == row[column]:
            found.append((name, plus_minus(row, column)))
    if row["fit_seconds"] == row["fit_seconds"]:
        found.append(("fit", f"{row['fit_seconds']:.3g} s"))
    return [*found, ("fit earned back", earned(row["break_even"], row["relative_time"]))]

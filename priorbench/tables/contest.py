"""Who is shown to be better than whom: ranks, and the verdicts against pure noise.

Every answer is about a difference of FIDs that is paired by seed: both priors of a seed meet the
same noise in the chain and the same test images, so what these do to both cancels. How surely a
difference is known is told by :mod:`.intervals`, and every answer is corrected for how many
differences are looked at with it:

* ``rank``: all pairs of contenders at one NFE, with one budget.
* ``beats_noise`` and ``beats_noise_in_time``: all contenders at all NFE, with all budgets, since
  the verdict may be about any of them.
"""

from collections.abc import Iterable
from itertools import chain, combinations
from typing import Any

from .columns import PLACE, Row
from .flags import unfair
from .intervals import LEVEL, Law, Mean, distinct, holm
from .selection import FITTED, Chosen, Place
from .stability import Stability

Pair = tuple[Place, Place]


class Contest:
    """Differences between settings, all of them under one law of how much seeds vary.

    Arguments:
        known: the settings.
        pairs: those that will be compared.
    """

    def __init__(self, known: Chosen, pairs: Iterable[Pair]) -> None:
        self.seeds = seeds = {pair: known.paired(*pair) for pair in dict.fromkeys(pairs)}
        once = distinct(seeds)
        fits = {p[FITTED]: len(known.seeds(p).values) - 1 for pair in once for p in pair}
        # The differences of k fits have the seeds of k - 1 of them.
        most = sum(fits.values()) - max(fits.values(), default=0)
        law = Law.of(once.values(), most)
        stability = Stability.of({place: known.seeds(place) for place in known.fresh})
        self.differences: dict[Pair, Mean] = {
            pair: s.mean(stability.law_for(*pair, law=law)) for pair, s in seeds.items()
        }

    def shown(self, pairs: list[Pair]) -> list[tuple[str, float]]:
        """For each pair of a family (answer, p).

        The answer is ``less`` or ``more`` where the first has a FID that is shown to differ, else
        ``undecided``; p is corrected for the size of the family. What is the same to the last digit
        counts once: a closed form scores the same with every budget.
        """
        keys = [tuple(self.seeds[pair].values) for pair in pairs]
        means = dict(zip(keys, (self.differences[pair] for pair in pairs), strict=True))
        ps = dict(zip(means, holm([mean.p for mean in means.values()]), strict=True))
        return [(_answer(means[key].value, ps[key]), ps[key]) for key in keys]


def _answer(difference: float, p: float) -> str:
    if not p <= 1 - LEVEL:  # it may be unknown
        return "undecided"
    return "less" if difference < 0 else "more"


def decide(rows: list[Row], known: Chosen) -> None:
    """Add ``rank`` and the verdicts against pure noise to the contenders among ``rows``.

    Arguments:
        rows: of best.csv, each with its PLACE, ``nfe``, ``seeds``, ``control`` and ``flag``.
    """
    contenders = [row for row in rows if not row["control"]]
    evenly = [(place, known.rival(place)) for place in map(place_of, contenders)]
    in_time = [(place, known.in_time(place)) for place in map(place_of, contenders)]
    ranked: dict[Any, list[Row]] = {}
    for row in filter(is_ranked, contenders):
        ranked.setdefault((row["fit_budget"], row["nfe"]), []).append(row)
    pairs = {at: list(combinations(map(place_of, group), 2)) for at, group in ranked.items()}
    rivals = [(place, rival) for place, rival in (*evenly, *in_time) if rival]
    contest = Contest(known, [*rivals, *chain.from_iterable(pairs.values())])
    _against_noise(contenders, evenly, contest, "beats_noise")
    _against_noise(contenders, in_time, contest, "beats_noise_in_time")
    for at, group in ranked.items():
        _rank(group, pairs[at], contest)


def _against_noise(
    rows: list[Row], meetings: list[tuple[Place, Place | None]], contest: Contest, column: str
) -> None:
    """Add the answer, its p, and the difference with the ends of its 95 % interval."""
    found = iter(contest.shown([(place, rival) for place, rival in meetings if rival]))
    for row, (place, rival) in zip(rows, meetings, strict=True):
        if rival is None:
            row[column] = "" if column == "beats_noise" else "undecided"
            continue
        answer, row[f"{column}_p"] = next(found)
        row[column] = {"less": "yes", "more": "no"}.get(answer, answer)
        difference = contest.differences[place, rival]
        if column == "beats_noise":
            row["difference"] = difference.value
            row["difference_low"], row["difference_high"] = difference.ends


def _rank(rows: list[Row], pairs: list[Pair], contest: Contest) -> None:
    """1 plus the number of contenders that are shown to be better."""
    better: dict[Place, int] = {}
    for (a, b), (answer, _) in zip(pairs, contest.shown(pairs), strict=True):
        worse = {"less": b, "more": a}.get(answer)
        if worse:
            better[worse] = better.get(worse, 0) + 1
    for row in rows:
        row["rank"] = 1 + better.get(place_of(row), 0)


def level(first: Place, others: list[Place], known: Chosen) -> list[Place]:
    """Those of ``others`` whose FIDs are not shown to be higher than that of ``first``."""
    pairs = [(first, other) for other in others if other != first]
    answers = Contest(known, pairs).shown(pairs)
    higher = {
        other for (_, other), (answer, _) in zip(pairs, answers, strict=True) if answer == "less"
    }
    return [other for other in others if other not in higher]


def place_of(row: Row) -> Place:
    """The setting of a row."""
    return tuple("" if row[c] != row[c] else row[c] for c in PLACE)


def is_ranked(row: Row) -> bool:
    """Whether a row of best.csv is a fair contender's, of more than one seed."""
    known = row["seeds"] > 1 and row["fid_low"] == row["fid_low"]
    return bool(known and not row["control"] and not unfair(row["flag"]))

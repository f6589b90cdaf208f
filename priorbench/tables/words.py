"""Figures as phrases: every number that becomes text becomes it here."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ..plan.choice import label_of
from .columns import LABEL, Row, contenders
from .flags import unfair

NEVER = 1e12  # a break-even beyond this many images is never reached


def named(prior: Any, params: Any) -> str:
    """``ot[width=64]``."""
    return label_of(str(prior), params if isinstance(params, str) else "")


def where(row: Row) -> str:
    """``ot at t_trunc = 200, 5 steps of dpm++``.

    Adds the NFE where it is not the number of steps, and ``this fit (one seed)`` for one seed.
    """
    steps, nfe = int(row["steps"]), int(row["nfe"])
    cost = f" (NFE {nfe})" if nfe != steps else ""
    fit = ", this fit (one seed)" if row.get("seeds") == 1 else ""
    return (
        f"{named(*(row[c] for c in LABEL))} at t_trunc = {int(row['t_trunc'])}, "
        f"{steps} {'step' if steps == 1 else 'steps'} of {row['solver']}{cost}{fit}"
    )


def budgeted(budget: str) -> str:
    """``Fitted in 60s``, or ``Fitted in as many steps as each prior takes by itself``."""
    return f"Fitted in {budget or 'as many steps as each prior takes by itself'}"


def brief(seconds: float) -> str:
    """Two digits, or as many as a whole number has: 0.0012, 9.9, 300."""
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"


def plus_minus(row: Row, column: str = "fid") -> str:
    """``5.41 ± 0.28``: the mean and half its 95 % interval, to two figures of the latter."""
    value, half = row[column], (row[f"{column}_high"] - row[f"{column}_low"]) / 2
    if half != half:
        return f"{value:.3g}"
    digits = max(0, min(6, 1 - int(f"{half:e}".partition("e")[2]))) if half > 0 else 2
    return f"{value:.{digits}f} ± {half:.{digits}f}"


def floor(rows: pd.DataFrame) -> str:
    """``1.03 ± 0.06``: the FID of training images, with half its 95 % interval if rows have it."""
    value, half = rows.fid_floor.mean(), 1.96 * rows.fid_floor_se.mean()
    return plus_minus(
        {"floor": value, "floor_low": value - half, "floor_high": value + half}, "floor"
    )


def warnings(rows: pd.DataFrame) -> list[str]:
    """The warnings of rows, each of them once."""
    each = [warning for joined in rows.warning.fillna("") for warning in joined.split("; ")]
    return list(dict.fromkeys(filter(None, each)))


def times(factor: float) -> str:
    """5.93 as ``5.9``, 12.3 as ``12``."""
    return f"{factor:.1f}" if factor < 9.95 else f"{factor:.0f}"


def earned(images: float, relative_time: float = 1.0) -> str:
    """A break-even in words: ``after 1,200 images``, ``never``, ``no rival is as good``.

    It is ``unknown`` where ``relative_time`` is missing too: no rival could be timed, or chosen.
    """
    if images != images:
        return "no rival is as good" if relative_time == relative_time else "unknown"
    if images > NEVER:
        return "never"
    return f"after {max(images, 1):,.0f} image{'s' if images >= 1.5 else ''}"


def in_words(best: pd.DataFrame) -> list[str]:
    """What best.csv says of the contenders, in sentences.

    One for each contender, on where it beats the best fast solver from pure noise, and one for each
    NFE, on who is first; the same for each budget of the fit.
    """
    ranked = contenders(best).fillna({"fit_budget": ""})
    found = []
    for budget, rows in ranked.groupby("fit_budget", sort=False):
        said = [*_against_noise(rows), *_firsts(rows)]
        several = ranked.fit_budget.nunique() > 1
        found += [f"{budgeted(budget)}: {sentence}" if several else sentence for sentence in said]
    return found


def _against_noise(ranked: pd.DataFrame) -> Iterator[str]:
    for (prior, params), rows in ranked.groupby(LABEL, sort=False):
        name = named(prior, params) + (" (this fit)" if (rows.seeds == 1).any() else "")
        name += " (flagged)" if rows.flag.map(unfair).any() else ""
        parts = [
            f"{cost} {', '.join(answers)}"
            for column, cost in (
                ("beats_noise", "at equal NFE"),
                ("beats_noise_in_time", "in equal time"),
            )
            if (answers := list(_answers(rows, column)))
        ]
        if parts:
            yield f"{name} against the best solver from pure noise: {'; '.join(parts)}."


def _answers(rows: pd.DataFrame, column: str) -> Iterator[str]:
    """``wins at NFE 1, 2``, ``loses at NFE 5``."""
    for answer, verb in (("yes", "wins"), ("no", "loses"), ("undecided", "undecided")):
        if len(nfe := rows[rows[column] == answer].nfe):
            yield f"{verb} at NFE {', '.join(map(str, nfe))}"


def _firsts(ranked: pd.DataFrame) -> Iterator[str]:
    for nfe, rows in ranked.groupby("nfe"):
        names = [named(r.prior, r.params) for r in rows[rows["rank"] == 1].itertuples()]
        tie = " (no difference between them is shown)" if len(names) > 1 else ""
        if names:
            yield f"First at NFE {nfe}: {', '.join(names)}{tie}."

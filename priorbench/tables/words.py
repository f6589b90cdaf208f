"""Figures as phrases: every number that becomes text does so here."""

from typing import Any

import pandas as pd

from .columns import LABEL, Row, contenders


def where(row: Row) -> str:
    """``ot at t_trunc = 200, 5 steps of dpm++``; with the NFE where it is another, and of one seed
    ``, this fit``.
    """
    steps, nfe = int(row["steps"]), int(row["nfe"])
    return (
        f"{named(*(row[c] for c in LABEL))} at t_trunc = {int(row['t_trunc'])}, "
        f"{steps} {'step' if steps == 1 else 'steps'} of {row['solver']}"
        f"{f' (NFE {nfe})' if nfe != steps else ''}{', this fit (one seed)' if row.get('seeds') == 1 else ''}"
    )


def plus_minus(row: Row, column: str = "fid") -> str:
    """``5.41 ± 0.28``: the mean and half its 95 % interval, to the half's second figure."""
    value, half = row[column], (row[f"{column}_high"] - row[f"{column}_low"]) / 2
    if half != half:
        return f"{value:.3g}"
    digits = max(0, min(6, 1 - int(f"{half:e}".partition("e")[2]))) if half > 0 else 2
    return f"{value:.{digits}f} ± {half:.{digits}f}"


def floor(rows: pd.DataFrame) -> str:
    """``1.03 ± 0.06``: FID of as many training images, and half its 95 % interval where rows have
    its error.
    """
    value, half = rows.fid_floor.mean(), 1.96 * rows.fid_floor_se.mean()
    return plus_minus(
        {"floor": value, "floor_low": value - half, "floor_high": value + half}, "floor"
    )


def warnings(rows: pd.DataFrame) -> list[str]:
    """What rows warn of, each thing once."""
    return list(
        dict.fromkeys(
            said for every in rows.warning.fillna("") for said in every.split("; ") if said
        )
    )


def times(factor: float) -> str:
    """5.93 as ``5.9``, 12.3 as ``12``."""
    return f"{factor:.1f}" if factor < 9.95 else f"{factor:.0f}"


def earned(samples: float) -> str:
    """A break-even in words."""
    if samples != samples:
        return "no rival is as good"
    return (
        "never"
        if samples > 1e12
        else f"after {max(samples, 1):,.0f} image{'s' if samples >= 1.5 else ''}"
    )


def named(prior: Any, params: Any) -> str:
    """``ot[projections=64]``."""
    return f"{prior}[{params}]" if isinstance(params, str) and params else str(prior)


def in_words(best: pd.DataFrame) -> list[str]:
    """A sentence a contender: where it beats the best fast solver from pure noise, and where it
    does not.

    Of one seed it is about this fit alone.
    """
    ranked = contenders(best)
    sentences = []
    for (prior, params), rows in ranked.groupby(LABEL, sort=False):
        name = named(prior, params) + (" (this fit)" if (rows.seeds == 1).any() else "")
        name += " (flagged)" if (rows.flag.fillna("") != "").any() else ""
        parts = []
        for column, cost in (
            ("beats_noise", "at equal NFE"),
            ("beats_noise_in_time", "in equal time"),
        ):
            said = [
                f"{word} at NFE {', '.join(str(n) for n in rows[rows[column] == answer].nfe)}"
                for answer, word in (("yes", "wins"), ("no", "loses"), ("undecided", "undecided"))
                if (rows[column] == answer).any()
            ]
            parts += [f"{cost} {', '.join(said)}"] if said else []
        if parts:
            sentences.append(f"{name} against the best solver from pure noise: {'; '.join(parts)}.")
    for nfe, rows in ranked.groupby("nfe"):
        names = [named(r.prior, r.params) for r in rows[rows["rank"] == 1].itertuples()]
        tie = " (their intervals overlap)" if len(names) > 1 else ""
        sentences += [f"First at NFE {nfe}: {', '.join(names)}{tie}."] if names else []
    return sentences

"""Flags: what a prior is caught doing, and which flags keep a setting from winning.

Thresholds are in units of the noise where a column has a standard error. Comparisons with NaN are
false, so a figure that is missing flags nothing.
"""

from math import inf
from typing import Any

import pandas as pd

from ..plan.budget import size
from .columns import WHERE, reported, succeeded

STORED = 0.2  # the least index of stored images that is flagged, if it is 3 standard errors as well
NEARER = 1.15  # how many times nearer to one split samples must be than unseen or far images are
COPIES = 0.1  # how far authenticity must fall short of that of unseen images
NOISE = 0.05  # how far the noise level of x_t must be off
FAR = 0.2  # how far it is off where x_t is too far from all images to tell which are stored

DISTINCT = 0.99  # the share of samples that must not repeat another
VARIES = 0.1  # samples of less than this share of the real variance are near each other anyway

OVERRUN = 1.25  # times its budget, and a second, that a fit may take: a step may be long

# A prior caught at one of these in one setting is flagged in all of the same budget: with less or
# more time to fit it is another generator.
CHEATS = ("memorises", "holds", "nearer", "repeats")
# Too little noise is an advantage wherever it is found; too much is a fault that brings none. More
# time to fit than others had is an advantage too. The mean over the seeds that succeeded is not a
# mean over seeds.
UNFAIR = (*CHEATS, "less noise", "fails checks", "failed in", "over its budget")

Unseen = dict[Any, tuple[float, float]]


def of_oracles(table: pd.DataFrame) -> Unseen:
    """Authenticity and neighbour ratio of the oracle's rows, by t_trunc, solver and steps.

    They show what the frozen model makes of images that it has not seen.
    """
    good = reported(succeeded(table[table.prior == "oracle"]))
    means = good.groupby(WHERE)[["authenticity", "neighbour_ratio"]].mean()
    return {row.Index: (row.authenticity, row.neighbour_ratio) for row in means.itertuples()}


def flag_of(row: Any, unseen: Unseen) -> str:
    """The flags of a row of comparison.csv, joined by "; "; usually empty."""
    authentic, ratio = unseen.get((row.t_trunc, row.solver, row.steps), (1.0, 1.0))
    usual = min(row.authenticity_test, authentic)
    copies = row.authenticity < usual - COPIES - 1.5 / row.n_samples**0.5
    stored = _stored(row)
    found = ["memorises training images"] if copies or "train" in stored else []
    found += [f"holds {split} images" for split in stored if split != "train"]
    found += _nearer(row, ratio)
    if row.distinct < DISTINCT:
        found.append("hardly varies" if row.variation < VARIES else "repeats samples")
    if abs(row.noise_xt - 1) > max(NOISE, 4 * row.noise_se):
        found.append(f"{'more' if row.noise_xt > 1 else 'less'} noise than x_{row.t_trunc}")
    if row.fit_seconds > OVERRUN * _seconds(row.fit_budget) + 1:
        found.append(f"over its budget of {row.fit_budget}")
    failed = _failed_checks(row)
    return "; ".join([*found, f"fails checks: {', '.join(failed)}"] if failed else found)


def _seconds(budget: Any) -> float:
    """Those of a budget of seconds; infinite for any other, and for none."""
    seconds, *_ = size(budget if isinstance(budget, str) else "")
    return seconds or inf


def _stored(row: Any) -> list[str]:
    """The splits whose images the prior stores.

    Far from every image, the indices of x_t compare nothing but the sizes of the splits. Clean
    images are never far.
    """
    if row.emits != "x_0" and abs(row.noise_xt - 1) > FAR:
        return []
    least = max(STORED, 3 * row.stored_se)
    return [s for s in ("train", "validation", "test") if getattr(row, f"stored_{s}") > least]


def _nearer(row: Any, ratio: float) -> list[str]:
    # Samples far from every image are equally near to both splits: their ratio is 1.
    usual, slack = [1.0, row.neighbour_ratio_validation, ratio], 4 * row.neighbour_ratio_se
    if row.neighbour_ratio > NEARER * max(usual) + slack:
        return ["nearer to test images than unseen ones are"]
    if row.neighbour_ratio < min(usual) / NEARER - slack:
        return ["nearer to training images than unseen ones are"]
    return []


def _failed_checks(row: Any) -> list[str]:
    """The failed checks, without "fit".

    A check whose small fit raised was not made: the hyperparameters may be meant for larger images.
    """
    return [c for c in str(row.failed_checks or "").split(", ") if c not in ("", "nan", "fit")]


def unfair(flag: Any) -> bool:
    """Whether a flag keeps a setting from winning."""
    return isinstance(flag, str) and any(part.startswith(UNFAIR) for part in flag.split("; "))


def cheats(table: pd.DataFrame) -> dict[tuple[str, str, str], list[str]]:
    """What each prior was caught doing in any setting, by its label and budget."""
    found: dict[tuple[str, str, str], list[str]] = {}
    rows = table[["prior", "params", "fit_budget", "flag"]].fillna("")
    for row in rows[rows.flag != ""].itertuples():
        caught = found.setdefault((row.prior, row.params, row.fit_budget), [])
        new = [f for f in row.flag.split("; ") if f.startswith(CHEATS) and f not in caught]
        caught += new
    return found

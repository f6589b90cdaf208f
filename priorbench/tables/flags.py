"""Flags: what a prior is caught at, and which of it keeps a setting from winning."""

from typing import Any

import pandas as pd

from .columns import WHERE, reported, succeeded

STORED = 0.2  # an index of stored images from which on a prior is flagged, if it is three standard errors too
NEARER = 1.15  # by such a factor samples have to be nearer to a split than unseen images, or any that are far, are
COPIES = 0.1  # by so much authenticity has to fall short of unseen images'
NOISE = 0.05  # by so much the noise level of x_t has to be off
FAR = 0.2  # by so much it is off where an x_t is too far from every image to tell what is stored


# Caught at these in one setting, a prior is flagged in all. Less noise than x_t has is an advantage
# where it is found; more of it is a fault that brings none. A mean over the seeds that went well is
# no mean over seeds.
CHEATS = ("memorises", "holds", "nearer", "repeats")
UNFAIR = (*CHEATS, "less noise", "fails checks", "failed in")


def of_oracles(table: pd.DataFrame) -> dict[Any, tuple[float, float]]:
    """What the frozen model makes of unseen images: authenticity and neighbour ratio by t_trunc,
    solver and steps.
    """
    good = reported(succeeded(table[table.prior == "oracle"]))
    means = good.groupby(WHERE)[["authenticity", "neighbour_ratio"]].mean()
    return {row.Index: (row.authenticity, row.neighbour_ratio) for row in means.itertuples()}


def flag_of(row: Any, of_oracles: dict[Any, tuple[float, float]]) -> str:
    """What a prior is caught at; mostly nothing. Comparisons with NaN are false, as they should be."""
    authentic, ratio = of_oracles.get((row.t_trunc, row.solver, row.steps), (1.0, 1.0))
    copies = (
        row.authenticity < min(row.authenticity_test, authentic) - COPIES - 1.5 / row.n_samples**0.5
    )
    held = _held(row)
    found = ["memorises training images"] if copies or "train" in held else []
    found += [f"holds {split} images" for split in held if split != "train"]
    # Samples far from every image are as near to one split as to the other: their ratio is 1.
    usual = [1.0, row.neighbour_ratio_validation, ratio]
    if row.neighbour_ratio > NEARER * max(usual) + 4 * row.neighbour_ratio_se:
        found.append("nearer to test images than unseen ones are")
    if row.neighbour_ratio < min(usual) / NEARER - 4 * row.neighbour_ratio_se:
        found.append("nearer to training images than unseen ones are")
    if row.distinct < 0.99:
        found.append("repeats samples")
    if abs(row.noise_xt - 1) > max(NOISE, 4 * row.noise_se):
        found.append(f"{'more' if row.noise_xt > 1 else 'less'} noise than x_{row.t_trunc}")
    # Checks whose small fit raised were not made: hyperparameters may be meant for larger images
    # than theirs.
    failed = [
        name for name in str(row.failed_checks or "").split(", ") if name not in ("", "nan", "fit")
    ]
    if failed:
        found.append(f"fails checks: {', '.join(failed)}")
    return "; ".join(found)


def _held(row: Any) -> list[str]:
    """The splits that samples come from, by the indices of stored images.

    Far from every image the indices of x_t compare nothing but the sizes of the splits; clean
    guesses are never far.
    """
    if row.emits != "x_0" and abs(row.noise_xt - 1) > FAR:
        return []
    least = max(STORED, 3 * row.stored_se)
    return [s for s in ("train", "validation", "test") if getattr(row, f"stored_{s}") > least]


def unfair(flag: Any) -> bool:
    """Whether a flag says that a setting must not win."""
    return isinstance(flag, str) and any(part.startswith(UNFAIR) for part in flag.split("; "))


def cheats(table: pd.DataFrame) -> dict[tuple[str, str], list[str]]:
    """What each prior is caught at in whichever setting, by its label."""
    found: dict[tuple[str, str], list[str]] = {}
    rows = table[["prior", "params", "flag"]].fillna("")
    for row in rows[rows.flag != ""].itertuples():
        caught = [f for f in row.flag.split("; ") if f.startswith(CHEATS)]
        found[row.prior, row.params] = list(
            dict.fromkeys([*found.get((row.prior, row.params), []), *caught])
        )
    return found

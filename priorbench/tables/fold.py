"""The tables: a fold over the rows of all cells into comparison.csv and summary.csv."""

import math

import numpy as np
import pandas as pd

from .columns import (
    AVERAGED,
    CLOCK,
    COLUMNS,
    PLACE,
    SECONDS,
    SETTING,
    SEVERAL,
    SHARED,
    TEXT,
    YOUNGER,
    Row,
    reported,
    succeeded,
)
from .intervals import NORMAL, Law, Seeds
from .learning import still_learning
from .seconds import shared
from .selection import judged
from .stability import Stability


def comparison(rows: list[Row], full_solver: str, full_steps: int | None) -> pd.DataFrame:
    """comparison.csv: one row for each cell, solver setting and split.

    Seconds of the same chain are pooled (:func:`.seconds.shared`). ``speedup`` divides the seconds
    per image of the full chain by the row's, for the same seed and conditions. The full chain is
    the row of ``noise`` at t_trunc = T by ``full_solver`` in ``full_steps`` steps.
    :mod:`priorbench.tables.selection` adds the other columns that need more than one row.
    """
    rows = shared(rows)
    plugged = list(dict.fromkeys(key for row in rows for key in row if key not in COLUMNS))
    lacking = dict.fromkeys((c for c in YOUNGER if c in TEXT), "")  # in rows of earlier versions
    table = pd.DataFrame(rows).reindex(columns=COLUMNS + plugged).fillna(lacking)
    full = reported(succeeded(table))
    full = full[
        (full.prior == "noise")
        & (full.params == "")  # uniform timesteps
        & (full.t_trunc == full["T"])
        & (full.solver == full_solver)
        & (full.steps == (full_steps or full["T"]))
    ]
    reference = full.groupby("seed").first()
    seconds = table.seed.map(reference.prior_seconds + reference.denoise_seconds)
    alike = np.all([table[c] == table.seed.map(reference[c]) for c in CLOCK], axis=0)
    table["speedup"] = (seconds / (table.prior_seconds + table.denoise_seconds)).where(alike)
    return judged(table)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """summary.csv: for each setting and split, the mean over seeds and its 95 % interval.

    The interval is of Student's t over seeds, with the same test images: where other seeds would
    put the mean. That of ``fid`` also draws on what each cell knows of the variance over samples,
    and on the other settings (:mod:`.intervals`). With one seed FID has an interval over samples,
    and other columns have none. The interval of ``fid_inf`` also counts the finite test set.
    Seconds taken under different conditions (:data:`.columns.CLOCK`) have no mean, and seconds that
    are shared by a run's seeds have no interval. Where a prior's own evaluations differ between
    seeds, ``nfe`` is the largest number.
    """
    columns = [*AVERAGED, *(c for c in table.columns if c not in COLUMNS)]
    good = succeeded(table)
    good = good.assign(nfe=good.groupby(PLACE, dropna=False).nfe.transform("max"))
    stability = _stability(good)
    groups = good.groupby(SETTING, dropna=False, sort=False)
    found = [
        dict(zip(SETTING, keys, strict=True)) | _mean(group, columns, stability)
        for keys, group in groups
    ]
    empty = [*SETTING, "seeds", "backbone", "warning", *CLOCK]
    return pd.DataFrame(found, columns=None if found else empty)


def _stability(good: pd.DataFrame) -> Stability:
    """How FIDs vary over seeds, over all settings whose samples are drawn afresh for each seed."""
    fresh = reported(good[~good.control.astype(bool) | (good.prior == "noise")])
    settings = fresh.fillna({"params": "", "fit_budget": ""}).groupby(PLACE)
    return Stability.of({place: _seeds(group) for place, group in settings})


def _seeds(group: pd.DataFrame) -> Seeds:
    within = group.fid_se.astype(float) ** 2 if "fid_se" in group else pd.Series(dtype=float)
    return Seeds(group.fid.astype(float).tolist(), float(within.mean()))


def _mean(group: pd.DataFrame, columns: list[str], stability: Stability) -> Row:
    """The row of summary.csv for the rows of one setting, without the setting itself."""
    row: Row = {"seeds": len(group)}
    for name in ("backbone", "warning", *CLOCK):
        row[name] = group[name].iloc[0] if group[name].nunique(dropna=False) == 1 else SEVERAL
    one_clock = all(row[name] != SEVERAL for name in CLOCK)
    # Whoever stores images draws none afresh, so its seeds vary less than others by nature.
    fresh = not bool(group.control.iloc[0]) or group.prior.iloc[0] == "noise"
    mine = stability.law_for(tuple(group[PLACE].iloc[0].fillna(""))) if fresh else None
    for name in columns:
        known = one_clock or name not in SECONDS
        ends = interval(group, name, mine) if known else (math.nan,) * 3
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    flags = [flag for flags in group.flag.dropna() for flag in flags.split("; ") if flag]
    learning = still_learning(row["late_gain"], row["fit_steps"])
    row |= {"flag": "; ".join(dict.fromkeys(flags)), "learning": learning}
    return row | {"fit": group.sort_values("seed").fit.iloc[0]}  # of several, the first seed's


def interval(group: pd.DataFrame, name: str, law: Law | None = None) -> tuple[float, float, float]:
    """Mean of a column over the rows of one setting, and the ends of its 95 % interval, or NaN.

    Arguments:
        law: how FIDs vary over seeds, if more is known of that than these rows tell.
    """
    values = group[name].astype(float).dropna().tolist()  # a failed full chain gives no speed-up
    mean, unknown = float(np.mean(values)) if values else math.nan, (math.nan, math.nan)
    if not -math.inf < mean < math.inf:  # a break-even that is never reached
        return mean, *unknown
    if name == "fid":
        return mean, *_seeds(group).mean(law).ends
    if name == "fid_inf":
        half = _half_of_fid_inf(group, values)
        return mean, mean - half, mean + half
    seeds = len(values) > 1 and name not in SHARED
    return mean, *(Seeds(values).mean().ends if seeds else unknown)


def _half_of_fid_inf(group: pd.DataFrame, values: list[float]) -> float:
    """Half the interval. All seeds share the test images, which would differ another time."""
    if len(values) < 2:
        return NORMAL * float(group.fid_inf_se.astype(float).mean())
    low, high = Seeds(values).mean().ends
    of_test_images = (group.fid_inf_se**2 - group.fid_se**2).astype(float).clip(lower=0).mean()
    return math.hypot((high - low) / 2, NORMAL * of_test_images**0.5)

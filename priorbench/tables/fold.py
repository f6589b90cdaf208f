"""The tables: a fold over the rows of all cells into comparison.csv and summary.csv."""

import math

import numpy as np
import pandas as pd
from scipy import stats

from .columns import (
    AVERAGED,
    CLOCK,
    COLUMNS,
    PLACE,
    SECONDS,
    SETTING,
    SEVERAL,
    SHARED,
    STANDARD_ERROR,
    Row,
    reported,
    succeeded,
)
from .seconds import shared
from .selection import judged


def comparison(rows: list[Row], full_solver: str, full_steps: int | None) -> pd.DataFrame:
    """comparison.csv: one row for each cell, solver setting and split.

    Seconds of the same chain are pooled (:func:`.seconds.shared`). ``speedup`` divides the seconds
    per image of the full chain by the row's, for the same seed and conditions. The full chain is
    the row of ``noise`` at t_trunc = T by ``full_solver`` in ``full_steps`` steps.
    :mod:`priorbench.tables.selection` adds the other columns that need more than one row.
    """
    rows = shared(rows)
    plugged = list(dict.fromkeys(key for row in rows for key in row if key not in COLUMNS))
    table = pd.DataFrame(rows).reindex(columns=COLUMNS + plugged)
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

    The interval is Student's t over seeds, with the same test images: where other seeds would put
    the mean. With one seed FID has an interval over samples, and other columns have none. The
    interval of ``fid_inf`` also counts the finite test set. Seconds taken under different
    conditions (:data:`.columns.CLOCK`) have no mean, and seconds that are shared by a run's seeds
    have no interval. Where a prior's own evaluations differ between seeds, ``nfe`` is the largest
    number.
    """
    columns = [*AVERAGED, *(c for c in table.columns if c not in COLUMNS)]
    good = succeeded(table)
    good = good.assign(nfe=good.groupby(PLACE, dropna=False).nfe.transform("max"))
    groups = good.groupby(SETTING, dropna=False, sort=False)
    found = [
        dict(zip(SETTING, keys, strict=True)) | _mean(group, columns) for keys, group in groups
    ]
    empty = [*SETTING, "seeds", "backbone", "warning", *CLOCK]
    return pd.DataFrame(found, columns=None if found else empty)


def _mean(group: pd.DataFrame, columns: list[str]) -> Row:
    """The row of summary.csv for the rows of one setting, without the setting itself."""
    row: Row = {"seeds": len(group)}
    for name in ("backbone", "warning", *CLOCK):
        row[name] = group[name].iloc[0] if group[name].nunique(dropna=False) == 1 else SEVERAL
    one_clock = all(row[name] != SEVERAL for name in CLOCK)
    for name in columns:
        known = one_clock or name not in SECONDS
        ends = interval(group, name) if known else (math.nan,) * 3
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    flags = [flag for flags in group.flag.dropna() for flag in flags.split("; ") if flag]
    return row | {"flag": "; ".join(dict.fromkeys(flags))}


def interval(group: pd.DataFrame, name: str) -> tuple[float, float, float]:
    """Mean of a column over the rows of one setting, and the ends of its 95 % interval, or NaN."""
    values = np.asarray(group[name], float)
    values = values[~np.isnan(values)]  # a seed whose full chain failed has no speed-up
    counted = len(values)
    mean = float(values.mean()) if counted else math.nan
    half = math.nan
    if not -math.inf < mean < math.inf:  # a break-even that is never reached
        return mean, half, half
    if counted > 1 and name not in SHARED:
        half = float(stats.t.ppf(0.975, counted - 1) * values.std(ddof=1) / counted**0.5)
        if name == "fid_inf":  # all seeds share the test images, which would differ another time
            variance = (group.fid_inf_se**2 - group.fid_se**2).astype(float).clip(lower=0).mean()
            half = float((half**2 + stats.norm.ppf(0.975) ** 2 * variance) ** 0.5)
    elif name in STANDARD_ERROR and STANDARD_ERROR[name] in group:
        half = float(stats.norm.ppf(0.975) * group[STANDARD_ERROR[name]].astype(float).mean())
    return mean, mean - half, mean + half

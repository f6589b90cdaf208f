"""The tables: a fold over the rows of the cells into comparison.csv and summary.csv."""

import math
from typing import Any

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
    reported,
    succeeded,
)
from .seconds import shared
from .selection import judged


def comparison(
    rows: list[dict[str, Any]], full_solver: str, full_steps: int | None
) -> pd.DataFrame:
    """One row a cell, solver setting and split, with the seconds of each chain shared
    (:func:`.seconds.shared`).

    ``speedup`` is the full chain's seconds an image over the row's, of the same seed and
    conditions: the row of ``noise`` at t_trunc = T by ``full_solver`` in ``full_steps`` steps. The
    columns that need other rows besides: see :mod:`priorbench.tables.selection`.
    """
    rows = shared(rows)
    added = list(
        dict.fromkeys(key for row in rows for key in row if key not in COLUMNS)
    )  # by metrics of plugins
    table = pd.DataFrame(rows).reindex(columns=COLUMNS + added)
    full = table[
        (table.prior == "noise")
        & (table.t_trunc == table["T"])
        & (table.solver == full_solver)
        & (table.steps == (full_steps or table["T"]))
    ]
    full = reported(succeeded(full))
    reference = full.groupby("seed").first()
    seconds = table.seed.map(reference.prior_seconds + reference.denoise_seconds)
    alike = [table[c] == table.seed.map(reference[c]) for c in CLOCK]
    table["speedup"] = (seconds / (table.prior_seconds + table.denoise_seconds)).where(
        alike[0] & alike[1] & alike[2]
    )
    return judged(table)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds and the ends of the 95 % interval of each measured column, a row a setting
    and split.

    The interval is Student's t over seeds: where other seeds would put the mean, on the same test
    images. One seed has an interval over samples for FID, and nothing for the rest. That of
    ``fid_inf`` counts the finite test set too. Seconds taken under unlike conditions
    (:data:`.columns.CLOCK`) have no mean, and those that a run's seeds share no interval. Where a
    prior's own evaluations differ between seeds, ``nfe`` is the most of them.
    """
    found = []
    columns = [*AVERAGED, *(c for c in table.columns if c not in COLUMNS)]
    good = succeeded(table)
    good = good.assign(nfe=good.groupby(PLACE, dropna=False).nfe.transform("max"))
    for keys, group in good.groupby(SETTING, dropna=False, sort=False):
        row: dict[str, Any] = dict(zip(SETTING, keys, strict=True)) | {"seeds": len(group)}
        for name in ("backbone", "warning", *CLOCK):
            row[name] = group[name].iloc[0] if group[name].nunique(dropna=False) == 1 else SEVERAL
        timed = all(row[name] != SEVERAL for name in CLOCK)
        for name in columns:
            known = timed or name not in SECONDS
            row[name], row[f"{name}_low"], row[f"{name}_high"] = (
                interval(group, name) if known else (math.nan,) * 3
            )
        row["flag"] = "; ".join(
            dict.fromkeys(f for flags in group.flag.dropna() for f in flags.split("; ") if f)
        )
        found.append(row)
    return pd.DataFrame(
        found, columns=None if found else [*SETTING, "seeds", "backbone", "warning", *CLOCK]
    )


def interval(group: pd.DataFrame, name: str) -> tuple[float, float, float]:
    """Mean of a column over the rows of one setting, and the ends of its 95 % interval (NaN where
    there is none).
    """
    values = np.asarray(group[name], float)
    values = values[~np.isnan(values)]  # a seed whose full chain failed has no speed-up
    counted = len(values)
    mean = float(values.mean()) if counted else float("nan")
    half = float("nan")
    if not -math.inf < mean < math.inf:  # a break-even that is never reached
        return mean, half, half
    if counted > 1 and name not in SHARED:
        half = float(stats.t.ppf(0.975, counted - 1) * values.std(ddof=1) / counted**0.5)
        if (
            name == "fid_inf"
        ):  # the test images are the same for all seeds, and would be others another time
            of_reference = (
                (group.fid_inf_se**2 - group.fid_se**2).astype(float).clip(lower=0).mean()
            )
            half = float((half**2 + stats.norm.ppf(0.975) ** 2 * of_reference) ** 0.5)
    elif name in STANDARD_ERROR and STANDARD_ERROR[name] in group:
        half = float(stats.norm.ppf(0.975) * group[STANDARD_ERROR[name]].astype(float).mean())
    return mean, mean - half, mean + half

"""The table: a fold over the rows of the cells into comparison.csv and summary.csv."""

from typing import Any

import pandas as pd
from scipy import stats

COLUMNS = [
    "dataset", "backbone", "prior", "params", "emits", "control", "t_trunc", "T", "solver", "steps", "nfe",
    "seed", "split",
    "n_samples", "extractor", "fid", "fid_floor", "kid", "precision", "recall", "authenticity", "authenticity_test",
    "sw2_xt", "w2_xt", "w2_gaussian_xt", "sw2_x0", "w2_x0", "w2_gaussian_x0",
    "fit_seconds", "prior_seconds", "denoise_seconds", "images_per_second", "speedup",
    "parameters", "peak_memory_mb", "device", "threads", "concurrency",
    "warning", "status", "error", "priorbench_version", "torch_version", "cell",
]  # fmt: skip

# What differs from run to run on the same machine; all other columns are reproduced.
MEASURED_IN_TIME = [
    "fit_seconds", "prior_seconds", "denoise_seconds", "images_per_second", "speedup", "peak_memory_mb",
]  # fmt: skip

# The columns whose mean and interval over seeds stand in summary.csv.
AVERAGED = [
    "fid", "fid_floor", "kid", "precision", "recall", "authenticity", "authenticity_test",
    "sw2_xt", "w2_xt", "w2_gaussian_xt", "sw2_x0", "w2_x0", "w2_gaussian_x0",
    "fit_seconds", "prior_seconds", "denoise_seconds", "images_per_second", "speedup", "peak_memory_mb",
]  # fmt: skip

_SETTING = ["dataset", "backbone", "prior", "params", "emits", "control", "t_trunc", "T", "solver", "steps",
"nfe", "split",
            "n_samples", "extractor", "device", "threads", "concurrency", "warning"]  # fmt: skip


def comparison(rows: list[dict[str, Any]], full_solver: str, full_steps: int | None) -> pd.DataFrame:
    """One row a cell and solver setting. ``speedup`` is the full chain's seconds an image over the row's, of the same
    seed and machine: the row of ``noise`` at t_trunc = T by ``full_solver`` in ``full_steps`` steps."""
    added = list(dict.fromkeys(key for row in rows for key in row if key not in COLUMNS))  # by metrics of plugins
    table = pd.DataFrame(rows).reindex(columns=COLUMNS + added)
    full = table[
        (table.prior == "noise")
        & (table.t_trunc == table["T"])
        & (table.solver == full_solver)
        & (table.steps == (full_steps or table["T"]))
        & (table.status == "ok")
    ]
    reference = (full.prior_seconds + full.denoise_seconds).groupby(full.seed).first()
    table["speedup"] = table.seed.map(reference) / (table.prior_seconds + table.denoise_seconds)
    return table


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds and the ends of the 95 % interval (Student's t) of each measured column, a row a setting.

    With one seed there is no interval: its ends are empty.
    """
    found = []
    for keys, group in table[table.status == "ok"].groupby(_SETTING, dropna=False, sort=False):
        row: dict[str, Any] = dict(zip(_SETTING, keys, strict=True)) | {"seeds": len(group)}
        for name in [*AVERAGED, *(c for c in table.columns if c not in COLUMNS)]:
            values = group[name].astype(float)
            row[name] = values.mean()
            counted = int(values.count())  # a seed whose full chain failed has no speed-up
            error = float(values.sem()) if counted > 1 else float("nan")
            half = float(stats.t.ppf(0.975, max(counted - 1, 1))) * error
            row[f"{name}_low"], row[f"{name}_high"] = row[name] - half, row[name] + half
        found.append(row)
    return pd.DataFrame(found, columns=None if found else [*_SETTING, "seeds"])

"""Runs from several machines folded into one table."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..errors import UserError
from .columns import (
    COLUMNS,
    DIGESTS,
    MACHINE,
    PLACE,
    SAME,
    SECONDS,
    SEVERAL,
    TEXT,
    YOUNGER,
    choosing,
    reported,
    succeeded,
)
from .fold import summary
from .selection import best, judged

_NEEDED = [name for name in COLUMNS if name not in YOUNGER]
_ROW = [*PLACE, "seed", "split"]


def read_run(path: str | Path, needed: Sequence[str] = _NEEDED) -> pd.DataFrame:
    """The comparison.csv of a results folder, or the file itself; columns that are not needed may
    be missing, and are empty then.
    """
    file = Path(path)
    file = file / "comparison.csv" if file.is_dir() else file
    try:
        table = pd.read_csv(
            file, dtype=dict.fromkeys([*TEXT, *DIGESTS], str)
        )  # else 12345678 is a number, 123e4567 too
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} holds no comparison.csv that can be read: {' '.join(str(error).split())}"
        ) from error
    missing = [name for name in needed if name not in table]
    if missing:
        raise UserError(
            f"{file} lacks the columns {', '.join(missing[:3])}: it was not written by this version's 'run'"
        )
    added = [name for name in table if name not in COLUMNS]
    return table.reindex(columns=[*COLUMNS, *added]).fillna(dict.fromkeys(TEXT, ""))


def differences(tables: Sequence[tuple[str, pd.DataFrame]]) -> list[str]:
    """What keeps the runs from being ranked in one table, a sentence a column; empty if nothing
    does.
    """
    found = []
    for column in SAME:
        chosen = [(name, reported(t) if column == "n_samples" else t) for name, t in tables]
        found += _unlike(column, chosen)
    for full in (False, True):  # earlier versions scored t_trunc = T by more samples than the rest
        scored = [(name, choosing(t[(t.t_trunc == t["T"]) == full])) for name, t in tables]
        found += _unlike(
            "n_samples", [(f"{name} (choosing split)", t) for name, t in scored if len(t)]
        )
    splits = {name: ", ".join(sorted(t.split.unique())) for name, t in tables}
    if any("test" not in t.split.unique() for _, t in tables):
        found.append(
            "column 'split' differs: " + "; ".join(f"{v} in {name}" for name, v in splits.items())
        )
    return list(dict.fromkeys(found))


def _unlike(column: str, tables: Sequence[tuple[str, pd.DataFrame]]) -> list[str]:
    if len({v for _, t in tables for v in t[column].unique()}) < 2:
        return []
    values = {
        name: ", ".join(str(v) for v in sorted(t[column].unique(), key=str)) for name, t in tables
    }
    return [
        f"column {column!r} differs: " + "; ".join(f"{v} in {name}" for name, v in values.items())
    ]


def fold(
    tables: Sequence[tuple[str, pd.DataFrame]],
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """One comparison of all rows, its summary and its best settings.

    A setting and seed that several runs have count once, as they stand in the first run in which
    they did not fail. speedup, relative_time and break_even stay what each run measured by its own
    rivals on its own machine; excess and relative_nfe, which know no clock, are taken over all
    rows. Seconds of unlike devices have no mean: they are left out of the summary then.
    """
    table = pd.concat([t.assign(run=name) for name, t in tables], ignore_index=True)
    good = succeeded(table)
    table = table.drop(good.index[good.duplicated(_ROW)]).reset_index(drop=True)
    timed = table[["relative_time", "break_even"]]
    table = judged(table)
    table[["relative_time", "break_even"]] = timed
    averaged = table.drop(columns="run")
    if len(table[MACHINE].drop_duplicates()) > 1:
        averaged = averaged.assign(
            **dict.fromkeys(MACHINE, SEVERAL), **dict.fromkeys(SECONDS, float("nan"))
        )
    means = summary(averaged)
    return table, means, best(table, means)

"""Runs, perhaps from several machines, folded into one table."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..errors import UserError, one_line
from .best import best
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
from .selection import judged

Named = tuple[str, pd.DataFrame]  # a run's name and its table

NEEDED = [name for name in COLUMNS if name not in YOUNGER]
RESULT = [*PLACE, "seed", "split"]  # tells two results apart


def read_run(path: str | Path, needed: Sequence[str] = NEEDED) -> pd.DataFrame:
    """The comparison.csv at ``path`` or in that folder.

    Columns that are not ``needed`` may be missing, and are then empty.

    Raises:
        UserError: if the file cannot be read, or lacks a column that is needed.
    """
    file = Path(path)
    try:
        file = file / "comparison.csv" if file.is_dir() else file
        table = pd.read_csv(file, dtype=dict.fromkeys([*TEXT, *DIGESTS], str))
    except FileNotFoundError:
        state = "holds no comparison.csv" if file != Path(path) else "does not exist"
        raise UserError(f"{path} {state}; give the folder of a run, as --output named it") from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} holds no comparison.csv that can be read: {one_line(error)}"
        ) from error
    missing = [name for name in needed if name not in table]
    if missing:
        raise UserError(
            f"{file} lacks the columns {', '.join(missing[:3])}: "
            "it was not written by this version's 'run'"
        )
    plugged = [name for name in table if name not in COLUMNS]
    return table.reindex(columns=[*COLUMNS, *plugged]).fillna(dict.fromkeys(TEXT, ""))


def differences(tables: Sequence[Named]) -> list[str]:
    """Why the runs cannot be ranked in one table, a sentence for each column; usually empty."""
    found = []
    for column in SAME:
        compared = [(name, reported(t) if column == "n_samples" else t) for name, t in tables]
        found += _difference(column, compared)
    # Earlier versions chose t_trunc = T by more samples than the rest.
    for full in (False, True):
        scored = [
            (f"{name} (choosing split)", choosing(t[(t.t_trunc == t["T"]) == full]))
            for name, t in tables
        ]
        found += _difference("n_samples", [(name, t) for name, t in scored if len(t)])
    if any("test" not in t.split.unique() for _, t in tables):
        found.append(_sentence("split", tables))
    return list(dict.fromkeys(found))


def _difference(column: str, tables: Sequence[Named]) -> list[str]:
    values = {value for _, t in tables for value in t[column].unique()}
    return [_sentence(column, tables)] if len(values) > 1 else []


def _sentence(column: str, tables: Sequence[Named]) -> str:
    values = {name: ", ".join(map(str, sorted(t[column].unique(), key=str))) for name, t in tables}
    listed = "; ".join(f"{value} in {name}" for name, value in values.items())
    return f"column {column!r} differs: {listed}"


def fold(tables: Sequence[Named]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """One comparison of all rows, its summary and its best settings.

    A result that several runs have counts once, as it stands in the first run where it did not
    fail. speedup, relative_time and break_even stay as each run measured them, against its own
    rivals on its own machine. excess and relative_nfe depend on no clock and are computed over all
    rows. Seconds from different devices have no mean, and are left out of the summary.
    """
    table = pd.concat([t.assign(run=name) for name, t in tables], ignore_index=True)
    good = succeeded(table)
    table = table.drop(good.index[good.duplicated(RESULT)]).reset_index(drop=True)
    timed = table[["relative_time", "break_even"]]
    table = judged(table)
    table[["relative_time", "break_even"]] = timed
    averaged = table.drop(columns="run")
    if len(table[MACHINE].drop_duplicates()) > 1:
        unknown = dict.fromkeys(SECONDS, float("nan"))
        averaged = averaged.assign(**dict.fromkeys(MACHINE, SEVERAL), **unknown)
    means = summary(averaged)
    return table, means, best(table, means)

"""The contents of a report, read from disk: tables, grids and run.json of one or more runs."""

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import UserError
from ..tables.best import best
from ..tables.columns import COLUMNS, LABEL, budgets_of, contenders, with_budget
from ..tables.compare import differences, fold, read_run
from ..tables.fold import summary
from ..tables.headline import Headline, headline
from ..tables.selection import judged
from ..tables.words import budgeted, in_words, named
from .model import CURVE, Book, Figure
from .plot_fits import ACROSS_BUDGETS
from .plots import figures
from .samples import Grid, grids

# A page needs these columns. Tables of older versions lack others, and the page says so.
ESSENTIAL = [
    "dataset", "prior", "params", "control", "t_trunc", "T", "solver", "nfe", "seed", "split",
    "n_samples", "extractor", "fid", "prior_seconds", "denoise_seconds", "status", "cell",
]  # fmt: skip
_X_T = re.compile(r"x_\d+$")  # in a flag: t_trunc, by which equal flags would look different


@dataclass
class Run:
    """One run: its run.json (empty if there is none), and the columns that its table lacks."""

    name: str
    folder: Path
    about: dict[str, Any]
    missing: list[str]

    def tables(self, beside: Path) -> list[tuple[str, str]]:
        """(name, path relative to ``beside``) of the run's CSV files."""
        names = [f"{name}.csv" for name in ("comparison", "summary", "best")]
        return [
            (n, Path(os.path.relpath(self.folder / n, beside)).as_posix())
            for n in names
            if (self.folder / n).is_file()
        ]


@dataclass
class Report:
    """Everything that a page shows."""

    runs: list[Run]
    table: pd.DataFrame
    means: pd.DataFrame
    best: pd.DataFrame
    verdict: Headline
    figures: list[Figure]
    grids: list[Grid]
    sentences: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        names = [
            run.about.get("config", {}).get("name") or run.folder.resolve().name
            for run in self.runs
        ]
        return ", ".join(dict.fromkeys(map(str, names)))

    @property
    def failures(self) -> list[tuple[str, str, str]]:
        """(prior, its t_truncs, the error) of failed rows; of several seeds, the seed is named."""
        rows = self.table[self.table.status != "ok"].fillna({"params": "", "error": ""})
        several = self.table.seed.nunique() > 1
        return _reasons(
            (r, f"{r.error} (seed {r.seed})" if several else r.error) for r in rows.itertuples()
        )

    @property
    def learning(self) -> list[tuple[str, str, str]]:
        """(prior, its t_truncs, "still learning") of fits that the budget ended too early."""
        means = self.means.fillna({"params": "", "fit_budget": "", "learning": ""})
        rows = means[means.learning != ""] if "learning" in means else means[:0]
        return _reasons(
            (row, f"{row.learning}{f' after {row.fit_budget}' if row.fit_budget else ''}")
            for row in contenders(rows).itertuples()
        )

    @property
    def flags(self) -> list[tuple[str, str, str]]:
        """(prior, its t_truncs, the flag) of flagged contenders; controls are expected to be."""
        rows = contenders(self.table).fillna({"params": "", "flag": ""})
        return _reasons(
            (row, _X_T.sub("x_{t_trunc}", flag))
            for row in rows.itertuples()
            for flag in row.flag.split("; ")
            if flag
        )


def _reasons(rows: Iterable[tuple[Any, str]]) -> list[tuple[str, str, str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for row, reason in rows:
        found.setdefault((named(row.prior, row.params), reason), []).append(str(row.t_trunc))
    return [(prior, ", ".join(dict.fromkeys(at)), reason) for (prior, reason), at in found.items()]


def gather(paths: list[str]) -> Report:
    """Read one run, or read several and fold them.

    Raises:
        UserError: if a run cannot be read, or if several cannot be ranked in one table.
    """
    names = list(dict.fromkeys(paths))
    tables = [(name, read_run(name, ESSENTIAL)) for name in names]
    runs = [_run(name) for name in names]
    if len(tables) > 1 and (found := differences(tables)):
        raise UserError(f"these runs cannot be shown on one page: {'. '.join(found)}")
    if len(tables) > 1:
        table, means, chosen = fold(tables)
    else:
        table = _judged(tables[0][1]).assign(run=names[0])
        means = summary(table.drop(columns="run"))
        chosen = best(table, means)
    verdict = headline(table, chosen)
    folders = {run.name: run.folder for run in runs}
    budget = budgets_of(table)[-1]
    rows, averages, firsts = (with_budget(part, budget) for part in (table, means, chosen))
    shown = figures(Book(rows, averages, firsts, _curves(rows, folders), chosen), verdict)
    for figure in shown if len(budgets_of(table)) > 1 else []:
        if figure.id != ACROSS_BUDGETS:
            figure.caption += f" {budgeted(budget)}."
    return Report(
        runs, table, means, chosen, verdict, shown, grids(table, folders), in_words(chosen)
    )


def _curves(table: pd.DataFrame, folders: dict[str, Path]) -> pd.DataFrame:
    """How the fits behind some rows got on; what cannot be read is left out.

    A folder may hold others too, which an earlier run left there.
    """
    found = []
    for run, fit in table[["run", "fit"]].dropna().drop_duplicates().itertuples(index=False):
        with suppress(OSError, ValueError):
            path = folders[run] / "fits" / f"{Path(fit).name}.csv"
            curve = pd.read_csv(path, dtype=dict.fromkeys([*LABEL, "fit_budget"], str))
            found += [curve] if {*LABEL, *CURVE} <= set(curve) else []
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*LABEL, *CURVE])


def _judged(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one run, judged by this version.

    A folded table keeps what each machine measured against its own rivals.
    """
    folded = "run" in table and table.run.nunique() > 1
    kept = ["relative_time", "break_even"] if folded else []
    return judged(table).assign(**{name: table[name] for name in kept})


def _run(name: str) -> Run:
    file = Path(name) / "comparison.csv" if Path(name).is_dir() else Path(name)
    header = pd.read_csv(file, nrows=0).columns
    try:
        about = json.loads((file.parent / "run.json").read_text())
    except (OSError, ValueError):
        about = {}
    return Run(
        name,
        file.parent,
        about if isinstance(about, dict) else {},
        [c for c in COLUMNS if c not in header],
    )

"""The comparison on the terminal."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..plan.budget import size
from ..tables.columns import LABEL, contenders, reported, succeeded
from ..tables.contest import level, place_of
from ..tables.flags import unfair
from ..tables.headline import headline
from ..tables.learning import STILL
from ..tables.selection import Chosen
from ..tables.words import earned, floor, in_words, named, warnings

ROOM = 60  # a longer list of settings is left to summary.csv
NARROWEST = 9  # characters that prior names and break-evens are wrapped to
EARNED = "earned back"
WIDE = 100  # characters of a line that holds all columns of the best settings
LOG_WIDTH = 140  # characters: a log file has room for every column


@dataclass(frozen=True)
class Measure:
    """A column of the list of settings that holds figures.

    Attributes:
        form: how a figure is printed.
        better: 1 if more is better, -1 if less is, 0 if neither is.
        room: the column is shown on lines of this many characters or more.
    """

    name: str
    heading: str
    form: str
    better: int = 0
    room: int = 0


MEASURES = [
    Measure("fid", "FID", "{:.2f}", -1),
    Measure("kid", "KID", "{:.3f}", -1),
    Measure("precision", "prec.", "{:.2f}", 1, 90),
    Measure("recall", "recall", "{:.2f}", 1, 90),
    Measure("authenticity", "auth.", "{:.2f}", 0, 100),
    Measure("sw2_xt", "SW2 x_t", "{:.3f}", -1, 110),
    Measure("w2_xt", "W2 x_t", "{:.2f}", -1, 120),
    Measure("w2_x0", "W2 x_0", "{:.2f}", -1, 120),
    Measure("fit_seconds", "fit s", "{:.1f}"),
    Measure("milliseconds", "ms/image", "{:.2f}", -1),
    Measure("speedup", "speed-up", "{:.1f}x", 1),
]


def output_console() -> Console:
    """A console on standard output, wide where that is a file."""
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    return console


def show(table: pd.DataFrame, means: pd.DataFrame, best: pd.DataFrame, console: Console) -> None:
    """Print a run: its settings, the best of them at every NFE, the verdict, and what went wrong.

    Arguments:
        table: comparison.csv.
        means: summary.csv.
        best: best.csv.
    """
    means = reported(means).fillna({"params": "", "fit_budget": ""})
    if len(means) > ROOM:
        console.print(
            f"{len(means)} settings, all of them in summary.csv; the best of each prior at every "
            "NFE:"
        )
    elif len(means):
        _settings(means, table, console)
    if len(best):
        _best(best, console)
    good = reported(succeeded(table))
    if len(good):
        console.print(_measured(good))
    verdict = headline(table, best)
    style = "bold yellow" if verdict.doubt else "bold"
    console.print(verdict.words, style=style, highlight=False, markup=False)
    for sentence in in_words(best):
        console.print(sentence, highlight=False, markup=False)
    _flagged(good, console)
    _learning(means, console)
    for warning in warnings(good):
        console.print(f"[bold yellow]warning[/] {escape(warning)}")
    _failed(table, console)


def _measured(good: pd.DataFrame) -> str:
    return (
        f"FID in features of {escape(str(good.extractor.iloc[0]))}, {good.n_samples.iloc[0]} "
        f"samples against the test split; less is better. Floor (training images): FID "
        f"{floor(good)}; authenticity of held-out images: {good.authenticity_test.mean():.2f}. "
        "Dim rows are controls, which are never ranked."
    )


def _flagged(good: pd.DataFrame, console: Console) -> None:
    """Print the flags of contenders; a control has its own for being what it is."""
    good = contenders(good).fillna({"params": "", "fit_budget": "", "flag": ""})
    flagged = good[good.flag != ""]
    by = [*LABEL, "fit_budget", "flag"]
    for (prior, params, budget, flag), rows in flagged.groupby(by, sort=False):
        who = f"{escape(named(prior, params))} at t_trunc {_values(rows.t_trunc)}"
        console.print(f"[bold yellow]flagged[/] {who}{_fitted(budget)}: {escape(flag)}")


def _learning(means: pd.DataFrame, console: Console) -> None:
    """Print whose fits the budget ended while they were still learning."""
    means = contenders(means).fillna({"learning": "", "fit_budget": ""})
    still = means[means.learning != ""]
    for (prior, params, budget), rows in still.groupby([*LABEL, "fit_budget"], sort=False):
        who = f"{escape(named(prior, params))} at t_trunc {_values(rows.t_trunc)}"
        console.print(
            f"[bold yellow]{STILL}[/] {who}{_fitted(budget)}: more fitting may change the order"
        )


def _fitted(budget: str) -> str:
    return f", fitted in {escape(budget)}" if budget else ""


def _failed(table: pd.DataFrame, console: Console) -> None:
    failed = table[table.status != "ok"].fillna({"params": ""})
    for (prior, params, error), rows in failed.groupby(["prior", "params", "error"], sort=False):
        seeds = f" (seed {_values(rows.seed)})" if table.seed.nunique() > 1 else ""
        who = f"{escape(named(prior, params))} at t_trunc {_values(rows.t_trunc)}{seeds}"
        console.print(f"[bold red]failed[/] {who}: {escape(error)}")


def _values(column: pd.Series) -> str:
    return ", ".join(str(value) for value in column.unique())


def _table(*headings: str) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for heading in headings:
        drawn.add_column(
            heading,
            justify="left" if heading in ("prior", "solver") else "right",
            no_wrap=heading not in ("prior", EARNED),
            min_width=NARROWEST if heading in ("prior", EARNED) else None,
            overflow="fold",
        )
    return drawn


def _sections(drawn: Table, rows: pd.DataFrame, column: str) -> Iterator[Any]:
    """The rows one by one; a new section of ``drawn`` begins where ``column`` changes."""
    last = None
    for row in rows.itertuples():
        value = getattr(row, column)
        if last is not None and value != last:
            drawn.add_section()
        last = value
        yield row


def _budgets(rows: pd.DataFrame) -> list[str]:
    """The heading of the column of budgets, if contenders had several."""
    return ["budget"] if contenders(rows).fit_budget.nunique() > 1 else []


def _seeds(rows: pd.DataFrame) -> list[str]:
    """The heading of the column of seeds, if there are several."""
    return ["seeds"] if (rows.seeds > 1).any() else []


def _settings(means: pd.DataFrame, table: pd.DataFrame, console: Console) -> None:
    """Print one line per setting.

    Among contenders the best value of each column is marked, and every FID that is not shown to be
    higher than the least. With one seed nothing is marked: the best fit says nothing about the
    priors.
    """
    means = means.assign(milliseconds=1000 * (means.prior_seconds + means.denoise_seconds))
    fair = ~means.control.astype(bool) & ~means.flag.map(unfair).astype(bool)
    means = means.assign(ranked=fair & (means.seeds > 1))
    ranked = means[means.ranked]
    shown = [m for m in MEASURES if console.width >= m.room]
    best = {m.name: (ranked[m.name] * m.better).max() * m.better for m in shown if m.better}
    settings = [place_of(row) for row in ranked.sort_values("fid").to_dict("records")]
    first = set(level(settings[0], settings, Chosen(table)) if settings else [])
    budgets, seeds = _budgets(means), _seeds(means)
    columns = ["t_trunc", "solver", "NFE", "prior", *budgets, *seeds]
    drawn = _table(*columns, *(m.heading for m in shown))
    for row in _sections(drawn, means, "t_trunc"):
        figures = []
        for measure in shown:
            value = float(getattr(row, measure.name))
            text = measure.form.format(value) if value == value else ""
            marked = row.ranked and (
                (measure.better and value == best[measure.name])
                or (measure.name == "fid" and place_of(row._asdict()) in first)
            )
            figures.append(Text(f"{text}*", "bold green") if marked else Text(f"{text} "))
        setting = [str(row.t_trunc), str(row.solver), str(int(row.nfe))]
        prior = Text(named(row.prior, row.params))
        fitted = [str(row.fit_budget or ("" if row.control else "none")) for _ in budgets]
        fitted += [str(row.seeds) for _ in seeds]
        drawn.add_row(*setting, prior, *fitted, *figures, style="dim" if row.control else "")
    console.print(drawn)
    if len(ranked):
        console.print("* best of all contenders, and every FID that is not shown to be higher.")
    elif (means.seeds == 1).any():
        console.print("With one seed no row is marked as best: another fit would score otherwise.")


def _best(best: pd.DataFrame, console: Console) -> None:
    """Print one line per prior and NFE, for the setting that did best on the validation split."""
    rank = ["rank"] if best["rank"].notna().any() else []
    spread = ["95 %", "excess"] if console.width >= WIDE else []
    ratios = ["x noise", "x noise,\ntime"]
    best = best.fillna({"params": "", "fit_budget": ""})
    budgets, seeds = _budgets(best), _seeds(best)
    headings = ["NFE", *rank, "prior", "t_trunc", "solver", *seeds, "FID", *spread, *ratios, EARNED]
    drawn = _table(*budgets, *headings)
    best = best.assign(size=best.fit_budget.map(size))
    best = best.sort_values(["size", "nfe", "control", "fid"])
    best = best.assign(section=list(zip(best.fit_budget, best.nfe, strict=True)))
    for row in _sections(drawn, best, "section"):
        interval = f"{row.fid_low:.2f}..{row.fid_high:.2f}" if row.fid_low == row.fid_low else ""
        drawn.add_row(
            *(row.fit_budget or "none" for _ in budgets),
            str(row.nfe),
            *(_figure(row.rank, ".0f") for _ in rank),
            Text(named(row.prior, row.params)),
            str(row.t_trunc),
            str(row.solver),
            *(str(row.seeds) for _ in seeds),
            f"{row.fid:.2f}",
            *([interval, _figure(row.excess, ".2f")] if spread else []),
            *(_figure(ratio, ".2f") for ratio in (row.relative_nfe, row.relative_time)),
            "" if row.control else earned(row.break_even, row.relative_time),
            style="dim" if row.control else "",
        )
    console.print(drawn)
    excess = " excess: FID minus the oracle's." if spread else ""
    console.print(
        f"Settings are chosen on the validation split; figures are of the test split.{excess}\n"
        "x noise: FID divided by that of the best solver from pure noise at the same NFE, and in "
        "the same time. earned back: the images after which the time of the fit is made up for."
    )


def _figure(value: float, form: str) -> str:
    return "" if value != value else f"{value:{form}}"

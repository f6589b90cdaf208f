"""The comparison as a terminal shows it."""

from dataclasses import dataclass

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..tables.flags import unfair
from ..tables.headline import headline
from ..tables.words import floor, in_words, named, warnings


@dataclass(frozen=True)
class Column:
    """A shown column: its heading, how to print it, whether more (1) or less (-1) of it is better,
    and from how many characters a line on there is room for it.
    """

    name: str
    heading: str
    form: str
    better: int = 0
    room: int = 0


SHOWN = [
    Column("fid", "FID", "{:.2f}", -1),
    Column("kid", "KID", "{:.3f}", -1),
    Column("precision", "prec.", "{:.2f}", 1, 90),
    Column("recall", "recall", "{:.2f}", 1, 90),
    Column("authenticity", "auth.", "{:.2f}", 0, 100),
    Column("sw2_xt", "SW2 x_t", "{:.3f}", -1, 110),
    Column("w2_xt", "W2 x_t", "{:.2f}", -1, 120),
    Column("w2_x0", "W2 x_0", "{:.2f}", -1, 120),
    Column("fit_seconds", "fit s", "{:.1f}"),
    Column("milliseconds", "ms/image", "{:.2f}", -1),
    Column("speedup", "speed-up", "{:.1f}x", 1),
]


ROOM = 60  # settings that a terminal is worth filling with; more are left to the files


def show(table: pd.DataFrame, means: pd.DataFrame, best: pd.DataFrame, console: Console) -> None:
    """Print what a run found: its settings, the best of them at every NFE, the verdict, warnings
    and failures.

    Arguments:
        table, means, best: comparison.csv, summary.csv and best.csv.
    """
    means = (
        means[means.split == "test"].assign(params=means.params.fillna("")) if len(means) else means
    )
    if len(means) > ROOM:
        console.print(
            f"{len(means)} settings, all of them in summary.csv; the best of each prior at every NFE:"
        )
    elif len(means):
        _settings(means, console)
    if len(best):
        _best(best, console)
    good = table[(table.status == "ok") & (table.split == "test")]
    if len(good):
        console.print(
            f"FID in features of {escape(str(good.extractor.iloc[0]))}, {good.n_samples.iloc[0]} samples against the "
            f"test split; less is better. Floor (training images): FID {floor(good)}; held-out images' authenticity: "
            f"{good.authenticity_test.mean():.2f}. Dim rows are controls, never ranked."
        )
    verdict = headline(table, best)
    console.print(
        f"{verdict.sentence} {verdict.remark}".rstrip(), style="bold", highlight=False, markup=False
    )
    for sentence in in_words(best):
        console.print(sentence, highlight=False, markup=False)
    flagged = good[good.flag.fillna("") != ""].fillna({"params": ""})
    for (prior, params, flag, control), rows in flagged.groupby(
        ["prior", "params", "flag", "control"], sort=False
    ):
        where = ", ".join(str(t) for t in rows.t_trunc.unique())
        kind = "dim" if control else "bold yellow"
        console.print(
            f"[{kind}]flagged[/] {escape(named(prior, params))} at t_trunc {where}: {escape(flag)}"
        )
    for warning in warnings(good):
        console.print(f"[bold yellow]warning[/] {escape(warning)}")
    bad = table[table.status != "ok"].fillna({"params": ""})
    for (prior, params, error), rows in bad.groupby(["prior", "params", "error"], sort=False):
        where = ", ".join(str(t) for t in rows.t_trunc.unique())
        where += (
            f" (seed {', '.join(str(s) for s in rows.seed.unique())})"
            if table.seed.nunique() > 1
            else ""
        )
        console.print(
            f"[bold red]failed[/] {escape(named(prior, params))} at t_trunc {where}: {escape(error)}"
        )


def _table(*headings: str) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    for heading in headings:
        text = heading in ("prior", "solver", "flag")
        drawn.add_column(
            heading,
            justify="left" if text else "right",
            no_wrap=heading not in ("prior", "flag"),
            overflow="fold",
        )
    return drawn


def _settings(means: pd.DataFrame, console: Console) -> None:
    """One line a setting; of the contenders the best value of each column is marked, and every FID
    that overlaps it.

    Of one seed nothing is marked: which fit came out best says nothing of the priors.
    """
    means = means.assign(milliseconds=1000 * (means.prior_seconds + means.denoise_seconds))
    shown = [c for c in SHOWN if console.width >= c.room]
    ranked = ~means.control.astype(bool) & ~means.flag.map(unfair).astype(bool) & (means.seeds > 1)
    means = means.assign(ranked=ranked)
    contenders = means[ranked]
    best = {c.name: (contenders[c.name] * c.better).max() * c.better for c in shown if c.better}
    reach = contenders[contenders.fid == best["fid"]].fid_high.max()
    drawn = _table("t_trunc", "solver", "NFE", "prior", *(c.heading for c in shown))
    last = None
    for row in means.itertuples():
        if last is not None and row.t_trunc != last:
            drawn.add_section()
        last = row.t_trunc
        cells = []
        for column in shown:
            value = float(getattr(row, column.name))
            text = column.form.format(value) if value == value else ""
            marked = row.ranked and column.better and value == best[column.name]
            marked = marked or (row.ranked and column.name == "fid" and row.fid_low <= reach)
            cells.append(
                Text(text + ("*" if marked else " "), style="bold green" if marked else "")
            )
        first = (
            str(row.t_trunc),
            str(row.solver),
            str(int(row.nfe)),
            Text(named(row.prior, row.params)),
        )
        drawn.add_row(*first, *cells, style="dim" if row.control else "")
    console.print(drawn)
    if len(contenders):
        console.print("* best of all contenders' rows, and every FID whose interval reaches it.")
    elif (means.seeds == 1).any():
        console.print("Of one seed no row is marked as best: other fits come out otherwise.")


def _best(best: pd.DataFrame, console: Console) -> None:
    """One line a prior and NFE, by the setting that did best on the validation split."""
    rank = ["rank"] if best["rank"].notna().any() else []
    drawn = _table(
        "NFE",
        *rank,
        "prior",
        "t_trunc",
        "solver",
        "FID",
        "95 %",
        "excess",
        "x noise",
        "x noise, time",
        "pays from",
    )
    last = None
    for row in best.fillna({"params": ""}).sort_values(["nfe", "control", "fid"]).itertuples():
        if last is not None and row.nfe != last:
            drawn.add_section()
        last = row.nfe
        interval = "" if row.fid_low != row.fid_low else f"{row.fid_low:.2f}..{row.fid_high:.2f}"
        pays = (
            ""
            if row.break_even != row.break_even
            else "never"
            if row.break_even > 1e12
            else f"{row.break_even:.0f}"
        )
        drawn.add_row(
            str(row.nfe), *((f"{row.rank:.0f}" if row.rank == row.rank else "") for _ in rank),
            Text(named(row.prior, row.params)), str(row.t_trunc), str(row.solver), f"{row.fid:.2f}", interval,
            *("" if v != v else f"{v:.2f}" for v in (row.excess, row.relative_nfe, row.relative_time)), pays,
            style="dim" if row.control else "",
        )  # fmt: skip
    console.print(drawn)
    console.print(
        "Settings chosen on the validation split, figures of the test split. excess: FID above the oracle's.\n"
        "x noise: FID over that of the best solver from pure noise at the same NFE, and in the same time. pays from: "
        "samples after which the fit is earned back."
    )

"""The comparison as a terminal shows it."""

from dataclasses import dataclass

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Column:
    """A shown column: its heading, how to print it, whether more (1) or less (-1) of it is better, and from how many
    characters a line on there is room for it."""

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


def show(table: pd.DataFrame, console: Console) -> None:
    """Print the means over seeds, one line a setting; of the contenders the best value of each column is marked."""
    good = table[table.status == "ok"].copy()
    good["milliseconds"] = 1000 * (good.prior_seconds + good.denoise_seconds)
    keys = ["t_trunc", "solver", "nfe", "prior", "params", "control"]
    means = good.groupby(keys, sort=False, as_index=False)[[c.name for c in SHOWN]].mean()
    shown = [c for c in SHOWN if console.width >= c.room]
    contenders = means[~means.control.astype(bool)]
    best = {c.name: (contenders[c.name] * c.better).max() * c.better for c in shown if c.better}

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    drawn.add_column("t_trunc", justify="right", no_wrap=True)
    drawn.add_column("solver", no_wrap=True)
    drawn.add_column("NFE", justify="right", no_wrap=True)
    drawn.add_column("prior", overflow="fold")
    for column in shown:
        drawn.add_column(column.heading, justify="right", no_wrap=True)
    last = None
    for row in means.itertuples():
        if last is not None and row.t_trunc != last:
            drawn.add_section()
        last = row.t_trunc
        control = bool(row.control)
        label = f"{row.prior}[{row.params}]" if row.params else str(row.prior)
        cells = []
        for column in shown:
            value = float(getattr(row, column.name))
            text = column.form.format(value) if value == value else ""
            marked = not control and column.better and value == best[column.name]
            cells.append(Text(text + ("*" if marked else " "), style="bold green" if marked else ""))
        drawn.add_row(
            str(row.t_trunc),
            str(row.solver),
            str(int(row.nfe)),
            Text(label),
            *cells,
            style="dim" if control else "",
        )
    console.print(drawn)
    if len(good):
        floor, reference = good.fid_floor.mean(), good.authenticity_test.mean()
        console.print(
            f"FID in features of {escape(str(good.extractor.iloc[0]))}, {good.n_samples.iloc[0]} samples against the "
            f"{good.split.iloc[0]} split. Floor (training images): FID {floor:.2f}; held-out images' authenticity: "
            f"{reference:.2f}.\n* best of all contenders' rows; dim rows are controls. FID, KID, W2: less is better."
        )
    for warning in good.warning[good.warning != ""].unique():
        console.print(f"[bold yellow]warning[/] {escape(warning)}")
    bad = table[table.status != "ok"].fillna({"params": ""})
    for (prior, params, error), rows in bad.groupby(["prior", "params", "error"], sort=False):
        label = f"{prior}[{params}]" if params else str(prior)
        where = ", ".join(str(t) for t in rows.t_trunc.unique())
        console.print(f"[bold red]failed[/] {escape(label)} at t_trunc {where}: {escape(error)}")

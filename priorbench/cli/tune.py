"""``priorbench tune``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..files import CannotWrite

if TYPE_CHECKING:
    from rich.table import Table

    from ..tuning import Limit, Tuned


@click.command(
    epilog="Plugins: --plugin FILE, --plugins-dir FOLDER, -p no:NAME; see 'priorbench --help'."
)
@click.argument("config", required=False)
@click.option("--max-nfe", type=click.IntRange(1), help="Evaluations that an image may take.")
@click.option("--max-seconds", type=float, help="Seconds that an image may take here.")
@click.option("--priors", help="The contenders: 'mixture,ot' or 'ot[width=64],ot[width=512]'.")
@click.option("--t-trunc", help="Where the chain may start: 100,200,400.")
@click.option("--solver", help="The solvers to choose among, as for 'run'.")
@click.option("--steps", help="The numbers of steps. [default: all that the limits allow]")
@click.option("--fit-budget", help="The longest fit: 60s, '500 steps', 50%. [default: its own]")
@click.option("--seeds", type=int, help="The number of seeds of what is measured in the end.")
@click.option("--seed", type=int, help="The first seed.")
@click.option("--n-samples", type=int, help="The number of samples of what is measured in the end.")
@click.option("--dataset", help="As for 'run'.")
@click.option("--backbone", help="As for 'run'.")
@click.option("--extractor", help="As for 'run'.")
@click.option("--device", help="auto, cpu, cuda, ...")
@click.option(
    "--trials",
    type=click.IntRange(2),
    default=32,
    show_default=True,
    help="The number of settings to try; rivals of those that come through are tried besides.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False),
    help="The folder to write. [default: results/<config name>-tuned]",
)
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set any key of the config."
)
@click.option("--report/--no-report", default=True, help="Write the page report.html.")
def tune(
    config: str | None,
    max_nfe: int | None,
    max_seconds: float | None,
    trials: int,
    output: str | None,
    sets: tuple[str, ...],
    report: bool,
    **options: Any,
) -> int:
    """Search for the best setting under a cost, without the whole grid.

    Settings are tried with few samples and short fits, and the best go on with more. What comes
    through is measured as in a run. To resume, repeat the command.
    """
    from pathlib import Path

    from ..errors import UserError
    from ..plan.layout import read_plan
    from ..runner import output_folder
    from ..store.provenance import command
    from ..store.results import Store
    from ..tuning import Limit, read_tuning, tune
    from .progress import Bars
    from .signals import Stopped, stops_tidily

    limit = Limit(max_nfe, max_seconds)
    folder = output_folder(read_plan(config, options, sets).config, output)
    store = Store(folder if output else Path(f"{folder}-tuned"))
    plan = read_tuning(config, options, sets, limit, store.folder)
    try:
        with stops_tidily():
            found = tune(plan, store, limit, trials, report, Bars())
    except Stopped as stop:
        click.echo(f"priorbench: stopped; to resume: {command()}", err=True)
        return stop.code
    except CannotWrite as error:
        raise UserError(f"{error}; to resume: {command()}") from error
    _show(found, store.folder, limit)
    return 0


def _show(found: Tuned, folder: Any, limit: Limit) -> None:
    """Print what was tried, the tables of what came through, what is picked, and the cost."""
    from ..report.terminal import output_console, show
    from ..tables.best import best
    from ..tables.fold import summary
    from ..tables.words import named
    from ..winner import load_best
    from .words import duration

    console = output_console()
    console.print(_tried(found))
    means = summary(found.comparison)
    show(found.comparison, means, best(found.comparison, means), console)
    tried = found.tried.cell.nunique()
    picked = load_best(folder)
    console.print(picked.picked, highlight=False, markup=False)
    seconds = picked.row["prior_seconds"] + picked.row["denoise_seconds"]
    if broken := limit.broken_by(picked.row["nfe"], seconds):
        console.print(
            f"warning: in the end it {broken}, over the limit; timings vary here: time it again on "
            "an idle machine, or 'priorbench sample --max-seconds' picks by the table",
            highlight=False,
            markup=False,
        )
    failed = found.tried[found.tried.outcome.str.startswith("failed")]
    for row in failed.drop_duplicates(["prior", "params", "t_trunc", "outcome"]).itertuples():
        console.print(
            f"warning: {named(row.prior, row.params)} at t_trunc = {row.t_trunc} {row.outcome}",
            highlight=False,
            markup=False,
        )
    console.print(
        f"{tried} of {found.settings} settings were tried, in {duration(found.seconds)} with what "
        f"was measured in the end; the whole grid with its controls would take about "
        f"{duration(found.grid_seconds)}.",
        highlight=False,
    )
    console.print(
        "The full chain was not run: whether the model itself is good enough to judge priors by, "
        "only a run says.",
        highlight=False,
    )
    console.print(f"{folder}: tried.csv, and what a run writes", highlight=False, markup=False)


def _tried(found: Tuned) -> Table:
    """The last rung of each setting, those that went furthest first."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from ..tables.words import named

    title = "tried (FID on the choosing split, of as many samples as stated)"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("prior", "t_trunc", "solver", "steps", "NFE", "ms/image", "samples", "fit"):
        table.add_column(name, justify="left" if name in ("prior", "solver") else "right")
    table.add_column("FID", justify="right")
    table.add_column("outcome")
    last = found.tried.drop_duplicates("cell", keep="last")
    for row in last.sort_values(["rung", "fid"], ascending=[False, True]).itertuples():
        table.add_row(
            escape(named(row.prior, row.params)), str(row.t_trunc), str(row.solver), str(row.steps),
            f"{row.nfe:.0f}", f"{1000 * row.seconds:.2f}", str(row.n_samples),
            str(row.fit_budget), f"{row.fid:.3f}", escape(str(row.outcome)),
        )  # fmt: skip
    return table

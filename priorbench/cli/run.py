"""``priorbench run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from ..errors import UserError
from ..files import CannotWrite

if TYPE_CHECKING:
    from ..plan.layout import Plan
    from ..plan.spec import CellSpec


@click.command(
    epilog="Plugins: --plugin FILE, --plugins-dir FOLDER, -p no:NAME; see 'priorbench --help'."
)
@click.argument("config", required=False)
@click.option("--priors", help="Contenders: 'ot,vae' or 'ot[projections=64],ot[projections=512]'.")
@click.option("--t-trunc", help="Where the chain starts: 100,200,400.")
@click.option(
    "--solver",
    help="ddpm, ddim, dpm++, dpm++sde, unipc, or a diffusers scheduler's class; several by commas.",
)
@click.option(
    "--steps", help="Steps of the truncated chain, several by commas; 'all' takes every timestep."
)
@click.option("--fit-budget", help="The same for every learned prior: 60s, 2min or '500 steps'.")
@click.option("--seeds", type=int, help="How many seeds.")
@click.option("--seed", type=int, help="The first of them.")
@click.option("--n-samples", type=int, help="Samples drawn for each measurement.")
@click.option(
    "--dataset",
    help="digits, mnist, torchvision:CIFAR10, a folder of images, an .npz; NAME[key=value].",
)
@click.option(
    "--backbone",
    help="A registered model, a diffusers folder or a hub name. [default: the data set's own]",
)
@click.option(
    "--extractor",
    help="Features of FID: a registered one, inception-v3-compat, a folder. [default: as above]",
)
@click.option("--metrics", help="Metrics that plugins add, by commas.")
@click.option("--device", help="auto, cpu, cuda, ...")
@click.option(
    "--output",
    type=click.Path(file_okay=False),
    help="Where to write. [default: results/<config name>]",
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any key of the config, as often as needed.",
)
@click.option("--executor", help="serial, process, or one that a plugin adds.")
@click.option("--workers", type=int, help="How many cells at once, for --executor process.")
@click.option("--timeout", help="Give a cell up as failed after so long: 60s, 10min, 2h.")
@click.option(
    "--exclusive-timing",
    is_flag=True,
    default=None,
    help="Time again, alone, what was timed beside others.",
)
@click.option(
    "--from", "again", metavar="FILE", help="Do the run of a run.json again, in place of CONFIG."
)
@click.option("--collect", is_flag=True, help="Compute nothing: the tables of what is there.")
@click.option("--fresh", is_flag=True, help="Compute everything again, whatever is there.")
@click.option(
    "--report/--no-report",
    default=True,
    help="Write report.html, a page to look at. [default: --report]",
)
@click.option(
    "--dry-run", is_flag=True, help="Print the plan and an estimate of the time, and do nothing."
)
def run(
    config: str | None,
    sets: tuple[str, ...],
    output: str | None,
    again: str | None,
    collect: bool,
    fresh: bool,
    report: bool,
    dry_run: bool,
    **options: Any,
) -> int:
    """Compare priors at every t_trunc, solver and number of steps.

    CONFIG is a YAML file or the name of a preset; without it, the digits default runs. What is done
    is kept, and the same command again computes only what is missing.
    """
    from .signals import Stopped, stops_tidily

    _at_most_one({"CONFIG": config, "--from": again})
    _at_most_one({"--collect": collect, "--fresh": fresh, "--dry-run": dry_run})
    past = None
    if again:
        from ..store.provenance import read_provenance

        past = read_provenance(again)
    import torch  # noqa: F401 - from here on it is needed, and this is where the wait is
    from rich.markup import escape

    from ..bench.estimate import estimate
    from ..plan.layout import read_plan
    from ..report.terminal import show
    from ..runner import execute, output_folder
    from ..store.provenance import command, differences
    from ..store.results import Store
    from ..tables.fold import summary
    from ..tables.selection import best
    from .progress import Bars

    console = Console()
    if not console.is_terminal:
        console.width = 140  # a log file has room for every column
    plan = read_plan(past["config"] if past else config, options, sets)
    store = Store(output_folder(plan.config, output))
    if dry_run:
        missing = [spec for spec in plan.cells if fresh or store.missing(spec)]
        _print_plan(plan, missing, estimate(plan, missing), console, str(store.folder))
        return 0
    for line in differences(past, plan) if past else []:
        click.echo(f"priorbench: not as in {again}: {line}", err=True)

    def done() -> str:
        whole = sum(not store.missing(spec) for spec in plan.cells)
        cells = f"{whole} of {len(plan.cells)} cells are done and kept in {store.folder}"
        return f"{cells}; to go on: {command(without='--fresh')}"

    try:
        with stops_tidily():
            table = execute(
                plan, store, fresh=fresh, collect=collect, report=report, observer=Bars()
            )
    except Stopped as stop:
        click.echo(f"priorbench: stopped; {done()}", err=True)
        return stop.code
    except CannotWrite as error:
        raise UserError(f"{error}; {done()}") from error
    means = summary(table)
    show(table, means, best(table, means), console)
    failed = int((table.status != "ok").sum())
    console.print(
        f"{escape(str(store.folder))}: comparison.csv, summary.csv, best.csv, grids/, priors/"
        + (", report.html" if report else "")
        + (
            f"; [bold red]{failed} failed[/] {'row' if failed == 1 else 'rows'}, see logs/ there"
            if failed
            else ""
        ),
        highlight=False,
    )
    return 1 if failed else 0


def _at_most_one(given: dict[str, Any]) -> None:
    named = [name for name, value in given.items() if value]
    if len(named) > 1:
        raise UserError(f"{' and '.join(named)} cannot be given together")


def _print_plan(
    plan: Plan, missing: list[CellSpec], seconds: float, console: Console, folder: str
) -> None:
    from rich.markup import escape

    for spec in plan.cells:
        solvers = ", ".join(f"{s} {'all' if k is None else k}" for s, k in spec.solvers)
        note = "" if spec in missing else " (done)"
        console.print(
            escape(f"{spec.label} t_trunc {spec.t_trunc} seed {spec.seed}: {solvers}{note}"),
            highlight=False,
        )
    done = len(plan.cells) - len(missing)
    console.print(
        f"{len(plan.cells)} cells ({done} done), {plan.rows} rows into {escape(folder)}; "
        f"about {_duration(seconds)} on this machine",
        highlight=False,
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min"
        if hours
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )

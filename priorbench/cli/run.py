"""``priorbench run``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..errors import UserError
from ..files import CannotWrite

if TYPE_CHECKING:
    import pandas as pd

    from ..plan.layout import Plan
    from ..plan.shards import Shard
    from ..plan.spec import CellSpec
    from ..store.results import Store


@click.command(
    epilog="Plugins: --plugin FILE, --plugins-dir FOLDER, -p no:NAME; see 'priorbench --help'."
)
@click.argument("config", required=False)
@click.option(
    "--priors", help="The contenders: 'ot,vae' or 'ot[projections=64],ot[projections=512]'."
)
@click.option("--t-trunc", help="Where the chain starts: 100,200,400.")
@click.option(
    "--solver",
    help="ddpm, ddim, dpm++, dpm++sde, unipc, or the class of a diffusers scheduler; separate "
    "several by commas.",
)
@click.option(
    "--steps",
    help="Steps of the truncated chain: 5,10,20; 'all' takes every timestep.",
)
@click.option(
    "--fit-budget",
    help="Give every learned prior the same budget: 60s, 2min, '500 steps' or 25%; 10s,60s,5min "
    "runs the grid with each.",
)
@click.option("--seeds", type=int, help="The number of seeds.")
@click.option("--seed", type=int, help="The first seed.")
@click.option("--n-samples", type=int, help="The number of samples drawn for each measurement.")
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
    help="The network whose features FID uses: a registered name, inception-v3-compat or a "
    "folder. [default: the data set's own]",
)
@click.option("--metrics", help="Metrics that plugins add, separated by commas.")
@click.option("--device", help="auto, cpu, cuda, ...")
@click.option(
    "--output",
    type=click.Path(file_okay=False),
    help="The folder to write. [default: results/<config name>]",
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set any key of the config. Can be repeated.",
)
@click.option("--executor", help="serial, process, or the name of one that a plugin adds.")
@click.option(
    "--workers", type=int, help="The number of cells computed at once by --executor process."
)
@click.option("--timeout", help="Fail a cell after this long: 60s, 10min, 2h.")
@click.option(
    "--exclusive-timing",
    is_flag=True,
    default=None,
    help="Time cells again, alone, if they were timed beside others.",
)
@click.option(
    "--from", "again", metavar="FILE", help="Repeat the run recorded in run.json, without CONFIG."
)
@click.option(
    "--shard",
    metavar="K/N",
    help="Compute the K-th of N parts, beside the jobs of the others; then --collect.",
)
@click.option("--collect", is_flag=True, help="Only rebuild the tables.")
@click.option("--fresh", is_flag=True, help="Compute everything again, including finished cells.")
@click.option(
    "--report/--no-report",
    default=True,
    help="Write the page report.html. [default: --report]",
)
@click.option(
    "--dry-run", is_flag=True, help="Only print the plan and an estimate of the time it takes."
)
def run(
    config: str | None,
    sets: tuple[str, ...],
    output: str | None,
    again: str | None,
    shard: str | None,
    collect: bool,
    fresh: bool,
    report: bool,
    dry_run: bool,
    **options: Any,
) -> int:
    """Compare priors at every t_trunc, solver and number of steps.

    CONFIG is a YAML file or the name of a preset; the default is the preset digits. Finished cells
    are kept. To resume an interrupted run, repeat the command.
    """
    _at_most_one({"CONFIG": config, "--from": again})
    _at_most_one({"--collect": collect, "--fresh": fresh, "--dry-run": dry_run})
    _at_most_one({"--collect": collect, "--shard": shard})
    past = _past_run(again) if again else None
    import torch  # noqa: F401 - the slow import, after the errors that need none

    from ..plan.layout import read_plan
    from ..plan.shards import WHOLE, Shard
    from ..runner import open_store

    part = Shard.parse(shard) if shard else WHOLE
    plan = read_plan(past["config"] if past else config, options, sets)
    store = open_store(plan.config, output, part)
    if dry_run:
        _dry_run(replace(plan, cells=part.of(plan.cells)), store, fresh)
        return 0
    if past:
        _say_differences(past, plan, str(again))
    return _run(plan, store, part, fresh=fresh, collect=collect, report=report)


def _at_most_one(given: dict[str, Any]) -> None:
    named = [name for name, value in given.items() if value]
    if len(named) > 1:
        raise UserError(f"{' and '.join(named)} cannot be given together")


def _past_run(path: str) -> dict[str, Any]:
    from ..store.provenance import read_provenance

    return read_provenance(path)


def _say_differences(past: dict[str, Any], plan: Plan, path: str) -> None:
    """Print how this run differs from the one that it repeats."""
    from ..store.provenance import differences

    for line in differences(past, plan):
        click.echo(f"priorbench: differs from {path}: {line}", err=True)


def _dry_run(plan: Plan, store: Store, fresh: bool) -> None:
    """Print the cells of a plan, and about how long those that are left take."""
    from rich.markup import escape

    from ..bench.estimate import estimate
    from ..report.terminal import output_console

    console = output_console()
    left = [spec for spec in plan.cells if fresh or store.missing(spec)]
    for spec in plan.cells:
        solvers = ", ".join(f"{s} {'all' if k is None else k}" for s, k in spec.solvers)
        note = "" if spec in left else " (done)"
        line = f"{spec.title}: {solvers}{note}"
        console.print(escape(line), highlight=False)
    done, needed = len(plan.cells) - len(left), estimate(plan, left)
    console.print(
        f"{len(plan.cells)} cells ({done} done), {plan.rows} rows into "
        f"{escape(str(store.folder))}; about {duration(needed.seconds)} on this machine and "
        f"{megabytes(needed.disk)} of disk",
        highlight=False,
    )


def megabytes(size: float) -> str:
    """``350 MB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"


def duration(seconds: float) -> str:
    """``3 min 20 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _run(
    plan: Plan, store: Store, shard: Shard, *, fresh: bool, collect: bool, report: bool
) -> int:
    """Compute a plan and print its tables; returns the exit code."""
    from ..report.terminal import output_console, show
    from ..runner import execute
    from ..tables.best import best
    from ..tables.fold import summary
    from .progress import Bars
    from .signals import Stopped, stops_tidily

    try:
        with stops_tidily():
            table = execute(
                plan, store, fresh=fresh, collect=collect, report=report, observer=Bars(),
                shard=shard,
            )  # fmt: skip
    except Stopped as stop:
        click.echo(f"priorbench: stopped; {_done(plan, store, shard)}", err=True)
        return stop.code
    except CannotWrite as error:
        raise UserError(f"{error}; {_done(plan, store, shard)}") from error
    if shard.name:
        return _said_of_shard(plan, store, shard, table)
    console = output_console()
    means = summary(table)
    show(table, means, best(table, means), console)
    console.print(_written(table, store, report), highlight=False)
    return 1 if (table.status != "ok").any() else 0


def _done(plan: Plan, store: Store, shard: Shard) -> str:
    from ..store.provenance import command

    cells = shard.of(plan.cells)
    done = sum(not store.missing(spec) for spec in cells)
    kept = f"{done} of {len(cells)} cells are done and kept in {store.folder}"
    return f"{kept}; to resume: {command('--fresh')}"


def _said_of_shard(plan: Plan, store: Store, shard: Shard, table: pd.DataFrame) -> int:
    """Print how far a shard and the others are; returns the exit code."""
    from ..store.provenance import command

    def done(cells: list[CellSpec]) -> str:
        return f"{sum(not store.missing(spec) for spec in cells)} of {len(cells)}"

    mine = shard.of(plan.cells)
    click.echo(
        f"shard {shard.name}: {done(mine)} cells done; of all shards {done(plan.cells)}. When all "
        f"are: {command('--shard', '--fresh')} --collect"
    )
    names = {one.cell for spec in mine for one in spec.results}
    failed = (table.status != "ok") & table.cell.isin(names)
    for error in table[failed].error.unique():
        click.echo(f"priorbench: failed: {error}", err=True)
    return 1 if failed.any() else 0


def _written(table: pd.DataFrame, store: Store, report: bool) -> str:
    """The files that a run wrote, and how many rows failed, as rich markup."""
    from rich.markup import escape

    files = ["comparison.csv", "summary.csv", "best.csv", "grids/", "priors/"]
    files += ["fits/"] if (store.folder / "fits").is_dir() else []
    files += ["report.html"] if report else []
    said = f"{escape(str(store.folder))}: {', '.join(files)}"
    failed = int((table.status != "ok").sum())
    if failed:
        rows = "row" if failed == 1 else "rows"
        said += f"; [bold red]{failed} failed[/] {rows}, see logs/ there"
    return said

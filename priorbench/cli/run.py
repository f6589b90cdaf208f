"""``priorbench run``."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ..errors import UserError
from ..files import CannotWrite
from .sections import Sectioned, options_of
from .words import duration

if TYPE_CHECKING:
    import pandas as pd

    from ..plan.layout import Plan
    from ..plan.shards import Shard
    from ..plan.spec import CellSpec
    from ..store.results import Store
    from .progress import Volume


def presets_and_files(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """What a shell offers for CONFIG."""
    from ..plan.reading import presets

    found = [CompletionItem(name) for name in presets() if name.startswith(begun)]
    return [*found, CompletionItem(begun, type="file")]


compared, by_what = options_of("What is compared"), options_of("By what")
measured, placed = options_of("How it is measured"), options_of("How cells are computed")
kept, told = options_of("What is kept"), options_of("What is said")


@click.command(
    cls=Sectioned,
    epilog="Plugins: --plugin FILE, --plugins-dir FOLDER, -p no:NAME; see 'priorbench --help'. "
    "Defaults are those of the preset digits, which other presets change.",
)
@click.argument("config", required=False, shell_complete=presets_and_files)
@compared(
    "--priors",
    help="The contenders: 'ot,vae' or 'ot[width=64],ot[width=512]'. "
    "[default: gaussian,mixture,ot,vae,gan]",
)
@compared("--t-trunc", help="Where the chain starts. [default: 100,200,400]")
@compared(
    "--solver",
    help="ddpm, ddim, dpm++, dpm++sde, unipc, or the class of a diffusers scheduler; separate "
    "several by commas. [default: dpm++]",
)
@compared(
    "--steps",
    help="Steps of the truncated chain: 5,10,20; 'all' takes every timestep. [default: 5]",
)
@compared(
    "--fit-budget",
    help="Give every learned prior the same budget: 60s, 2min, '500 steps' or 25%; 10s,60s,5min "
    "runs the grid with each. [default: each prior's own number of steps]",
)
@compared("--seeds", type=int, help="The number of seeds. [default: 1]")
@compared("--seed", type=int, help="The first seed. [default: 0]")
@by_what(
    "--dataset",
    help="digits, mnist, torchvision:CIFAR10, a folder of images, an .npz; NAME[key=value]. "
    "[default: digits]",
)
@by_what(
    "--backbone",
    help="A registered model, a diffusers folder or a hub name. [default: the data set's own]",
)
@by_what(
    "--extractor",
    help="The network whose features FID uses: a registered name, inception-v3-compat or a "
    "folder. [default: the data set's own]",
)
@measured(
    "--n-samples",
    type=int,
    help="The number of samples drawn for each measurement. [default: 1500]",
)
@measured("--metrics", help="Metrics that plugins add, separated by commas.")
@measured("--device", help="auto, cpu, cuda, ... [default: auto]")
@measured(
    "--exclusive-timing",
    is_flag=True,
    default=None,
    help="Time cells again, alone, if they were timed beside others.",
)
@placed(
    "--executor",
    help="serial, process, ray, or the name of one that a plugin adds. [default: serial]",
)
@placed(
    "--workers",
    type=int,
    help="The number of cells computed at once by --executor process. [default: 1]",
)
@placed("--timeout", help="Fail a cell after this long: 60s, 10min, 2h. [default: never]")
@placed(
    "--shard",
    metavar="K/N",
    help="Compute the K-th of N parts, beside the jobs of the others; then --collect.",
)
@kept(
    "--output",
    type=click.Path(file_okay=False),
    help="The folder to write. [default: results/<config name>]",
)
@kept("--fresh", is_flag=True, help="Compute everything again, including finished cells.")
@kept("--collect", is_flag=True, help="Only rebuild the tables.")
@kept(
    "--from", "again", metavar="FILE", help="Repeat the run recorded in run.json, without CONFIG."
)
@kept(
    "--report/--no-report",
    default=True,
    help="Write the page report.html. [default: --report]",
)
@kept(
    "--track",
    help="Also log the run to mlflow, wandb, tensorboard or a plugin's tracker; NAME[key=value].",
)
@told("--dry-run", is_flag=True, help="Only print the plan and an estimate of the time it takes.")
@told("--json", "as_json", is_flag=True, help="Print the plan of --dry-run as JSON.")
@told("-q", "--quiet", is_flag=True, help="No progress and no tables: only what went wrong.")
@told("-v", "--verbose", is_flag=True, help="Tell of each cell all its FIDs, its fit and its log.")
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set any key of the config. Can be repeated.",
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
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Compare priors at every t_trunc, solver and number of steps.

    CONFIG is a YAML file or the name of a preset; the default is the preset digits. Finished cells
    are kept. To resume an interrupted run, repeat the command.
    """
    _at_most_one({"CONFIG": config, "--from": again})
    _at_most_one({"--collect": collect, "--fresh": fresh, "--dry-run": dry_run})
    _at_most_one({"--collect": collect, "--shard": shard})
    _at_most_one({"--quiet": quiet, "--verbose": verbose})
    if as_json and not dry_run:
        raise UserError("--json is of --dry-run: the tables of a run are CSV files already")
    past = _past_run(again) if again else None
    if options["executor"] == "process" and not (dry_run or collect):
        from ..bench.forks import begin_to_import

        begin_to_import()
    import torch  # noqa: F401 - the slow import, after the errors that need none

    from ..plan.layout import read_plan
    from ..plan.shards import WHOLE, Shard
    from ..runner import open_store
    from .progress import Volume

    part = Shard.parse(shard) if shard else WHOLE
    plan = read_plan(past["config"] if past else config, options, sets)
    store = open_store(plan.config, output, part)
    if config is None and options["dataset"]:
        _say_taken_over(options, sets)
    if dry_run:
        _dry_run(plan, store, part, fresh, as_json)
        return 0
    if past:
        _say_differences(past, plan, str(again))
    said = Volume.QUIET if quiet else Volume.VERBOSE if verbose else Volume.NORMAL
    return _run(plan, store, part, said, fresh=fresh, collect=collect, report=report)


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


def _say_taken_over(options: dict[str, Any], sets: tuple[str, ...]) -> None:
    """Print what a run on another data set takes from the preset of digits."""
    from ..plan.reading import taken_over

    found = taken_over(options, sets)
    if found:
        said = "; ".join(f"{key}: {json.dumps(value)}" for key, value in found.items())
        click.echo(f"priorbench: as in the preset digits: {said}", err=True)


def _dry_run(plan: Plan, store: Store, part: Shard, fresh: bool, as_json: bool) -> None:
    """Print the cells of a part of a plan, and about how long those that are left take."""
    from ..bench.estimate import estimate
    from ..report.terminal import output_console
    from ..runner import matched, unfinished

    every = matched(plan, store)
    plan = replace(every, cells=part.of(every.cells))
    left = plan.cells if fresh else unfinished(plan.cells, store)
    needed = estimate(plan, left, None if fresh else store.fits)
    settings = {spec.title: len(spec.solvers) for spec in left}
    cells = [
        {
            "title": spec.title,
            "prior": spec.label,
            "t_trunc": spec.t_trunc,
            "seed": spec.seed,
            "fit_budget": spec.fit_budget,
            "settings": [[solver, steps] for solver, steps in spec.solvers],
            "done": spec.title not in settings,
        }
        for spec in plan.cells
    ]
    if as_json:
        about = {"folder": str(store.folder), "rows": plan.rows, "cells": cells}
        about |= {"seconds": round(needed.seconds, 1), "bytes": round(needed.disk)}
        click.echo(json.dumps(about, indent=1))
        return
    console = output_console()
    for spec in plan.cells:
        solvers = ", ".join(f"{s} {'all' if k is None else k}" for s, k in spec.solvers)
        done, count = len(spec.solvers) - settings.get(spec.title, 0), len(spec.solvers)
        note = " (done)" if done == count else f" ({done} of {count} done)" if done else ""
        console.print(f"{spec.title}: {solvers}{note}", highlight=False, markup=False)
    console.print(
        f"{len(plan.cells)} cells ({len(plan.cells) - len(left)} done), {plan.rows} rows into "
        f"{store.folder}; about {duration(needed.seconds)} on this machine and "
        f"{megabytes(needed.disk)} of disk",
        highlight=False,
        markup=False,
    )


def megabytes(size: float) -> str:
    """``350 MB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"


def _run(
    plan: Plan,
    store: Store,
    shard: Shard,
    said: Volume,
    *,
    fresh: bool,
    collect: bool,
    report: bool,
) -> int:
    """Compute a plan and print its tables; returns the exit code."""
    from ..report.terminal import output_console, show
    from ..runner import execute
    from ..tables.best import best
    from ..tables.fold import summary
    from .progress import Bars, Volume
    from .signals import Stopped, stops_tidily

    try:
        with stops_tidily():
            table = execute(
                plan, store, fresh=fresh, collect=collect, report=report, observer=Bars(said),
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
    if said is Volume.QUIET:
        return 1 if (table.status != "ok").any() else 0
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

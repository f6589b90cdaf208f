"""``priorbench run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

if TYPE_CHECKING:
    from ..bench.plan import CellSpec, Plan


@click.command(epilog="Plugins: --plugin FILE, --plugins-dir FOLDER, -p no:NAME; see 'priorbench --help'.")
@click.argument("config", required=False)
@click.option("--priors", help="Contenders: 'ot,vae' or 'ot[projections=64],ot[projections=512]'.")
@click.option("--t-trunc", help="Where the chain starts: 100,200,400.")
@click.option(
    "--solver",
    help="ddpm, ddim, dpm++, dpm++sde, unipc, or a diffusers scheduler's class; several by commas.",
)
@click.option("--steps", help="Steps of the truncated chain, several by commas; 'all' takes every timestep.")
@click.option("--fit-budget", help="The same for every learned prior: 60s, 2min or '500 steps'.")
@click.option("--seeds", type=int, help="How many seeds.")
@click.option("--seed", type=int, help="The first of them.")
@click.option("--n-samples", type=int, help="Samples drawn for each measurement.")
@click.option("--dataset", help="digits, mnist, torchvision:CIFAR10, a folder of images, an .npz; NAME[key=value].")
@click.option("--backbone", help="A registered model, a diffusers folder or a hub name. [default: the data set's own]")
@click.option(
    "--extractor", help="Features of FID: a registered one, inception-v3-compat, a folder. [default: as above]"
)
@click.option("--metrics", help="Metrics that plugins add, by commas.")
@click.option("--device", help="auto, cpu, cuda, ...")
@click.option("--output", type=click.Path(file_okay=False), help="Where to write. [default: results/<config name>]")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any key of the config, as often as needed.")
@click.option("--fresh", is_flag=True, help="Compute everything again, whatever is there.")
@click.option("--dry-run", is_flag=True, help="Print the plan and an estimate of the time, and do nothing.")
def run(
    config: str | None, sets: tuple[str, ...], output: str | None, fresh: bool, dry_run: bool, **options: Any
) -> int:
    """Compare priors at every t_trunc, solver and number of steps.

    CONFIG is a YAML file or the name of a preset; without it, the digits default runs.
    """
    from ..bench.config import make_config

    settings = make_config(config, options, sets)

    import torch  # noqa: F401 - from here on it is needed, and this is where the wait is
    from rich.markup import escape

    from ..bench.plan import make_plan
    from ..bench.run import estimate, execute, output_folder
    from ..bench.store import Store
    from ..bench.table import summary
    from ..bench.verdict import best
    from ..report.terminal import show
    from .bars import Bars

    console = Console()
    if not console.is_terminal:
        console.width = 140  # a log file has room for every column
    plan = make_plan(settings)
    store = Store(output_folder(settings, output))
    if dry_run:
        missing = [spec for spec in plan.cells if fresh or store.read(spec) is None]
        _print_plan(plan, missing, estimate(plan, missing), console, str(store.folder))
        return 0
    table = execute(plan, store, fresh=fresh, observer=Bars())
    means = summary(table)
    show(table, means, best(table, means), console)
    failed = int((table.status != "ok").sum())
    console.print(
        f"{escape(str(store.folder))}: comparison.csv, summary.csv, best.csv, grids/, priors/"
        + (f"; [bold red]{failed} failed[/] {'row' if failed == 1 else 'rows'}, see logs/ there" if failed else ""),
        highlight=False,
    )
    return 1 if failed else 0


def _print_plan(plan: Plan, missing: list[CellSpec], seconds: float, console: Console, folder: str) -> None:
    from rich.markup import escape

    for spec in plan.cells:
        solvers = ", ".join(f"{s} {'all' if k is None else k}" for s, k in spec.solvers)
        note = "" if spec in missing else " (done)"
        console.print(escape(f"{spec.label} t_trunc {spec.t_trunc} seed {spec.seed}: {solvers}{note}"), highlight=False)
    done = len(plan.cells) - len(missing)
    console.print(
        f"{len(plan.cells)} cells ({done} done), {plan.rows} rows into {escape(folder)}; "
        f"about {_duration(seconds)} on this machine",
        highlight=False,
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"

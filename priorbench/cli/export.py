"""``priorbench export``."""

from pathlib import Path

import click

from .picking import picks


@click.command()
@picks
@click.option(
    "--to", type=click.Path(path_type=Path), required=True, help="The folder to write, a new one."
)
def export(
    run: str, to: Path, prior: str | None, nfe: int | None, max_seconds: float | None
) -> int:
    """Write the best setting of RUN, a results folder, as a pipeline of diffusers.

    The folder has the weights, the code and a model card. It loads where there is nothing but torch
    and diffusers: DiffusionPipeline.from_pretrained(FOLDER, trust_remote_code=True).
    """
    from ..export.folder import save_pipeline
    from ..files import check_new
    from ..winner import load_best
    from .signals import Stopped, stops_tidily

    check_new(to)
    sampler = load_best(run, prior, nfe, max_seconds, device="cpu")
    click.echo(sampler.picked)
    try:
        with stops_tidily():
            click.echo(str(save_pipeline(sampler, to)))
    except Stopped as stop:
        click.echo("priorbench: stopped; nothing was written", err=True)
        return stop.code
    return 0

"""``priorbench export``."""

from pathlib import Path

import click


@click.command()
@click.argument("run")
@click.option(
    "--to", type=click.Path(path_type=Path), required=True, help="The folder to write, a new one."
)
@click.option(
    "--prior", help="Pick among the settings of this prior; 'noise' is pure noise. [default: all]"
)
@click.option("--nfe", type=int, help="Pick among those with as many evaluations an image.")
@click.option(
    "--max-seconds", type=float, help="Pick among those that took no longer for an image."
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

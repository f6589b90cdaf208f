"""``priorbench sample``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UserError
from .picking import picks

if TYPE_CHECKING:
    from torch import Tensor


@click.command()
@picks
@click.option("-n", type=click.IntRange(1), default=64, show_default=True, help="How many images.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default="samples",
    show_default=True,
    help="A new folder for PNG files and a grid of them; or a file .npz.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="[default: the run's]"
)
@click.option("--compile/--no-compile", default=None, help="[default: the run's]")
def sample(
    run: str,
    prior: str | None,
    nfe: int | None,
    max_seconds: float | None,
    n: int,
    seed: int,
    output: Path,
    device: str,
    precision: str | None,
    compile: bool | None,
) -> int:
    """Draw images by the best setting of RUN, a results folder.

    The setting is that of the least FID on the split that settings are chosen on. With the seed of
    the run, whole batches of images are those that the run measured.
    """
    from math import nan
    from time import perf_counter

    from ..files import check_new
    from ..winner import load_best
    from .progress import Bar
    from .signals import Stopped, stops_tidily

    if output.suffix and output.suffix != ".npz":
        raise UserError(f"--output must be a folder or a file .npz, got {output}")
    check_new(output)
    sampler = load_best(run, prior, nfe, max_seconds, device, precision, compile)
    click.echo(sampler.picked)
    try:
        with stops_tidily(), Bar("images") as bar:
            started = perf_counter()
            images = sampler(n, seed, "uint8", progress=lambda done, n: bar(done, n, nan))
            seconds = perf_counter() - started
            write = _write_npz if output.suffix else _write_png
            write(images, output)
    except Stopped as stop:
        click.echo("priorbench: stopped; nothing was written", err=True)
        return stop.code
    click.echo(f"{n} images by seed {seed}, {seconds / n:.2g} s an image: {output}")
    return 0


def _write_npz(images: "Tensor", path: Path) -> None:
    """Write ``arr_0``, (N, H, W, C) bytes, as evaluation suites of generative models read it."""
    import io

    import numpy as np

    from ..files import write_atomically

    buffer = io.BytesIO()
    np.savez_compressed(buffer, images.permute(0, 2, 3, 1).numpy())
    write_atomically(path, buffer.getvalue())


def _write_png(images: "Tensor", folder: Path) -> None:
    """Write a PNG for each image, and ``grid.png`` with the first of them."""
    from ..files import whole_folder
    from ..pictures import as_pil, overview

    width = len(str(len(images) - 1))
    with whole_folder(folder) as made:
        for i, image in enumerate(as_pil(images)):
            image.save(made / f"{i:0{width}}.png")
        overview(images).save(made / "grid.png")

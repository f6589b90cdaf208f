"""``priorbench sample``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from torch import Tensor


@click.command()
@click.argument("run")
@click.option(
    "--prior", help="Pick among the settings of this prior; 'noise' is pure noise. [default: all]"
)
@click.option("--nfe", type=int, help="Pick among those with as many evaluations an image.")
@click.option(
    "--max-seconds", type=float, help="Pick among those that took no longer for an image."
)
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
@click.option("--precision", help="fp32, bf16 or fp16. [default: the run's]")
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
    the run the images are those that the run measured.
    """
    from math import nan
    from time import perf_counter

    from ..errors import UserError
    from ..winner import load_best
    from .progress import Bar

    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"{output} exists already; choose another --output")
    sampler = load_best(run, prior, nfe, max_seconds, device, precision, compile)
    click.echo(sampler.picked)
    with Bar("images") as bar:
        started = perf_counter()
        images = sampler(n, seed, "uint8", progress=lambda done, n: bar(done, n, nan))
        seconds = perf_counter() - started
    written = _write_npz(images, output) if output.suffix == ".npz" else _write_png(images, output)
    click.echo(f"{n} images by seed {seed}, {seconds / n:.2g} s an image: {written}")
    return 0


def _write_npz(images: "Tensor", path: Path) -> Path:
    """Write ``arr_0``, (N, H, W, C) bytes, as evaluation suites of generative models read it."""
    import io

    import numpy as np

    from ..files import write_atomically

    buffer = io.BytesIO()
    np.savez_compressed(buffer, images.permute(0, 2, 3, 1).numpy())
    write_atomically(path, buffer.getvalue())
    return path


def _write_png(images: "Tensor", folder: Path) -> Path:
    """Write a PNG for each image, and ``grid.png`` with the first of them."""
    import io

    from PIL import Image

    from ..files import write_atomically
    from ..pictures import as_pil, mosaic

    width = len(str(len(images) - 1))
    named = {f"{i:0{width}}": image for i, image in enumerate(as_pil(images))}
    named["grid"] = Image.fromarray(mosaic(images.numpy()))
    for name, image in named.items():
        buffer = io.BytesIO()
        image.save(buffer, format="png")
        write_atomically(folder / f"{name}.png", buffer.getvalue())
    return folder

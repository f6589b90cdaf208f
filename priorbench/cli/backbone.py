"""``priorbench backbone``: train a diffusion model, and score one."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

SCHEDULES = ("linear", "squaredcos_cap_v2")
ARCHITECTURE = (
    "channels", "layers", "attention_levels", "heads", "dropout", "T", "beta_schedule",
    "prediction_type",
)  # fmt: skip
TYPES = ("epsilon", "sample", "v_prediction")


@click.group()
def backbone() -> None:
    """Train a diffusion model, or check one."""


@backbone.command()
@click.option(
    "--dataset",
    default="digits",
    show_default=True,
    help="digits, mnist, torchvision:CIFAR10, a folder, an .npz.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The folder to write.",
)
@click.option(
    "--steps", type=click.IntRange(1), default=14_000, show_default=True, help="Optimiser steps."
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Images per step, over all processes.",
)
@click.option(
    "--learning-rate", type=click.FloatRange(0, min_open=True), default=2e-3, show_default=True
)
@click.option(
    "--warmup",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Steps in which the learning rate rises.",
)
@click.option(
    "--ema-decay", type=click.FloatRange(0, 1, max_open=True), default=0.999, show_default=True
)
@click.option(
    "--channels",
    default="32,64",
    show_default=True,
    help="Channels of each level, in multiples of 8.",
)
@click.option(
    "--layers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Residual layers of each level.",
)
@click.option(
    "--attention-levels",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The last so many levels have attention, as the middle has.",
)
@click.option(
    "--heads", type=click.IntRange(1), default=2, show_default=True, help="Attention heads."
)
@click.option(
    "--dropout", type=click.FloatRange(0, 1, max_open=True), default=0.1, show_default=True
)
@click.option("--flip", is_flag=True, help="Mirror images, left to right, at random.")
@click.option(
    "--timesteps",
    "T",
    type=click.IntRange(2),
    default=1000,
    show_default=True,
    help="T, the number of noising steps.",
)
@click.option(
    "--schedule",
    "beta_schedule",
    type=click.Choice(SCHEDULES),
    default="linear",
    show_default=True,
)
@click.option(
    "--prediction",
    "prediction_type",
    type=click.Choice(TYPES),
    default="epsilon",
    show_default=True,
)
@click.option(
    "--evaluate-every",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Steps between checkpoints.",
)
@click.option(
    "--validation-draws",
    type=click.IntRange(1),
    default=4096,
    show_default=True,
    help="The least number of noisy images that the validation loss is computed from.",
)
@click.option(
    "--mixed-precision", type=click.Choice(["no", "bf16", "fp16"]), default="no", show_default=True
)
@click.option(
    "--compile",
    type=click.Choice(["default", "reduce-overhead"]),
    is_flag=False,
    flag_value="default",
    help="Train through torch.compile; reduce-overhead is its mode with CUDA graphs.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--start-from", help="A model to start from, with its weights, architecture and schedule."
)
@click.option("--fresh", is_flag=True, help="Start over, even if the folder has a checkpoint.")
@click.pass_context
def train(
    context: click.Context,
    /,
    dataset: str,
    output: Path,
    channels: str,
    start_from: str | None,
    fresh: bool,
    **options: Any,
) -> None:
    """Train a denoiser on the training split of a data set.

    Writes a diffusers pipeline folder, training.json and loss.csv. To resume an interrupted
    training from its last checkpoint, repeat the command. For several GPUs: accelerate launch
    --module priorbench backbone train ...
    """
    widths = _widths(channels, options["heads"])
    options["compile"] = options["compile"] or ""
    if start_from:
        _nothing_contradicts(context)

    from ..diffusion.frozen import FrozenDiffusion
    from ..diffusion.training import TrainingSettings
    from ..diffusion.training import train as train_backbone
    from ..task import check_fit
    from .options import named_dataset
    from .progress import Bar

    data = named_dataset(dataset)
    start = (
        None if start_from is None else FrozenDiffusion.from_pretrained(start_from, device="cpu")
    )
    if start is not None:
        check_fit(data, start, str(start_from))
    with Bar("validation loss") as bar:
        about = train_backbone(
            data, output, TrainingSettings(channels=widths, **options), bar, fresh, start
        )
    if os.environ.get("RANK", "0") == "0":  # one of several processes speaks
        click.echo(json.dumps(about, indent=2))


def _widths(channels: str, heads: int) -> tuple[int, ...]:
    """The channels of each level, by --channels."""
    try:
        widths = tuple(int(c) for c in channels.split(","))
    except ValueError:
        widths = ()
    if not widths or any(c < 8 or c % 8 for c in widths):
        raise UserError(f"--channels takes multiples of 8 separated by commas, got {channels!r}")
    if widths[-1] % heads:
        raise UserError(f"--heads must divide the last of --channels, {widths[-1]}, got {heads}")
    return widths


def _nothing_contradicts(context: click.Context) -> None:
    """Refuse options that contradict --start-from."""
    default = click.core.ParameterSource.DEFAULT
    for name in ARCHITECTURE:
        if context.get_parameter_source(name) is not default:
            raise UserError(
                f"--start-from keeps the model's own architecture and schedule: leave out {name}"
            )


@backbone.command()
@click.argument("path")
@click.option(
    "--dataset",
    help="A data set that the model is checked and scored on: digits, mnist, a folder, ...",
)
@click.option(
    "--extractor",
    help="The network whose features FID uses. [default: the data set's own]",
)
@click.option("--solver", default="ddpm", show_default=True)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Steps of the chain from pure noise.",
)
@click.option(
    "--n-samples",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="Samples for the score and the grid; 0 skips them.",
)
@click.option("--batch-size", type=click.IntRange(1), default=250, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option(
    "--grid",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also draw the first 64 samples, as a picture in this file (.png).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with figures as numbers.")
def check(
    path: str,
    dataset: str | None,
    extractor: str | None,
    solver: str,
    steps: int,
    n_samples: int,
    batch_size: int,
    seed: int,
    device: str,
    grid: Path | None,
    as_json: bool,
) -> int:
    """Describe the model at PATH: a registered name, a diffusers folder or a hub name.

    With --dataset, also say whether the model fits the data set, and print the FID of its full
    chain against the test split beside the floor (the FID of training images). The exit code is 1
    if the model does not fit. --grid draws samples, with a data set or without.
    """
    from ..bench.backbone import drawn, misfit, score
    from ..diffusion.frozen import FrozenDiffusion
    from .options import named_dataset, named_extractor
    from .progress import Bar

    data = None if dataset is None else named_dataset(dataset)
    diffusion = FrozenDiffusion.from_pretrained(path, device=device)
    facts, scored = diffusion.describe(), None
    wrong = "" if data is None else misfit(data, diffusion, path)
    if data is not None:
        facts[f"fits {data.name}"] = f"no: {wrong}" if wrong else "yes"
    if n_samples and not wrong and (data is not None or grid):
        reader = None if data is None else named_extractor(extractor, data)
        with Bar("batches of the full chain") as bar:
            images = drawn(diffusion, solver, steps, n_samples, batch_size, seed, bar)
        facts["full chain"] = f"{solver}, {steps} steps, {n_samples} samples"
        if grid:
            _draw(images, grid)
            facts["grid"] = str(grid)
        if data is not None and reader is not None:
            scored = score(images, data, reader)
    if as_json:
        numbers = {
            "parameters": sum(p.numel() for p in diffusion.network.parameters()),
            "images": diffusion.shape,
            "T": diffusion.T,
            "alpha_bar_T": float(diffusion.process.alpha_bar[-1]),
        }
        about = {"path": path, **facts, **numbers, **({"score": asdict(scored)} if scored else {})}
        click.echo(json.dumps(about, indent=1))
    else:
        _show(path, facts | (scored.in_words() if scored else {}))
    return 1 if wrong else 0


def _show(path: str, facts: dict[str, str]) -> None:
    """Print what is known of a model, as a table."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE, show_header=False, title=Text(path), title_justify="left")
    for name, value in facts.items():
        table.add_row(Text(name), Text(value))
    Console().print(table)


def _draw(images: "Tensor", path: Path) -> None:
    """The first 64 of the bytes (N, C, H, W) as one PNG."""
    import io

    from ..files import write_atomically
    from ..pictures import overview

    buffer = io.BytesIO()
    overview(images, across=8, down=8).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())

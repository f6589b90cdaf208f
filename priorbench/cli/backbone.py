"""``priorbench backbone``: training a diffusion model."""

import json
from pathlib import Path

import click


@click.group()
def backbone() -> None:
    """Train a diffusion model."""


@backbone.command()
@click.option("--dataset", default="digits", show_default=True, help="A registered data set.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder to write.")
@click.option("--steps", type=click.IntRange(1), default=14_000, show_default=True, help="Optimiser steps.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=2e-3, show_default=True)
@click.option("--channels", default="32,64", show_default=True, help="Channels of each level, multiples of 8.")
@click.option("--dropout", type=click.FloatRange(0, 1, max_open=True), default=0.1, show_default=True)
@click.option("--timesteps", type=click.IntRange(2), default=1000, show_default=True, help="T.")
@click.option("--schedule", type=click.Choice(["linear", "squaredcos_cap_v2"]), default="linear", show_default=True)
@click.option(
    "--prediction",
    type=click.Choice(["epsilon", "sample", "v_prediction"]),
    default="epsilon",
    show_default=True,
)
@click.option("--mixed-precision", type=click.Choice(["no", "bf16", "fp16"]), default="no", show_default=True)
@click.option("--compile", is_flag=True, help="Train through torch.compile.")
@click.option("--seed", type=int, default=0, show_default=True)
def train(
    dataset: str, output: Path, steps: int, batch_size: int, learning_rate: float, channels: str, dropout: float,
    timesteps: int, schedule: str, prediction: str, mixed_precision: str, compile: bool, seed: int,
) -> None:  # fmt: skip
    """Train a denoiser on a data set's training split; writes a diffusers pipeline folder and training.json."""
    from rich.progress import Progress

    from ..diffusion.training import TrainingSettings
    from ..diffusion.training import train as train_backbone
    from ..errors import UserError
    from ..plugin_manager import load_plugins

    try:
        widths = tuple(int(c) for c in channels.split(","))
    except ValueError:
        widths = ()
    if not widths or any(c < 8 or c % 8 for c in widths):
        raise UserError(f"--channels takes multiples of 8 separated by commas, got {channels!r}")
    settings = TrainingSettings(
        steps=steps, batch_size=batch_size, learning_rate=learning_rate, channels=widths, dropout=dropout, T=timesteps,
        beta_schedule=schedule, prediction_type=prediction, mixed_precision=mixed_precision, compile=compile, seed=seed,
    )  # fmt: skip
    data = load_plugins().find("dataset", dataset).load()()
    with Progress() as bar:
        task = bar.add_task("validation loss -", total=steps)

        def report(step: int, total: int, loss: float) -> None:
            bar.update(task, completed=step, description=f"validation loss {loss:.5f}")

        about = train_backbone(data, output, settings, report)
    about |= {"dataset": dataset, "dataset_sha256": data.digest()}
    (output / "training.json").write_text(json.dumps(about, indent=2) + "\n")
    click.echo(json.dumps(about, indent=2))

"""``priorbench extractor``: train a feature extractor."""

import json
from pathlib import Path

import click


@click.group()
def extractor() -> None:
    """Train a feature extractor for FID."""


@extractor.command()
@click.option(
    "--dataset",
    default="digits",
    show_default=True,
    help="A data set with labels: digits, mnist, a folder of folders.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The folder to write.",
)
@click.option("--epochs", type=click.IntRange(1), default=60, show_default=True)
@click.option(
    "--features",
    type=click.IntRange(2),
    default=64,
    show_default=True,
    help="The number of features.",
)
@click.option("--seed", type=int, default=0, show_default=True)
def train(dataset: str, output: Path, epochs: int, features: int, seed: int) -> None:
    """Train a classifier on the training split of a data set.

    The features are its activations before the last layer.
    """
    from rich.progress import Progress

    from ..metrics.extractor_training import train_extractor
    from .options import named_dataset

    data = named_dataset(dataset)
    with Progress() as bar:
        task = bar.add_task("loss -", total=epochs)

        def report(epoch: int, total: int, loss: float) -> None:
            bar.update(task, completed=epoch, description=f"loss {loss:.4f}")

        about = train_extractor(
            data, output, epochs=epochs, features=features, seed=seed, progress=report
        )
    click.echo(json.dumps(about, indent=2))

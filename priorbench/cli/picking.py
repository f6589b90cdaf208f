"""What ``sample`` and ``export`` share: how the setting of a run is picked."""

from collections.abc import Callable
from typing import Any

import click

PICKING = [
    click.argument("run"),
    click.option(
        "--prior",
        help="Pick among the settings of this prior; 'noise' is pure noise. [default: all]",
    ),
    click.option("--nfe", type=int, help="Pick among those with as many evaluations an image."),
    click.option(
        "--max-seconds", type=float, help="Pick among those that took no longer for an image."
    ),
]


def picks(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the run, and the options of :func:`priorbench.load_best`."""
    for add in reversed(PICKING):
        command = add(command)
    return command

"""Images a second of the chain under each setting, beside a bare loop of diffusers.

    python benchmarks/chain.py [--models digits,mnist] [--batches 50,250] [--device cpu]

A chain is ten DDIM steps from pure noise. Rounds take turns among the settings, every other one in
the reverse order, and a rate is the median over the rounds. So what else the machine does falls on
all alike.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import click
import torch
from diffusers import DDIMScheduler
from gpu_sections.chains import LAYOUTS
from torch import Tensor

from priorbench import FrozenDiffusion, randn
from priorbench.bench.timing import clock

STEPS, SECONDS, ROUNDS = 10, 10.0, 4  # of a chain; of each setting, about; and at least
OTHER = "channels first"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="digits,mnist")
    parser.add_argument("--batches", default="50,250")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    click.echo(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {given.device}")
    click.echo(f"{'model':8} {'batch':>5}  {'setting':16} {'images/s':>9}  of bare  compiled in")
    for name in given.models.split(","):
        for batch in map(int, given.batches.split(",")):
            show(name, batch, given.device)


def show(name: str, batch: int, device: str) -> None:
    """Print the rate of each setting of one model at one batch size."""
    taken = measured(settings(name, batch, device), torch.device(device))
    for label, (first, seconds) in taken.items():
        compiled = f"{first:8.0f} s" if label == "compiled" else ""
        ratio = taken["bare diffusers"][1] / seconds
        rate = batch / seconds
        click.echo(f"{name:8} {batch:5}  {label:16} {rate:9.1f}  {ratio:7.3f}  {compiled}")


def settings(name: str, batch: int, device: str) -> dict[str, Callable[[], object]]:
    """Setting -> its chain."""
    plain = FrozenDiffusion.from_pretrained(name, device)
    x = randn((batch, *plain.shape), torch.Generator().manual_seed(0), device)
    other = FrozenDiffusion.from_pretrained(name, device)
    other.network.to(memory_format=LAYOUTS[OTHER])
    models = {
        "float32": plain,
        OTHER: other,
        "bfloat16": FrozenDiffusion.from_pretrained(name, device, "bf16"),
        "compiled": FrozenDiffusion.from_pretrained(name, device, compile=True),
    }
    chains = {label: chain(model, x) for label, model in models.items()}
    return {"bare diffusers": bare(plain, x)} | chains


def chain(model: FrozenDiffusion, x: Tensor) -> Callable[[], object]:
    """The library's chain from ``x``."""
    return lambda: model.denoise(x, model.T, "ddim", STEPS)


def bare(model: FrozenDiffusion, x: Tensor) -> Callable[[], object]:
    """What anybody would write: the scheduler and the network of ``diffusers``, and a loop."""
    scheduler = DDIMScheduler.from_config(model.config)
    scheduler.set_timesteps(STEPS)

    @torch.no_grad()
    def run() -> None:
        y = x
        for timestep in scheduler.timesteps:
            y = scheduler.step(model.network(y, timestep).sample, timestep, y).prev_sample

    return run


def measured(
    chains: dict[str, Callable[[], object]], device: torch.device
) -> dict[str, tuple[float, float]]:
    """Setting -> (seconds of the first call, median seconds of the calls after it)."""
    first = {label: _seconds(run, device) for label, run in chains.items()}
    taken: dict[str, list[float]] = {label: [] for label in chains}
    began, turn = time.monotonic(), list(chains)
    while len(taken["float32"]) < ROUNDS or time.monotonic() - began < SECONDS * len(chains):
        for label in turn:
            taken[label].append(_seconds(chains[label], device))
        turn.reverse()
    return {label: (first[label], median(seconds)) for label, seconds in taken.items()}


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    started = clock(device)
    run()
    return clock(device) - started


if __name__ == "__main__":
    main()

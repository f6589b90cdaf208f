"""Train: images a second of ``priorbench backbone train``, interrupted and resumed."""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from priorbench import Dataset
from priorbench.diffusion.training import TrainingSettings, train

from . import worlds
from .section import Figures, Section, require


def run(section: Section) -> None:
    """In float32, in mixed precision, and compiled; the network is the one of 3.9 M parameters
    that docs/gpu.md trains.
    """
    section.check("train float32", trained, section, "no", "", needs=10)
    section.check("train bfloat16", trained, section, "bf16", "", needs=10)
    if not section.size.quick:  # compiling takes a minute, and again for the resumed training
        section.check("train CUDA graphs", trained, section, "bf16", "reduce-overhead", needs=80)


class Enough(Exception):
    """Ends a training after a checkpoint, as Ctrl-C would."""


@dataclass
class Stop:
    """The progress of a training, which it ends after some seconds.

    Attributes:
        seen: (seconds, step) of each evaluation.
    """

    after: float
    began: float = field(default_factory=time.perf_counter)
    seen: list[tuple[float, int]] = field(default_factory=list)

    def __call__(self, step: int, steps: int, loss: float) -> None:
        """Called after each evaluation, once its checkpoint is on disk."""
        self.seen.append((time.perf_counter(), step))
        if len(self.seen) > 2 and self.seen[-1][0] - self.began > self.after:
            raise Enough

    def rate(self) -> float:
        """Steps a second between the first evaluation and the last."""
        (began, first), *_, (ended, last) = self.seen
        return (last - first) / (ended - began)


def trained(section: Section, mixed_precision: str, compiled: str) -> Figures:
    """A training that is stopped by time, and goes on from its checkpoint."""
    from accelerate.state import AcceleratorState

    small = section.size.quick
    settings = TrainingSettings(
        steps=1_000_000,  # never reached
        batch_size=8 if small else 512,
        channels=(8, 16) if small else (32, 64, 128),
        layers=1 if small else 2,
        attention_levels=0 if small else 1,
        evaluate_every=2 if small else 50,
        validation_draws=1,
        mixed_precision=mixed_precision,
        compile=compiled,
    )
    stops = [Stop(section.size.training_seconds * share) for share in (1, 0.3)]
    with tempfile.TemporaryDirectory() as folder:
        for stop in stops:
            AcceleratorState._reset_state(reset_partial_state=True)  # it is one for a process
            try:
                train(data(small), Path(folder), settings, stop)
            except Enough:
                continue
    figures = {
        "images_per_second": settings.batch_size * stops[0].rate(),
        "steps": stops[0].seen[-1][1],
        "resumed_at": stops[1].seen[0][1] - settings.evaluate_every,
    }
    require(figures["resumed_at"] == figures["steps"], "it did not resume", figures)
    return figures


def data(small: bool) -> Dataset:
    """Images of noise."""
    generator = torch.Generator().manual_seed(0)
    count, shape = (64, (1, 8, 8)) if small else (4096, worlds.SHAPE)
    images = torch.randint(256, (count + 128, *shape), dtype=torch.uint8, generator=generator)
    return Dataset("noise", images[:count], images[count : count + 64], images[count + 64 :])

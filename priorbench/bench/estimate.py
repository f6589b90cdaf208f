"""How long a run should take here, estimated before it begins."""

import time
from collections.abc import Iterable
from contextlib import suppress

import torch

from ..diffusion.frozen import FrozenDiffusion
from ..diffusion.process import generator_for
from ..isolation import isolated
from ..plan.budget import read_budget
from ..plan.layout import Plan
from ..plan.spec import CellSpec
from ..plugin_manager import load_plugins
from ..prior import FitRun, make_prior
from ..task import Task
from .cell import task_of

TASTED = 1.0  # seconds of a fit that are looked at, after its first step
MEASURING = 1.5  # seconds that measuring one solver setting takes


class _Enough(Exception):
    """Ends a fit that was only begun to see how fast it goes."""


class _Taste:
    """Watches a fit from its first step on, and soon ends it.

    What is done only once comes before the first step.
    """

    def __init__(self) -> None:
        self.first: tuple[float, int] | None = None
        self.rest = 0.0
        self.steps = 0

    def __call__(self, step: int, total: int, loss: float) -> None:
        now, self.steps = time.monotonic(), total
        if self.first is None:
            self.first = now, step
        elif now - self.first[0] > TASTED:
            self.rest = (now - self.first[0]) / (step - self.first[1]) * (total - step)
            raise _Enough


def estimate(plan: Plan, specs: Iterable[CellSpec]) -> float:
    """Seconds that ``specs`` should take here.

    One batch is denoised, and one fit of each kind is begun. A prior that reports no progress is
    fitted to the end.
    """
    specs = list(specs)
    if not specs:
        return 0.0
    task = task_of(specs[0])
    per_evaluation = seconds_per_evaluation(task.diffusion, plan.config.batch_size)
    fits: dict[tuple[str, int | None, float | None], tuple[float, bool]] = {}
    total = 0.0
    for spec in specs:
        seconds, steps, share = read_budget(spec.fit_budget)
        kind = (spec.label, steps, share)
        if kind not in fits:
            fits[kind] = _fit_seconds(task, spec, steps, share)
        found, learned = fits[kind]
        images = sum(n for _, n in spec.splits) + spec.batch_size
        evaluations = sum(spec.t_trunc if k is None else k for _, k in spec.solvers)
        total += seconds if seconds and learned else found
        total += images * evaluations * per_evaluation
        total += MEASURING * len(spec.solvers)
    return total


def _fit_seconds(
    task: Task, spec: CellSpec, steps: int | None, share: float | None
) -> tuple[float, bool]:
    """The seconds of a fit without a limit of seconds, and whether one makes a difference."""
    prior = make_prior(load_plugins().find("prior", spec.prior).load(), spec.label, spec.params)
    taste, started = _Taste(), time.monotonic()
    run = FitRun(generator_for(0, "estimate"), None, taste, budget=steps, own_share=share or 1.0)
    # The end of the taste, or a prior that fails, which its cell will report.
    with suppress(Exception), isolated():
        prior.fit(task.marginal(spec.t_trunc), run)
    return time.monotonic() - started + taste.rest, taste.steps > 1


def seconds_per_evaluation(diffusion: FrozenDiffusion, batch: int) -> float:
    """Seconds that the frozen model takes for an image of a batch."""
    x = torch.zeros(batch, *diffusion.shape, device=diffusion.device)
    generator = torch.Generator().manual_seed(0)
    diffusion.denoise(x, diffusion.T, "ddim", 1, generator)
    started = time.perf_counter()
    diffusion.denoise(x, diffusion.T, "ddim", 3, generator)
    return (time.perf_counter() - started) / (3 * batch)

"""How long a run should take here, and how much disk, estimated before it begins."""

import time
from collections.abc import Iterable
from typing import NamedTuple

import torch

from ..diffusion.frozen import FrozenDiffusion
from ..plan.budget import read_budget
from ..plan.layout import Plan
from ..plan.spec import CellSpec
from ..task import Task
from .cell import PREVIEW, task_of
from .measuring import Measuring
from .preview import SHOWN
from .taste import Tasted, taste_of

STAGES = 8  # pictures of samples on their way, about


class Estimate(NamedTuple):
    """What a run should take: seconds, and bytes on disk."""

    seconds: float
    disk: float


def estimate(plan: Plan, specs: Iterable[CellSpec]) -> Estimate:
    """What ``specs`` should take here.

    One batch is denoised, one fit of each kind is begun, and random features are measured. A prior
    that reports no progress is fitted to the end.
    """
    specs = list(specs)
    if not specs:
        return Estimate(0.0, 0.0)
    task = task_of(specs[0])
    per_evaluation = seconds_per_evaluation(task.diffusion, plan.config.batch_size)
    measuring = Measuring(task, specs[0])
    fits: dict[tuple[str, int | None, float | None], Tasted] = {}
    total, disk = measuring.once(len({spec.t_trunc for spec in specs})), 0.0
    made: set[tuple[object, ...]] = set()
    for spec in specs:
        seconds, steps, share = read_budget(spec.fit_budget)
        kind = (spec.label, steps, share)
        if kind not in fits:
            fits[kind] = taste_of(task, spec, steps, share)
        fit = fits[kind]
        own = None if fit.shared else spec.t_trunc
        if (spec.label, spec.fit_budget, spec.seed, own) not in made:
            made.add((spec.label, spec.fit_budget, spec.seed, own))
            total += seconds if seconds and fit.learned else fit.seconds
            disk += fit.size
        images = sum(n for _, n in spec.splits) + spec.batch_size
        evaluations = sum(spec.t_trunc if k is None else k for _, k in spec.solvers)
        total += images * evaluations * per_evaluation + measuring.cell(spec)
        disk += _pictures(task, spec)
    return Estimate(total, disk)


def seconds_per_evaluation(diffusion: FrozenDiffusion, batch: int) -> float:
    """Seconds that the frozen model takes for an image of a batch."""
    x = torch.zeros(batch, *diffusion.shape, device=diffusion.device)
    generator = torch.Generator().manual_seed(0)
    diffusion.denoise(x, diffusion.T, "ddim", 1, generator)
    started = time.perf_counter()
    diffusion.denoise(x, diffusion.T, "ddim", 3, generator)
    return (time.perf_counter() - started) / (3 * batch)


def _pictures(task: Task, spec: CellSpec) -> float:
    """Bytes of the pictures that are kept of a cell."""
    image = task.dataset.test[0].numel()
    kept = spec.n_samples if spec.save_samples else PREVIEW
    return float(image * (PREVIEW + kept + STAGES * SHOWN) * len(spec.solvers))

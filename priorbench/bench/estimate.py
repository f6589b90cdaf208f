"""How long a run should take here, and how much disk, estimated before it begins."""

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import torch

from ..diffusion.frozen import FrozenDiffusion
from ..plan.budget import read_budget
from ..plan.layout import Plan
from ..plan.spec import CellSpec
from ..store.fits import Fits
from ..task import Task
from .cell import PREVIEW, task_of
from .learning import DRAWS, SHARES
from .measuring import Measuring
from .preview import SHOWN
from .taste import Tasted, taste_of

STAGES = 8  # pictures of samples on their way, about
LOOKED_AT = DRAWS * (len(SHARES) + 2)  # draws of a prior for the curve of its fit


class Estimate(NamedTuple):
    """What a run should take: seconds, and bytes on disk."""

    seconds: float
    disk: float


def estimate(plan: Plan, specs: Iterable[CellSpec], fits: Fits | None = None) -> Estimate:
    """What ``specs`` should take here, with the rivals that they turn out to need.

    One batch is denoised, one fit of each kind is begun, and random features are measured. A prior
    that reports no progress is fitted to the end.

    Arguments:
        plan: that they are of.
        specs: cells, with the settings that have no result yet.
        fits: where fitted priors are kept, which need no other fit; None: nowhere.
    """
    specs = list(specs)
    if not specs:
        return Estimate(0.0, 0.0)
    task = task_of(specs[0])
    per_evaluation = seconds_per_evaluation(task.diffusion, plan.config.batch_size)
    measuring = Measuring(task, specs[0])
    tastes = _Tastes(task)
    specs += _rivals(plan, specs, tastes)
    total, disk = measuring.once(len({spec.t_trunc for spec in specs})), 0.0
    made: set[tuple[object, ...]] = set()
    for spec in specs:
        fit = tastes(spec)
        name = (spec.label, spec.fit_budget, spec.seed, None if fit.shared else spec.t_trunc)
        if name not in made and not (fits and fits.holds(spec)):
            made.add(name)
            limit = read_budget(spec.fit_budget).seconds
            total += limit if limit and fit.learned else fit.seconds
            looks = 0 if spec.control or not fit.learned else LOOKED_AT
            total += looks * fit.nfe * per_evaluation
            disk += fit.size
        images = sum(n for _, n in spec.splits) + spec.batch_size
        evaluations = sum(spec.t_trunc if k is None else k for _, k in spec.solvers)
        total += images * (evaluations + fit.nfe) * per_evaluation + measuring.cell(spec)
        disk += _pictures(task, spec)
    return Estimate(total, disk)


class _Tastes:
    """Begins one fit of each kind, when it is first asked for."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.found: dict[tuple[str, int | None, float | None], Tasted] = {}

    def __call__(self, spec: CellSpec) -> Tasted:
        _, steps, share = read_budget(spec.fit_budget)
        kind = (spec.label, steps, share)
        if kind not in self.found:
            self.found[kind] = taste_of(self.task, spec, steps, share)
        return self.found[kind]


def _rivals(plan: Plan, specs: list[CellSpec], tastes: _Tastes) -> list[CellSpec]:
    """Rivals of as many evaluations as ``specs`` take with those of their priors' own."""
    nfe = [
        (spec.t_trunc if k is None else k) + own
        for spec in specs
        if not spec.control and (own := tastes(spec).nfe)
        for _, k in spec.solvers
    ]
    more = []
    for before, after in zip(plan.cells, plan.matched(nfe).cells, strict=True):
        if new := tuple(setting for setting in after.solvers if setting not in before.solvers):
            more.append(replace(after, solvers=new))
    return more


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

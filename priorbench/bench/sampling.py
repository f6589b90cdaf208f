"""The two timed steps of a cell: a prior draws x_{t_trunc}, and the chain takes it to x_0."""

from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ..diffusion.process import generator_for
from ..diffusion.solvers import chain_times
from ..errors import UserError
from ..plan.spec import CellSpec
from ..prior import TruncPrior
from ..task import Task
from .timing import timed

TIMINGS = 3  # the least number of timed batches of a chain, of which the median counts


class BadSample(Exception):
    """A prior returned something other than n finite images, or than the times of a chain."""


@dataclass(frozen=True)
class Drawn:
    """Samples of a prior.

    Attributes:
        emitted: what ``sample`` returned, (N, C, H, W).
        x_t: the same at t_trunc; if the prior emits x_0, we have noised it.
        seconds: per image, over the whole draw, the first call included.
        batches: seconds per image of each full batch.
        nfe: evaluations of the frozen network by the prior itself, per image.
    """

    emitted: Tensor
    x_t: Tensor
    seconds: float
    batches: list[float]
    nfe: float


@dataclass(frozen=True)
class Chain:
    """What the chain made of samples, with one solver setting.

    Attributes:
        x_0: (N, C, H, W).
        seconds: per image, the median over batches.
        batches: seconds per image of each batch.
        nfe: evaluations of the frozen network by the chain.
    """

    x_0: Tensor
    seconds: float
    batches: list[float]
    nfe: int


def drawn(prior: TruncPrior, task: Task, spec: CellSpec, count: int, stream: str = "") -> Drawn:
    """``count`` samples of ``prior``, timed.

    No call is made before the clock runs, because a prior could work ahead in it. Only the frozen
    model is warmed up, so that no prior is charged for its compilation.

    Arguments:
        stream: names the random streams of this draw, which it shares with no other.

    Raises:
        BadSample: if the prior returns anything but finite images of the data's shape.
    """
    diffusion, emitted = task.diffusion, list[Tensor]()
    noise = generator_for(spec.seed, f"diffuse{stream}")

    def draw(n: int, generator: torch.Generator) -> Tensor:
        x = _sound(prior.sample(n, generator), n, task)
        if prior.emits == "x_t":
            return x
        emitted.append(x)
        return diffusion.diffuse(x, spec.t_trunc, noise)

    if diffusion.compiled:
        batch = torch.zeros(min(spec.batch_size, count), *diffusion.shape, device=diffusion.device)
        diffusion.denoise(batch, spec.t_trunc, "ddim", 1)
    before = diffusion.evaluated_images
    generator = generator_for(spec.seed, f"sample{stream}")
    x_t, timing = timed(draw, generator, count, spec.batch_size, diffusion.device)
    nfe = (diffusion.evaluated_images - before) / count
    supplied = torch.cat(emitted) if emitted else x_t
    return Drawn(supplied, x_t, timing.total / count, timing.batches, nfe)


def _sound(x: Any, n: int, task: Task) -> Tensor:
    """A copy of what ``sample(n)`` returned, once it is known to be n finite images.

    It is a copy because a prior may fill the same tensor at every call.
    """
    wanted = (n, *task.dataset.shape)
    if not isinstance(x, Tensor) or tuple(x.shape) != wanted:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise BadSample(f"sample({n}) must return a tensor of shape {wanted}, got {got}")
    if not bool(x.isfinite().all()):
        raise BadSample(f"sample({n}) returned values that are not finite")
    return x.to(task.diffusion.device, torch.float32, copy=True)


def times_of(prior: TruncPrior, spec: CellSpec) -> dict[int | None, list[int]]:
    """The times of the chain for each number of steps in ``spec``: the prior's own, or uniform.

    With every timestep there is nothing to choose, and the prior is not asked.

    Raises:
        BadSample: if the prior's own are no times of such a chain.
    """
    found: dict[int | None, list[int]] = {}
    for steps in {steps for _, steps in spec.solvers}:
        own = None if steps is None else prior.times(spec.t_trunc, steps)
        try:
            found[steps] = chain_times(spec.t_trunc, steps, own)
        except UserError as error:
            raise BadSample(f"times({spec.t_trunc}, {steps}): {error}") from None
    return found


def denoised(
    x_t: Tensor, task: Task, spec: CellSpec, solver: str, steps: int | None, times: list[int]
) -> Chain:
    """``x_t`` through the chain over ``times``, timed after a warm-up of one step."""
    diffusion, chunks, calls = task.diffusion, list(x_t.split(spec.batch_size)), 0

    def denoise(n: int, generator: torch.Generator) -> Tensor:
        nonlocal calls
        x = chunks[calls % len(chunks)]
        x = x if len(x) == n else chunks[0]  # a further batch, for its time alone, is a full one
        calls += 1
        return diffusion.denoise(x, spec.t_trunc, solver, steps, generator, times)

    diffusion.denoise(chunks[0], spec.t_trunc, solver, 1, generator_for(spec.seed, "warm up"))
    before, generator = diffusion.evaluations, generator_for(spec.seed, "denoise")
    x_0, timing = timed(
        denoise, generator, spec.n_samples, spec.batch_size, diffusion.device, TIMINGS
    )
    nfe = (diffusion.evaluations - before) // calls
    return Chain(x_0, median(timing.batches), timing.batches, nfe)

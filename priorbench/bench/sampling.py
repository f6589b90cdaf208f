"""The two timed steps of a cell: a prior draws x_{t_trunc}, and the chain takes it to x_0."""

from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from ..diffusion.process import generator_for
from ..plan.spec import CellSpec
from ..prior import TruncPrior
from ..sampler import Streams, TruncatedSampler, draw
from ..task import Task
from .timing import timed

TIMINGS = 3  # the least number of timed batches of a chain, of which the median counts


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


def drawn(prior: TruncPrior, task: Task, spec: CellSpec, count: int, split: str = "") -> Drawn:
    """``count`` samples of ``prior``, timed.

    No call is made before the clock runs, because a prior could work ahead in it. Only the frozen
    model is warmed up, so that no prior is charged for its compilation.

    Arguments:
        split: that the samples are for, unless they are those that are reported.

    Raises:
        BadSample: if the prior returns anything but finite images of the data's shape.
    """
    diffusion, emitted, streams = task.diffusion, list[Tensor](), Streams.of(spec.seed, split)

    def one_batch(n: int, generator: torch.Generator) -> Tensor:
        made, x_t = draw(prior, diffusion, spec.t_trunc, n, generator, streams.diffuse)
        if prior.emits == "x_0":
            emitted.append(made)
        return x_t

    if diffusion.compiled:
        batch = torch.zeros(min(spec.batch_size, count), *diffusion.shape, device=diffusion.device)
        diffusion.denoise(batch, spec.t_trunc, "ddim", 1)
    before = diffusion.evaluated_images
    x_t, timing = timed(one_batch, streams.sample, count, spec.batch_size, diffusion.device)
    nfe = (diffusion.evaluated_images - before) / count
    supplied = torch.cat(emitted) if emitted else x_t
    return Drawn(supplied, x_t, timing.total / count, timing.batches, nfe)


def denoised(x_t: Tensor, sampler: TruncatedSampler, spec: CellSpec) -> Chain:
    """``x_t`` through the chain of ``sampler``, timed after a warm-up of one step."""
    diffusion, chunks, calls = sampler.diffusion, list(x_t.split(spec.batch_size)), 0

    def denoise(n: int, generator: torch.Generator) -> Tensor:
        nonlocal calls
        x = chunks[calls % len(chunks)]
        x = x if len(x) == n else chunks[0]  # a further batch, for its time alone, is a full one
        calls += 1
        return sampler.denoise(x, generator)

    diffusion.denoise(
        chunks[0], spec.t_trunc, sampler.solver, 1, generator_for(spec.seed, "warm up")
    )
    before, generator = diffusion.evaluations, Streams.of(spec.seed).denoise
    x_0, timing = timed(
        denoise, generator, spec.n_samples, spec.batch_size, diffusion.device, TIMINGS
    )
    nfe = (diffusion.evaluations - before) // calls
    return Chain(x_0, median(timing.batches), timing.batches, nfe)

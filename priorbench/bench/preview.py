"""What a cell keeps to be looked at: samples on their way from z to x_0, and the training images
nearest to them.
"""

import math

import torch
from torch import Tensor

from ..data.dataset import to_bytes
from ..diffusion.process import generator_for
from ..metrics.fidelity import features_of
from ..metrics.neighbours import nearest
from ..plan.spec import CellSpec, ImageKey
from ..prior import HasLatents
from ..sampler import TruncatedSampler
from ..task import Task

SHOWN = 10  # samples on their way


def preview(
    sampler: TruncatedSampler, x_t: Tensor, task: Task, spec: CellSpec, nfe_prior: int = 0
) -> dict[ImageKey, Tensor]:
    """Images (SHOWN, C, H, W), as bytes, of samples on their way with one solver setting.

    Where the prior shows its latents, the chain starts from ``f(z)``. The draws are the preview's
    own: no figure of the table depends on them.
    """
    diffusion, prior = task.diffusion, sampler.prior
    generator = generator_for(spec.seed, "preview")
    kept: dict[ImageKey, Tensor] = {}
    x = x_t[:SHOWN]
    if isinstance(prior, HasLatents):
        z, x = _from_latents(prior, x, generator)
        kept[ImageKey("z")] = to_bytes(as_images(z, task.dataset.shape))
        kept[ImageKey("f(z)")] = to_bytes(x)
        if prior.emits == "x_0":
            x = diffusion.diffuse(x, spec.t_trunc, generator)
    before = diffusion.evaluations
    chain = (spec.t_trunc, sampler.solver, sampler.steps)
    states = diffusion.trajectory(x, *chain, generator, times=sampler.times)
    nfe = diffusion.evaluations - before + nfe_prior  # counted as in the rows
    kept |= {ImageKey("chain", sampler.solver, nfe, t): to_bytes(x) for t, x in states.items()}
    features = features_of(to_bytes(states[0]), task.extractor)
    kept[ImageKey("nearest")] = task.dataset.train[nearest(features, task.features("train"))]
    return kept


def _from_latents(
    prior: HasLatents, like: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Latents of the prior, and the images that it makes of them, in the shape of ``like``."""
    with torch.no_grad():
        z = prior.latents(len(like), generator)
        x = prior.from_latents(z).to(like.device, torch.float32)
    if x.shape != like.shape or len(z) != len(like) or not bool(x.isfinite().all()):
        raise ValueError(
            f"from_latents(latents({len(z)})) must give as many finite images as sample does"
        )
    return z, x


def as_images(z: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Latents (N, ...) as images.

    They take ``shape`` if they have as many numbers. Otherwise they become squares of one channel,
    filled up with grey.
    """
    z = z.detach().flatten(1).float()
    if z.shape[1] == math.prod(shape):
        return z.view(-1, *shape)
    side = math.ceil(z.shape[1] ** 0.5)
    return torch.nn.functional.pad(z, (0, side**2 - z.shape[1])).view(-1, 1, side, side)

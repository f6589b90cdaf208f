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
from ..plan.spec import CellSpec
from ..prior import HasLatents, TruncPrior
from ..task import Task

SHOWN = 10  # samples on their way


def preview(
    prior: TruncPrior, x_t: Tensor, task: Task, spec: CellSpec, nfe_prior: int = 0
) -> dict[str, Tensor]:
    """Bytes (SHOWN, C, H, W) by name, of one solver setting: the last, of pure noise the full
    chain, which comes first.

    ``chain <solver> <NFE> <t>`` for a few t from t_trunc down to 0; ``nearest``, the training image
    that is nearest to each x_0 in the extractor's features; where the prior shows its latents,
    ``z`` and ``f(z)``, which the chain starts from then. Draws are its own: no figure of the table
    depends on them.
    """
    diffusion = task.diffusion
    solver, steps = spec.solvers[0 if spec.t_trunc == diffusion.T else -1]
    generator = generator_for(spec.seed, "preview")
    kept: dict[str, Tensor] = {}
    x = x_t[:SHOWN]
    if isinstance(prior, HasLatents):
        with torch.no_grad():
            z = prior.latents(len(x), generator)
            x = prior.from_latents(z).to(diffusion.device, torch.float32)
        if x.shape != x_t[:SHOWN].shape or len(z) != len(x) or not bool(x.isfinite().all()):
            raise ValueError(
                f"from_latents(latents({len(z)})) must give as many finite images as sample does"
            )
        kept |= {"z": to_bytes(as_images(z, task.dataset.shape)), "f(z)": to_bytes(x)}
        if prior.emits == "x_0":
            x = diffusion.diffuse(x, spec.t_trunc, generator)
    before = diffusion.evaluations
    states = diffusion.trajectory(x, spec.t_trunc, solver, steps, generator)
    nfe = diffusion.evaluations - before + nfe_prior  # as the rows have it
    kept |= {f"chain {solver} {nfe} {t}": to_bytes(x) for t, x in states.items()}
    found = nearest(features_of(to_bytes(states[0]), task.extractor), task.features("train"))
    return kept | {"nearest": task.dataset.train[found]}


def as_images(z: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Latents (N, ...) as images: of ``shape`` where they have as many numbers, else squares of one
    channel, filled up with grey.
    """
    z = z.detach().flatten(1).float()
    if z.shape[1] == math.prod(shape):
        return z.view(-1, *shape)
    side = math.ceil(z.shape[1] ** 0.5)
    return torch.nn.functional.pad(z, (0, side**2 - z.shape[1])).view(-1, 1, side, side)

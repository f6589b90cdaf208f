"""Floating-point operations: a cost that does not depend on the machine.

Those of matrix products, convolutions and attention are counted, as
:mod:`torch.utils.flop_counter` counts them, a multiplication and an addition being two. Elementwise
work, sorting and whatever is done outside torch are not.
"""

from collections.abc import Callable
from math import floor, isnan

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..diffusion.frozen import FrozenDiffusion
from ..diffusion.process import generator_for
from ..plan.spec import CellSpec
from ..prior import TruncPrior


def counted(work: Callable[[], object]) -> int:
    """The operations of ``work``.

    Attention runs as matrix products: not every device's own kernel of it is counted by torch.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return int(counter.get_total_flops())


@torch.no_grad()
def of_evaluation(diffusion: FrozenDiffusion) -> int:
    """The operations of one evaluation of the frozen network, for an image."""
    x = torch.zeros(1, *diffusion.shape, device=diffusion.device)
    timestep = torch.zeros(1, device=diffusion.device)
    return counted(lambda: diffusion.network(x, timestep))


def of_prior(prior: TruncPrior, spec: CellSpec) -> float:
    """The operations of ``sample`` for an image, evaluations of the frozen network included.

    They are counted over a batch, so work that is done once for a batch is shared by its images.
    """
    n = min(spec.batch_size, spec.n_samples)
    return counted(lambda: prior.sample(n, generator_for(spec.seed, "operations"))) / n


def evaluations_of_prior(counted: float, flops: float, evaluation: int) -> float:
    """What a prior adds to the NFE of an image, so that no network of its own goes uncounted.

    Arguments:
        counted: its evaluations of the frozen network, for an image.
        flops: its operations, these evaluations included; NaN if they are not known.
        evaluation: the operations of one evaluation of the frozen network.

    Returns:
        ``counted``, and what is left of the operations in whole evaluations, rounded.
    """
    own = 0 if isnan(flops) else flops / evaluation - counted
    return counted + max(0, floor(own + 0.5))

r"""The marginal q(x_{t_trunc}): the law that every prior is fitted to.

.. math:: q(x_t) = \mathbb{E}_{x_0 \sim \text{train}} \, \mathcal{N}(\sqrt{\bar\alpha_t} \, x_0, (1 - \bar\alpha_t) I)
"""

import torch
from torch import Tensor

from .diffusion.frozen import FrozenDiffusion


class TruncatedMarginal:
    """Draws of x_{t_trunc}, fresh ones each time: a training image, diffused with fresh noise.

    Arguments:
        images: x_0 in [-1, 1], shape (N, C, H, W).
        diffusion: the frozen model. A prior may read its features, and differentiate through them,
            never train it.
        t_trunc: how many noising steps, 1..T.
        validation: held-out images of the same kind, for early stopping (and for the ``oracle``
            control).
    """

    def __init__(
        self,
        images: Tensor,
        diffusion: FrozenDiffusion,
        t_trunc: int,
        validation: Tensor | None = None,
    ) -> None:
        self.diffusion = diffusion
        self.t_trunc = diffusion.process.check(t_trunc, "t_trunc")
        self.device = diffusion.device
        self.images = images.to(self.device)
        #: The same law over held-out validation images, or None.
        self.validation: TruncatedMarginal | None = (
            None if validation is None else TruncatedMarginal(validation, diffusion, t_trunc)
        )

    @property
    def T(self) -> int:
        return self.diffusion.T

    @property
    def alpha_bar(self) -> float:
        """alpha_bar at t_trunc: x_{t_trunc} = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps."""
        return float(self.diffusion.process.alpha_bar[self.t_trunc])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def draw_clean(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` images x_0, (n, C, H, W): without repetition while they last, each equally often
        beyond.
        """
        orders = [
            torch.randperm(len(self.images), generator=generator, device=generator.device)
            for _ in range(-(-n // len(self.images)))
        ]
        return self.images[torch.cat(orders)[:n].to(self.device)] if orders else self.images[:0]

    def diffuse(self, x_0: Tensor, generator: torch.Generator) -> Tensor:
        """q(x_{t_trunc} | x_0), differentiable in ``x_0``."""
        return self.diffusion.diffuse(x_0, self.t_trunc, generator)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` fresh draws of x_{t_trunc}, (n, C, H, W)."""
        return self.diffuse(self.draw_clean(n, generator), generator)

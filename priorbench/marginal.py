r"""The marginal q(x_{t_trunc}): the law that every prior is fitted to.

.. math:: q(x_t) = \mathbb{E}_{x_0 \sim \text{train}} \,
                   \mathcal{N}(\sqrt{\bar\alpha_t} \, x_0, (1 - \bar\alpha_t) I)
"""

import torch
from torch import Tensor

from .diffusion.frozen import FrozenDiffusion


class TruncatedMarginal:
    """Draws of x_{t_trunc}, fresh each time: a training image, diffused with fresh noise.

    Arguments:
        images: x_0 in [-1, 1], shape (N, C, H, W).
        diffusion: the frozen model. A prior may read its features, and differentiate through them,
            but never train it.
        t_trunc: the number of noising steps, 1..T.
        validation: held-out images of the same kind, for early stopping (and for the ``oracle``
            control).

    Raises:
        UserError: if ``t_trunc`` is not in 1..T.
    """

    def __init__(
        self,
        images: Tensor,
        diffusion: FrozenDiffusion,
        t_trunc: int,
        validation: Tensor | None = None,
    ) -> None:
        self.diffusion = diffusion
        self._t_trunc = diffusion.process.check(t_trunc, "t_trunc")
        self._asked = False
        self.device = diffusion.device
        self.images = images.to(self.device)
        #: The same law over held-out validation images, or None.
        self.validation: TruncatedMarginal | None = (
            None if validation is None else TruncatedMarginal(validation, diffusion, t_trunc)
        )

    @property
    def t_trunc(self) -> int:
        """The number of noising steps."""
        self._asked = True
        return self._t_trunc

    @property
    def used_t_trunc(self) -> bool:
        """Whether anybody asked for t_trunc, or for what depends on it, here or of ``validation``.

        A fit that did not is the same at every t_trunc, so the harness makes it once.
        """
        return self._asked or (self.validation is not None and self.validation.used_t_trunc)

    @property
    def T(self) -> int:
        """The length of the whole chain."""
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
        """``n`` training images x_0, (n, C, H, W), drawn as :meth:`shuffled` does."""
        return self.shuffled(self.images, n, generator)

    @staticmethod
    def shuffled(images: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """``n`` of ``images`` (N, ...), in random order: (n, ...).

        No image comes twice before each has come once; beyond N, each comes equally often.
        """
        rounds = -(-n // len(images))
        orders = [
            torch.randperm(len(images), generator=generator, device=generator.device)
            for _ in range(rounds)
        ]
        return images[torch.cat(orders)[:n].to(images.device)] if orders else images[:0]

    def diffuse(self, x_0: Tensor, generator: torch.Generator) -> Tensor:
        """A draw of q(x_{t_trunc} | x_0), (N, C, H, W), differentiable in ``x_0``."""
        return self.diffusion.diffuse(x_0, self.t_trunc, generator)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` fresh draws of x_{t_trunc}, (n, C, H, W)."""
        return self.diffuse(self.draw_clean(n, generator), generator)

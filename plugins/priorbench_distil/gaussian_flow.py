r"""The way of a deterministic chain, in closed form where the data are Gaussian.

For x_0 ~ N(m, S) with :math:`S = V \Lambda V^T`, the probability-flow ODE takes x_t at
:math:`\bar\alpha_t = a` to

.. math:: \sqrt{b} \, m + V \, \Big( \frac{b \Lambda + (1 - b) I}{a \Lambda + (1 - a) I}
          \Big)^{1/2} V^T (x_t - \sqrt{a} \, m)

at :math:`\bar\alpha = b`. It is also the optimal transport map between the two marginals. While
there is much noise, the chain of any data follows that of the Gaussian with their moments closely
(Wang and Vastola, 2023, https://arxiv.org/abs/2311.10892).
"""

import math

import torch
from priorbench_gaussian import principal_axes
from torch import Tensor, nn


class GaussianFlow(nn.Module):
    """x at one alpha_bar -> x at another, (N, C, H, W), by the moments of the training images.

    Of images of more than 1,024 numbers the axes that nobody can see are left out, and the others
    kept in half precision (:mod:`priorbench_gaussian.axes`).
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor
    rest: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(math.prod(shape)))
        self.register_buffer("axes", torch.empty(0))  # how many there are the data say
        self.register_buffer("variances", torch.empty(0))
        self.register_buffer("rest", torch.zeros(()))

    def fit(self, images: Tensor) -> None:
        """Take the moments of ``images`` (N, C, H, W)."""
        axes = principal_axes(images.flatten(1).cpu())
        self.mean.copy_(axes.mean)
        self.axes = axes.vectors.to(self.mean.device, axes.dtype)
        self.variances = axes.values.to(self.mean)
        self.rest.fill_(axes.rest)

    def forward(self, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """``x`` at alpha_bar = ``a``, carried to alpha_bar = ``b`` (scalars)."""

        def growth(variance: Tensor) -> Tensor:
            return ((b * variance + 1 - b) / (a * variance + 1 - a)).clamp(min=0).sqrt()

        axes, rest = self.axes.to(x.dtype), growth(self.rest)
        centred = x.flatten(1) - a.sqrt() * self.mean
        along = (centred @ axes * (growth(self.variances) - rest)) @ axes.T
        return (b.sqrt() * self.mean + rest * centred + along).view(x.shape)

"""The optimal map from N(0, I) to the Gaussian with the moments of x_{t_trunc}."""

import math

import torch
from torch import Tensor, nn

from .axes import principal_axes


class GaussianMap(nn.Module):
    r"""z -> m + S^{1/2} z (Bures-Wasserstein), from normal (N, C, H, W) to images.

    With V the principal axes that are kept (:mod:`.axes`) and s the variance in every other
    direction, :math:`S^{1/2} = \sqrt{s} I + V D V^\top`.
    """

    mean: Tensor
    basis: Tensor
    stretch: Tensor
    everywhere: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("basis", torch.empty(0))  # how many axes are kept, the data say
        self.register_buffer("stretch", torch.empty(0))
        self.register_buffer("everywhere", torch.zeros(()))

    def fit(self, images: Tensor, signal: float) -> None:
        """Fit to clean images (N, C, H, W), diffused to the share ``signal`` of signal."""
        axes = principal_axes(images.flatten(1))
        noise = 1 - signal
        everywhere = math.sqrt(signal * axes.rest + noise)
        self.mean.copy_(math.sqrt(signal) * axes.mean.view(self.mean.shape))
        self.everywhere.fill_(everywhere)
        self.basis = axes.vectors.to(self.mean.device, axes.dtype)
        self.stretch = ((signal * axes.values + noise).sqrt() - everywhere).to(self.mean)

    def forward(self, z: Tensor) -> Tensor:
        """Images (N, C, H, W) from normal z (N, C, H, W)."""
        basis = self.basis.to(z.dtype)
        moved = self.everywhere * z.flatten(1) + ((z.flatten(1) @ basis) * self.stretch) @ basis.T
        return self.mean + moved.view_as(z)

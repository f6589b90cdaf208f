r"""The law that latents are drawn from: N(0, I), or a density of the codes of the training images.

A trained encoder does not map the data to N(0, I): the aggregated posterior

.. math:: q(z) = \mathbb{E}_x \, q(z | x)

leaves holes where N(0, I) has mass, and the decoder was never trained there. A second density that
is fitted to draws of q(z) after training avoids them (two-stage VAE, Dai and Wipf, ICLR 2019,
https://arxiv.org/abs/1903.05789; ex-post density estimation, Ghosh et al., ICLR 2020,
https://arxiv.org/abs/1903.12436). Here it is a mixture of Gaussians with full covariances
(:func:`priorbench_mixture.fit_mixture`).
"""

import torch
from priorbench_mixture import fit_mixture
from torch import Tensor, nn

from priorbench import FitRun, randn

CROWD = 20  # codes per component, at least
RIDGE = 1e-3  # a variance added to the components, where the codes have about 1


class Density(nn.Module):
    """A mixture of Gaussians over z, (N, latent); before :meth:`fit` it is N(0, I)."""

    shares: Tensor
    centres: Tensor
    factors: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent
        for name in ("shares", "centres", "factors"):  # their K depends on the data
            self.register_buffer(name, torch.empty(0))

    def standard(self) -> None:
        """Become N(0, I)."""
        device = self.shares.device
        self.shares = torch.ones(1, device=device)
        self.centres = torch.zeros(1, self.latent, device=device)
        self.factors = torch.eye(self.latent, device=device)[None]

    def fit(self, codes: Tensor, components: int, run: FitRun) -> None:
        """Fit at most ``components`` Gaussians to codes (N, latent); stop at the run's deadline."""
        count = max(1, min(components, len(codes) // CROWD))
        shares, centres, covariances = fit_mixture(codes, count, RIDGE, run)
        self.shares = shares.to(self.shares)
        self.centres = centres.to(self.centres)
        self.factors = torch.linalg.cholesky(covariances).to(self.factors)

    def forward(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` draws of z, (n, latent)."""
        device = self.shares.device
        uniform = torch.rand(n, generator=generator, device=generator.device).to(device)
        k = torch.searchsorted(self.shares.cumsum(0), uniform).clamp(max=len(self.shares) - 1)
        noise = randn((n, self.latent), generator, device)
        return self.centres[k] + (self.factors[k] @ noise[:, :, None]).squeeze(2)

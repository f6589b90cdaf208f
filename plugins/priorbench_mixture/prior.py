r"""``mixture``: closed-form transport from normal draws to a mixture, without a network.

s is described in :mod:`.maps`; the harness diffuses its draws to t_trunc.
"""

import torch
from torch import Tensor

from priorbench import FitRun, TruncatedMarginal, TruncPrior, check_least

from .maps import GaussianMaps


class MixturePrior(TruncPrior):
    """A mixture of Gaussians of low rank, sampled through one closed-form map for each.

    Arguments:
        components: the largest number of Gaussians.
        crowd: the least number of training images per component; it limits ``components``.
        ridge: a variance added to the components while they are fitted, in squared pixel units.
        latent: q, the number of leading principal coordinates that the mixture lives in, from which
            the rest of an image follows; 0 stands for 32, and for 100 where an image has more than
            1,024 numbers. With all of them and one component the law is that of ``gaussian``.
    """

    emits = "x_0"
    takes_budget = False

    def __init__(
        self,
        *,
        components: int = 200,
        crowd: int = 25,
        ridge: float = 0.03,
        latent: int = 0,
    ) -> None:
        super().__init__()
        check_least(1, components=components, crowd=crowd)
        check_least(0, latent=latent, ridge=ridge)
        self.components = components
        self.crowd = crowd
        self.ridge = ridge
        self.latent = latent

    def build(self, shape: tuple[int, int, int]) -> None:
        self.maps = GaussianMaps(shape, self.latent)

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        self.maps.fit(marginal, run, self.components, self.crowd, self.ridge)
        run.progress(1, 1, float("nan"))

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """z = (z_0, z'), (n, 1 + C H W) standard normal, see :class:`.maps.GaussianMaps`."""
        return self.maps.latents(n, generator)

    def source(self, z: Tensor) -> Tensor:
        """The normal draws z' (N, C, H, W) that are moved, of z (N, 1 + C H W)."""
        return self.maps.source(z)

    def from_latents(self, z: Tensor) -> Tensor:
        """s(z) as images (N, C, H, W), of z (N, 1 + C H W)."""
        images: Tensor = self.maps(z)
        return images

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.from_latents(self.latents(n, generator))

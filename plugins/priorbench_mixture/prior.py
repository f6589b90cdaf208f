r"""``mixture``: closed-form transport from normal draws to a Gaussian mixture, without a network.

.. math:: f(z) = s(z), \qquad z \sim N(0, I)

s is described in :mod:`.maps`. With ``emits: x_0`` the mixture is over clean images, and the
harness diffuses its draws. With ``emits: x_t`` its components are diffused in closed form. Both
have the same law at x_{t_trunc}.
"""

from typing import Literal

import torch
from torch import Tensor

from priorbench import FitRun, TruncatedMarginal, TruncPrior

from .maps import GaussianMaps


class MixturePrior(TruncPrior):
    """A Gaussian mixture, sampled through one closed-form map for each component.

    The prior holds the principal axes of the images: d x d numbers, with d = C H W, up to 1,024 of
    them. Of larger images it holds those that can be seen, in half precision
    (:mod:`priorbench_gaussian.axes`).

    Arguments:
        emits: ``x_0``, a clean guess that is diffused; or ``x_t``.
        components: the largest number of Gaussians; with 1 the law is that of ``gaussian``.
        crowd: the least number of training images per component; it limits ``components``.
        ridge: a variance added to the components while they are fitted, in squared pixel units.
        latent: the number of leading principal coordinates that the mixture lives in.
    """

    takes_budget = False

    def __init__(
        self,
        *,
        emits: Literal["x_t", "x_0"] = "x_0",
        components: int = 100,
        crowd: int = 50,
        ridge: float = 0.03,
        latent: int = 100,
    ) -> None:
        super().__init__()
        if emits not in ("x_t", "x_0"):
            raise ValueError(f"emits must be x_t or x_0, got {emits!r}")
        for name, value in {"components": components, "crowd": crowd, "latent": latent}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not ridge >= 0:
            raise ValueError(f"ridge must be at least 0, got {ridge}")
        self.emits = emits
        self.components = components
        self.crowd = crowd
        self.ridge = ridge
        self.latent = latent

    def build(self, shape: tuple[int, int, int]) -> None:
        self.maps = GaussianMaps(shape, self.latent)

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        clean = self.emits == "x_0"
        self.maps.fit(marginal, run, clean, self.components, self.crowd, self.ridge)
        run.progress(1, 1, float("nan"))

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """z, (n, 1 + m) standard normal, see :class:`.maps.GaussianMaps`."""
        return self.maps.latents(n, generator)

    def source(self, z: Tensor) -> Tensor:
        """The normal draws (N, C, H, W) that are moved, of z (N, 1 + m)."""
        return self.maps.source(z)

    def from_latents(self, z: Tensor) -> Tensor:
        """s(z) as images (N, C, H, W), of z (N, 1 + m)."""
        return self.maps.images(self.maps(z))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.from_latents(self.latents(n, generator))

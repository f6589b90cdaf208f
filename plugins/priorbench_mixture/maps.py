r"""Closed-form transport from normal draws to a mixture of Gaussians of low rank.

From N(0, I) to a Gaussian the optimal map is known, :math:`z \mapsto m + S^{1/2} z`
(Bures-Wasserstein). Images are not Gaussian but come in kinds, so there is one such map for each
component of a Gaussian mixture over their leading principal coordinates,

.. math:: y = m_k + S_k^{1/2} U^\top z', \qquad z = (z_0, z') \sim N(0, I_{1+d}), \quad k = k(z_0),

where :math:`k(z_0)` cuts the line into intervals that have the probabilities of the components. The
law of y is then the mixture. (Delon and Desolneux, SIAM J. Imaging Sciences 2020,
https://arxiv.org/abs/1907.05254, transport between and within components in this way.) The rest of
the image is linear in y, by regression within the component:

.. math:: s(z) = \mu + U y + V (a_k + B_k^\top (y - m_k)).

U are the q leading principal axes, V those that follow, up to 256. How the rest varies around its
regression is left out: at x_{t_trunc} the diffusion's noise stands for it.

The mixture is fitted to clean images by expectation maximisation (:mod:`.em`). It is used only if
held-out images with a tenth of noise are at least as likely under it as under one Gaussian; if not,
half as many components are tried. The regressions are shrunk towards the mean of their component by
as much as lowers the error on held-out images most.
"""

import math

import torch
from priorbench_gaussian import principal_axes
from torch import Tensor, nn

from priorbench import FitRun, TruncatedMarginal, randn

from .em import LEAST_RIDGE, Densities, Law, fit_mixture
from .regression import along, fit_lines

FEW = 32  # leading coordinates of images of at most LARGE numbers
MANY = 100  # and of larger ones
LARGE = 1024
AXES = 256  # the leading axes that images are made of
# The share of noise in held-out images that a mixture of clean images is judged by: that of x_{100}
# of a linear schedule and of x_{200} of a cosine. With less of it components of few images lose.
JUDGED_AT = 0.1


class GaussianMaps(nn.Module):
    """s, from standard normal (N, 1 + d) to images (N, C, H, W) of d numbers.

    Attributes:
        deviation: of each leading coordinate over all images, (q,).

    Arguments:
        shape: (C, H, W) of an image.
        coordinates: q, of the mixture, at most d; 0 for as many as suit such images.
    """

    mean: Tensor
    basis: Tensor
    deviation: Tensor
    shares: Tensor
    centres: Tensor
    factors: Tensor
    offsets: Tensor
    slopes: Tensor

    def __init__(self, shape: tuple[int, int, int], coordinates: int) -> None:
        super().__init__()
        d = math.prod(shape)
        q = self.coordinates = min(coordinates or (FEW if d <= LARGE else MANY), d)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("basis", torch.zeros(d, min(d, max(q, AXES))))
        self.register_buffer("deviation", torch.zeros(q))
        for name in ("shares", "centres", "factors", "offsets", "slopes"):  # the data say their K
            self.register_buffer(name, torch.empty(0))

    def fit(
        self, marginal: TruncatedMarginal, run: FitRun, components: int, crowd: int, ridge: float
    ) -> None:
        """Fit the maps to the law of x_0.

        Arguments:
            components: the largest number of Gaussians.
            crowd, ridge: as in :class:`priorbench_mixture.prior.MixturePrior`.
        """
        q, ridge = self.coordinates, max(ridge, LEAST_RIDGE)
        axes = principal_axes(marginal.images.flatten(1), self.basis.shape[1])
        self.mean.copy_(axes.mean.view(self.mean.shape))
        self.basis.copy_(axes.vectors[:, : self.basis.shape[1]])
        self.deviation.copy_(axes.values[:q].sqrt())
        x, held_out = self._coordinates(marginal.images), None
        if marginal.validation is not None:
            held_out = self._coordinates(marginal.validation.images)
        law = self._mixture(x, held_out, components, crowd, ridge, run)
        shares, centres, covariances = law
        # The ridge serves the fit alone: samples must not carry it as noise.
        values, vectors = torch.linalg.eigh(covariances - ridge * torch.eye(q, dtype=torch.double))
        factors = (vectors * values.clamp(min=0).sqrt()[:, None]) @ vectors.mT
        self.shares, self.centres, self.factors = (
            part.to(self.mean) for part in (shares, centres, factors)
        )
        densities = Densities(law, x)

        def labelled(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return x[:, :q], x[:, q:], densities.likeliest(x[:, :q])

        self.offsets, self.slopes = fit_lines(
            self.centres, labelled(x), None if held_out is None else labelled(held_out)
        )

    def _coordinates(self, images: Tensor) -> Tensor:
        """The coordinates (N, r) of images (N, C, H, W) along all axes that are kept."""
        parts = images.split(4096)
        return torch.cat([(x - self.mean).flatten(1) @ self.basis.to(x.dtype) for x in parts])

    def _mixture(
        self,
        x: Tensor,
        held_out: Tensor | None,
        components: int,
        crowd: int,
        ridge: float,
        run: FitRun,
    ) -> Law:
        """A mixture over the leading coordinates, or one Gaussian if held-out ones prefer it."""
        q = self.coordinates
        eye = torch.eye(q, dtype=torch.double)
        covariance = self.deviation.cpu().double().square().diag() + ridge * eye
        one = torch.ones(1).double(), torch.zeros(1, q).double(), covariance[None]
        count = min(components, len(x) // crowd)
        while count > 1:
            law = fit_mixture(x[:, :q], count, ridge, run, report=True)
            if held_out is None or _fits_better(law, one, held_out[:, :q], ridge, run):
                return law
            count = 1 if run.out_of_time() else count // 2
        return one

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """z = (z_0, z'), (n, 1 + d) standard normal."""
        return randn((n, 1 + self.mean.numel()), generator, self.mean.device)

    def source(self, z: Tensor) -> Tensor:
        """The normal draws z' (N, C, H, W) that are moved, of z (N, 1 + d)."""
        return z[:, 1:].view(-1, *self.mean.shape)

    def forward(self, z: Tensor) -> Tensor:
        """s(z), images (N, C, H, W), of z (N, 1 + d)."""
        y, k = self.leading(z)
        return self.images(y, k)

    def leading(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The leading coordinates y (N, q) of z (N, 1 + d), and the component k (N,) of each."""
        k = self.component(z[:, 0])
        return self.draw(k, z[:, 1:] @ self.basis[:, : self.coordinates].to(z.dtype)), k

    def component(self, z: Tensor) -> Tensor:
        """The component that each z_0 (N,) stands for, (N,)."""
        uniform = torch.special.ndtr(z.contiguous())
        return torch.searchsorted(self.shares.cumsum(0), uniform).clamp(max=len(self.shares) - 1)

    def draw(self, k: Tensor, z: Tensor) -> Tensor:
        """The leading coordinates (N, q) of draws of components k (N,), of normal z (N, q)."""
        return self.centres[k] + (self.factors[k] @ z[:, :, None]).squeeze(-1)

    def codes(self, x: Tensor) -> Tensor:
        """The leading coordinates (N, q) of images (N, C, H, W)."""
        return (x - self.mean).flatten(1) @ self.basis[:, : self.coordinates].to(x.dtype)

    def densities(self, ridge: float) -> Densities:
        """The joint density of leading coordinates and components.

        Arguments:
            ridge: a variance that is added to each component.
        """
        factors = self.factors.double()
        eye = torch.eye(self.coordinates, dtype=factors.dtype, device=factors.device)
        ridge = max(ridge, LEAST_RIDGE)
        law = self.shares, self.centres, factors @ factors.mT + ridge * eye
        return Densities(law, self.centres)

    def images(self, y: Tensor, k: Tensor) -> Tensor:
        """Images (N, C, H, W) from leading coordinates y (N, q) of components k (N,)."""
        rest = along(self.offsets[k], self.slopes[k], y - self.centres[k])
        x = torch.cat([y, rest], dim=1) @ self.basis.T.to(y.dtype)
        return self.mean + x.view(-1, *self.mean.shape)


def _fits_better(mixture: Law, one: Law, y: Tensor, ridge: float, run: FitRun) -> bool:
    """Whether held-out y (N, q) are at least as likely under the mixture as under one Gaussian.

    Both are laws of clean images; noise is added to the images and to the laws.
    """
    y = y[:1000].cpu()
    signal, noise = 1 - JUDGED_AT, JUDGED_AT
    y = math.sqrt(signal) * y + math.sqrt(noise) * randn(y.shape, run.generator, y.device)
    eye = torch.eye(y.shape[1], dtype=torch.double)

    def log_likelihood(law: Law) -> float:
        shares, centres, covariances = law
        noised = shares, math.sqrt(signal) * centres, signal * (covariances - ridge * eye)
        joint = Densities((*noised[:2], noised[2] + noise * eye), y.double())(y.double())
        return float(joint.logsumexp(1).mean())

    found, plain = log_likelihood(mixture), log_likelihood(one)
    run.log(
        f"{len(mixture[0])} components: held-out log-likelihood {found:.2f} nats, one Gaussian "
        f"{plain:.2f}"
    )
    return found >= plain

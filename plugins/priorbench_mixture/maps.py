r"""Closed-form transport from normal draws to a Gaussian mixture.

From N(0, I) to a Gaussian the optimal map is known, :math:`z \mapsto m + S^{1/2} z`
(Bures-Wasserstein). Images are not Gaussian but come in kinds, so there is one such map for each
component of a Gaussian mixture:

.. math:: s(z) = m_k + S_k^{1/2} z', \qquad z = (z_0, z') \sim N(0, I_{d+1}), \quad k = k(z_0),

where :math:`k(z_0)` cuts the line into intervals that have the probabilities of the components. The
law of s(z) is then the mixture. (Delon and Desolneux, SIAM J. Imaging Sciences 2020,
https://arxiv.org/abs/1907.05254, transport between and within components in this way.)

The mixture lives in the leading principal coordinates of the images. It is fitted to clean images
by expectation maximisation (scikit-learn). The other coordinates are Gaussian, with the variances
of the images. The law of x_{t_trunc} is then known too: its covariances are
:math:`\bar\alpha_t S_k + (1 - \bar\alpha_t) I`. The mixture is used only if held-out draws of
x_{t_trunc} are at least as likely under it as under one Gaussian.

With no component at all, the law of x_0 is a point, the mean of the images.
"""

import math
import warnings

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from priorbench import FitRun, TruncatedMarginal, randn

EM_STEPS = 20  # at most; more gain little likelihood

Law = tuple[Tensor, Tensor, Tensor]  # shares (K,), centres (K, q), covariances (K, q, q)


def fit_mixture(points: Tensor, count: int, ridge: float, run: FitRun) -> Law:
    """A mixture of ``count`` Gaussians over points (N, q), by a few EM steps from k-means.

    It stops at the run's deadline, and draws its seed from the run's generator.

    Arguments:
        ridge: a variance added to each component, in squared units of the points; it is part of
            the covariances that are returned.

    Returns:
        Shares (K,), centres (K, q) and covariances (K, q, q), float64, on the CPU.
    """
    from sklearn.mixture import GaussianMixture

    seed = int(torch.randint(2**31 - 1, (), generator=run.generator, device=run.generator.device))
    model = GaussianMixture(count, reg_covar=ridge, max_iter=1, warm_start=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one step never converges
        for _ in range(EM_STEPS):
            model.fit(points.cpu().numpy())
            if model.converged_ or run.out_of_time():
                break
    shares, centres, covariances = (
        torch.from_numpy(found).double()
        for found in (model.weights_, model.means_, model.covariances_)
    )
    return shares, centres, covariances


class GaussianMaps(nn.Module):
    """s, from standard normal (N, 1 + d) to principal coordinates (N, d).

    :meth:`images` takes the coordinates to images (N, C, H, W).
    """

    mean: Tensor
    basis: Tensor
    deviation: Tensor
    shares: Tensor
    centres: Tensor
    factors: Tensor

    def __init__(self, shape: tuple[int, int, int], coordinates: int) -> None:
        super().__init__()
        d = math.prod(shape)
        self.coordinates = min(coordinates, d)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("basis", torch.zeros(d, d))
        self.register_buffer("deviation", torch.zeros(d))  # of each coordinate
        for name in ("shares", "centres", "factors"):  # their K depends on the data
            self.register_buffer(name, torch.empty(0))

    def fit(
        self,
        marginal: TruncatedMarginal,
        run: FitRun,
        clean: bool,
        components: int,
        crowd: int,
        ridge: float,
    ) -> None:
        """Fit the maps to the law of x_0 if ``clean``, else to that of x_{t_trunc}.

        Arguments:
            components: the largest number of Gaussians; 0 is a point of x_0, the mean.
            crowd, ridge: as in :class:`priorbench_mixture.prior.MixturePrior`.
        """
        x = marginal.images.flatten(1).cpu().double()
        signal, noise = (1.0, 0.0) if clean else (marginal.alpha_bar, 1 - marginal.alpha_bar)
        values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0).reshape(x.shape[1], -1))
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        if components == 0:  # a point has no extent
            values = torch.zeros_like(values)
        q = self.coordinates
        law: Law = torch.ones(1), torch.zeros(1, q), torch.diag(values[:q])[None]
        count = min(components, len(x) // crowd)
        if count > 1:
            mean, basis = x.mean(0), vectors[:, :q]
            y = ((x - mean) @ basis).float()
            shares, centres, covariances = fit_mixture(y, count, ridge, run)
            # The ridge serves the fit alone: samples must not carry it as noise.
            mixture = shares, centres, covariances - ridge * torch.eye(q, dtype=torch.double)
            if self._fits_better(mixture, law, marginal, mean, basis, run):
                law = mixture
        self.mean.copy_(math.sqrt(signal) * x.mean(0).view(marginal.shape))
        self.basis.copy_(vectors)
        self.deviation.copy_((signal * values + noise).sqrt())
        self._keep(law, signal, noise)

    def _keep(self, law: Law, signal: float, noise: float) -> None:
        """Keep the maps to ``law`` after diffusion to the given shares of signal and noise."""
        shares, centres, covariances = law
        eye = torch.eye(self.coordinates, dtype=torch.double)
        values, vectors = torch.linalg.eigh(signal * covariances + noise * eye)
        self.shares = shares.to(self.mean)
        self.centres = (math.sqrt(signal) * centres).to(self.mean)
        self.factors = ((vectors * values.clamp(min=0).sqrt()[:, None]) @ vectors.mT).to(self.mean)

    def _fits_better(
        self,
        mixture: Law,
        one: Law,
        marginal: TruncatedMarginal,
        mean: Tensor,
        basis: Tensor,
        run: FitRun,
    ) -> bool:
        """Whether held-out draws of x_{t_trunc} are at least as likely under the mixture."""
        if marginal.validation is None:
            return True
        draws = marginal.validation.draw(min(len(marginal.validation.images), 1000), run.generator)
        y = (draws.flatten(1).cpu().double() - math.sqrt(marginal.alpha_bar) * mean) @ basis
        eye = torch.eye(y.shape[1], dtype=torch.double)

        def log_likelihood(law: Law) -> float:
            shares, centres, covariances = law
            parts = MultivariateNormal(
                math.sqrt(marginal.alpha_bar) * centres.double(),
                marginal.alpha_bar * covariances + (1 - marginal.alpha_bar) * eye,
            )
            whole = MixtureSameFamily(Categorical(shares.double()), parts)
            return float(torch.cat([whole.log_prob(rows) for rows in y.split(100)]).mean())

        found, plain = log_likelihood(mixture), log_likelihood(one)
        run.log(
            f"{len(mixture[0])} components: held-out log-likelihood {found:.2f} nats, one Gaussian "
            f"{plain:.2f}"
        )
        return found >= plain

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """z, (n, 1 + d) standard normal."""
        return randn((n, 1 + self.mean.numel()), generator, self.mean.device)

    def forward(self, z: Tensor) -> Tensor:
        """s(z), (N, d), of z (N, 1 + d)."""
        uniform = torch.special.ndtr(z[:, 0].contiguous())
        k = torch.searchsorted(self.shares.cumsum(0), uniform).clamp(max=len(self.shares) - 1)
        q = self.coordinates
        leading = self.centres[k] + (self.factors[k] @ z[:, 1 : 1 + q, None]).squeeze(-1)
        return torch.cat([leading, z[:, 1 + q :] * self.deviation[q:]], dim=1)

    def images(self, y: Tensor) -> Tensor:
        """Images (N, C, H, W) from principal coordinates (N, d)."""
        return self.mean + (y @ self.basis.T).view(-1, *self.mean.shape)

r"""The closed-form part of the transport map.

Between Gaussians the optimal map is known, :math:`z \mapsto m + S^{1/2} z` (Bures-Wasserstein).
Images are no Gaussian but come in kinds; with one such map for each component of a Gaussian
mixture,

.. math:: s(z) = m_k + S_k^{1/2} z', \qquad z = (z_0, z') \sim N(0, I_{d+1}), \quad k = k(z_0),

where :math:`k(z_0)` cuts the line into intervals of the components' probabilities, the law of s(z)
is the mixture (transport between and within components as in Delon and Desolneux, SIAM J. Imaging
Sciences 2020, https://arxiv.org/abs/1907.05254).

The mixture lives in the leading principal coordinates of the images and is fitted to clean ones by
expectation maximisation (scikit-learn); in the other coordinates they are Gaussian with the images'
own variances. So the law of x_{t_trunc} is known too, with covariances :math:`\bar\alpha_t S_k + (1
- \bar\alpha_t) I`. The mixture is used only where held-out draws of x_{t_trunc} are at least as
likely under it as under one Gaussian.
"""

import math
import warnings

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from priorbench import FitRun, TruncatedMarginal

EM_STEPS = 20  # at most: the likelihood gains little beyond


Law = tuple[Tensor, Tensor, Tensor]  # shares (K,), centres (K, q), covariances (K, q, q)


class GaussianMaps(nn.Module):
    """s: (N, 1 + d) standard normal -> (N, d) principal coordinates; :meth:`images` of those, (N,
    C, H, W).
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
        for name in (
            "shares",
            "centres",
            "factors",
        ):  # (K,), (K, q), (K, q, q): K depends on the data
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
        """``clean``: to the law of x_0, else of x_{t_trunc}; the rest as in
        :class:`priorbench_ot.prior.OTPrior`.
        """
        x = marginal.images.flatten(1).cpu().double()
        signal, noise = (1.0, 0.0) if clean else (marginal.alpha_bar, 1 - marginal.alpha_bar)
        values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0).reshape(x.shape[1], -1))
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        q = self.coordinates
        one = torch.ones(1), torch.zeros(1, q), torch.diag(values[:q])[None]
        law, count = one, min(components, len(x) // crowd)
        if count > 1:
            mixture = self._mixture(((x - x.mean(0)) @ vectors[:, :q]).float(), count, ridge, run)
            law = (
                mixture
                if self._fits_better(mixture, one, marginal, x.mean(0), vectors[:, :q], run)
                else one
            )
        shares, centres, covariances = law
        eye = torch.eye(q, dtype=torch.double)
        roots = torch.linalg.eigh(signal * covariances + noise * eye)
        factors = (
            roots.eigenvectors * roots.eigenvalues.clamp(min=0).sqrt()[:, None]
        ) @ roots.eigenvectors.mT
        self.mean.copy_(math.sqrt(signal) * x.mean(0).view(marginal.shape))
        self.basis.copy_(vectors)
        self.deviation.copy_((signal * values + noise).sqrt())
        for name, value in (
            ("shares", shares),
            ("centres", math.sqrt(signal) * centres),
            ("factors", factors),
        ):
            setattr(self, name, value.to(self.mean))

    def _mixture(self, y: Tensor, count: int, ridge: float, run: FitRun) -> Law:
        """A mixture of ``count`` Gaussians over y (N, q), by a few steps of EM from k-means."""
        from sklearn.mixture import GaussianMixture

        seed = int(
            torch.randint(2**31 - 1, (), generator=run.generator, device=run.generator.device)
        )
        model = GaussianMixture(
            count, reg_covar=ridge, max_iter=1, warm_start=True, random_state=seed
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that one step does not converge
            for _ in range(EM_STEPS):
                model.fit(y.numpy())
                if model.converged_ or run.out_of_time():
                    break
        shares, centres, covariances = (
            torch.from_numpy(found).double()
            for found in (model.weights_, model.means_, model.covariances_)
        )
        return (
            shares,
            centres,
            covariances - ridge * torch.eye(y.shape[1], dtype=torch.double),
        )  # noise in no sample

    def _fits_better(
        self,
        mixture: Law,
        one: Law,
        marginal: TruncatedMarginal,
        mean: Tensor,
        basis: Tensor,
        run: FitRun,
    ) -> bool:
        """Whether held-out draws of x_{t_trunc} are likelier under the mixture."""
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
            f"{len(mixture[0])} components: held-out log-likelihood {found:.2f} nats, one Gaussian {plain:.2f}"
        )
        return found >= plain

    def forward(self, z: Tensor) -> Tensor:
        uniform = torch.special.ndtr(z[:, 0].contiguous())
        k = torch.searchsorted(self.shares.cumsum(0), uniform).clamp(max=len(self.shares) - 1)
        q = self.coordinates
        leading = self.centres[k] + (self.factors[k] @ z[:, 1 : 1 + q, None]).squeeze(-1)
        return torch.cat([leading, z[:, 1 + q :] * self.deviation[q:]], dim=1)

    def images(self, y: Tensor) -> Tensor:
        return self.mean + (y @ self.basis.T).view(-1, *self.mean.shape)

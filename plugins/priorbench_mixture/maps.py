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
:math:`\bar\alpha_t S_k + (1 - \bar\alpha_t) I`. The mixture is used only if held-out draws are at
least as likely under it as under one Gaussian; if not, half as many components are tried. These are
draws of x_{t_trunc}; or images with a tenth of noise if the law of x_0 is fitted, whose fit is then
the same at every t_trunc.

Of images of more than 1,024 numbers the last coordinates are not kept: see
:mod:`priorbench_gaussian.axes`. What is left out is noise of the same variance in every pixel.
"""

import math
import warnings
from dataclasses import replace

import torch
from priorbench_gaussian import Axes, principal_axes
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from priorbench import FitRun, TruncatedMarginal, randn

EM_STEPS = 20  # at most; more gain little likelihood
# The share of noise in held-out images that a mixture of clean images is judged by: that of x_{100}
# of a linear schedule and of x_{200} of a cosine. With less of it components of few images lose.
JUDGED_AT = 0.1

Law = tuple[Tensor, Tensor, Tensor]  # shares (K,), centres (K, q), covariances (K, q, q)


def fit_mixture(points: Tensor, count: int, ridge: float, run: FitRun, report: bool = False) -> Law:
    """A mixture of ``count`` Gaussians over points (N, q), by a few EM steps from k-means.

    It stops at the run's deadline, and draws its seed from the run's generator.

    Arguments:
        ridge: a variance added to each component, in squared units of the points; it is part of
            the covariances that are returned.
        report: whether to report progress, as is right for what is not part of a step.

    Returns:
        Shares (K,), centres (K, q) and covariances (K, q, q), float64, on the CPU.
    """
    from sklearn.mixture import GaussianMixture

    seed = int(torch.randint(2**31 - 1, (), generator=run.generator, device=run.generator.device))
    model = GaussianMixture(count, reg_covar=ridge, max_iter=1, warm_start=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one step never converges
        for step in range(EM_STEPS):
            model.fit(points.cpu().numpy())
            if report:
                run.progress(step + 1, EM_STEPS, math.nan)
            if model.converged_ or run.out_of_time():
                break
    shares, centres, covariances = (
        torch.from_numpy(found).double()
        for found in (model.weights_, model.means_, model.covariances_)
    )
    return shares, centres, covariances


class GaussianMaps(nn.Module):
    """s, from standard normal (N, 1 + m) to m coordinates (N, m).

    These are the d principal coordinates; or r of them and then d pixels of noise, where r are
    kept; or, without ``rest``, the leading coordinates alone. :meth:`images` takes them to images
    (N, C, H, W).
    """

    mean: Tensor
    basis: Tensor
    deviation: Tensor
    shares: Tensor
    centres: Tensor
    factors: Tensor

    def __init__(self, shape: tuple[int, int, int], coordinates: int, rest: bool = True) -> None:
        super().__init__()
        d = math.prod(shape)
        self.rest = rest
        self.coordinates = min(coordinates, d)
        self.register_buffer("mean", torch.zeros(shape))
        # Of each coordinate its axis and its deviation. How many are kept, and the number of
        # components, depend on the data.
        for name in ("basis", "deviation", "shares", "centres", "factors"):
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
            components: the largest number of Gaussians.
            crowd, ridge: as in :class:`priorbench_mixture.prior.MixturePrior`.
        """
        x = marginal.images.flatten(1).cpu()
        signal, noise = (1.0, 0.0) if clean else (marginal.alpha_bar, 1 - marginal.alpha_bar)
        axes = principal_axes(x, self.coordinates)
        q = self.coordinates
        law: Law = torch.ones(1), torch.zeros(1, q), torch.diag(axes.values[:q])[None]
        scale = (1 - JUDGED_AT, JUDGED_AT) if clean else (signal, noise)
        count = min(components, len(x) // crowd)
        while count > 1:
            mixture = self._mixture(x, axes, count, ridge, run)
            held_out = _held_out(marginal, scale, run)
            if held_out is None or _fits_better(mixture, law, held_out, axes, scale, run):
                law = mixture
                break
            count = 1 if run.out_of_time() else count // 2
        self._keep(law, axes, signal, noise)

    def _mixture(self, x: Tensor, axes: Axes, count: int, ridge: float, run: FitRun) -> Law:
        """A mixture of ``count`` Gaussians over the leading coordinates of images (N, d)."""
        q = self.coordinates
        basis = axes.vectors[:, :q]
        y = torch.cat([((rows.double() - axes.mean) @ basis).float() for rows in x.split(4096)])
        shares, centres, covariances = fit_mixture(y, count, ridge, run, report=True)
        # The ridge serves the fit alone: samples must not carry it as noise.
        return shares, centres, covariances - ridge * torch.eye(q, dtype=torch.double)

    def _keep(self, law: Law, axes: Axes, signal: float, noise: float) -> None:
        """Keep the maps to ``law`` after diffusion to the given shares of signal and noise."""
        shares, centres, covariances = law
        q = self.coordinates
        if not self.rest:
            axes = replace(axes, values=axes.values[:q], vectors=axes.vectors[:, :q], rest=0.0)
        self.mean.copy_(math.sqrt(signal) * axes.mean.view(self.mean.shape))
        self.basis = axes.vectors.to(self.mean.device, axes.dtype)
        # Where axes are left out, every pixel has noise, and the axes have only what is beyond it.
        pixels = len(axes.mean) if self.rest and len(axes.values) < len(axes.mean) else 0
        everywhere = signal * axes.rest + noise if pixels else 0.0
        along = signal * axes.values + noise - everywhere
        variance = torch.cat([along, torch.full((pixels,), everywhere, dtype=along.dtype)])
        self.deviation = variance.clamp(min=0).sqrt().to(self.mean)
        eye = torch.eye(self.coordinates, dtype=torch.double)
        values, vectors = torch.linalg.eigh(signal * covariances + (noise - everywhere) * eye)
        self.shares = shares.to(self.mean)
        self.centres = (math.sqrt(signal) * centres).to(self.mean)
        self.factors = ((vectors * values.clamp(min=0).sqrt()[:, None]) @ vectors.mT).to(self.mean)

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """z, (n, 1 + m) standard normal."""
        return randn((n, 1 + len(self.deviation)), generator, self.mean.device)

    def source(self, z: Tensor) -> Tensor:
        """The normal draws (N, C, H, W) that z (N, 1 + m) stands for, z_0 left out."""
        r, z = self.basis.shape[1], z[:, 1:]
        basis = self.basis.to(z.dtype)
        x = z[:, :r] @ basis.T
        if z.shape[1] > r:  # the pixels' noise makes up for the axes that are not kept
            x = x + z[:, r:] - z[:, r:] @ basis @ basis.T
        return x.view(-1, *self.mean.shape)

    def forward(self, z: Tensor) -> Tensor:
        """s(z), (N, m), of z (N, 1 + m)."""
        q = self.coordinates
        leading = self.leading(self.component(z[:, 0]), z[:, 1 : 1 + q])
        return torch.cat([leading, z[:, 1 + q :] * self.deviation[q:]], dim=1)

    def component(self, z: Tensor) -> Tensor:
        """The component that each z_0 (N,) stands for, (N,)."""
        uniform = torch.special.ndtr(z.contiguous())
        return torch.searchsorted(self.shares.cumsum(0), uniform).clamp(max=len(self.shares) - 1)

    def leading(self, k: Tensor, z: Tensor) -> Tensor:
        """The leading coordinates (N, q) of draws of components k (N,), of normal z (N, q)."""
        return self.centres[k] + (self.factors[k] @ z[:, :, None]).squeeze(-1)

    def codes(self, x: Tensor) -> Tensor:
        """The leading coordinates (N, q) of images (N, C, H, W)."""
        basis = self.basis[:, : self.coordinates].to(x.dtype)
        return (x - self.mean).flatten(1) @ basis

    def likeliest(self, y: Tensor, ridge: float) -> Tensor:
        """The component (N,) that coordinates y (N, q) are likeliest to be of.

        Arguments:
            ridge: a variance that is added to each component.
        """
        factors = self.factors.double()
        eye = torch.eye(self.coordinates, dtype=factors.dtype, device=factors.device)
        laws = MultivariateNormal(self.centres.double(), factors @ factors.mT + ridge * eye)
        shares = self.shares.double().log()
        found = [
            (laws.log_prob(rows[:, None].double()) + shares).argmax(1) for rows in y.split(100)
        ]
        return torch.cat(found)

    def images(self, y: Tensor) -> Tensor:
        """Images (N, C, H, W) from coordinates (N, m)."""
        r = self.basis.shape[1]
        x = y[:, :r] @ self.basis.T.to(y.dtype)
        if y.shape[1] > r:
            x = x + y[:, r:]
        return self.mean + x.view(-1, *self.mean.shape)


def _held_out(
    marginal: TruncatedMarginal, scale: tuple[float, float], run: FitRun
) -> Tensor | None:
    """Held-out images (N, d), scaled and with noise; ``scale`` are the shares of both."""
    if marginal.validation is None:
        return None
    n = min(len(marginal.validation.images), 1000)
    images = marginal.validation.draw_clean(n, run.generator)
    eps = randn(images.shape, run.generator, images.device)
    signal, noise = scale
    x = math.sqrt(signal) * images + math.sqrt(noise) * eps
    return x.flatten(1).cpu().double()


def _fits_better(
    mixture: Law,
    one: Law,
    draws: Tensor,
    axes: Axes,
    scale: tuple[float, float],
    run: FitRun,
) -> bool:
    """Whether ``draws`` (N, d) are at least as likely under the mixture as under one Gaussian.

    Both are laws of clean images; ``scale`` are the shares of signal and noise in the draws.
    """
    signal, noise = scale
    q = one[1].shape[1]
    y = (draws - math.sqrt(signal) * axes.mean) @ axes.vectors[:, :q]
    eye = torch.eye(q, dtype=torch.double)

    def log_likelihood(law: Law) -> float:
        shares, centres, covariances = law
        parts = MultivariateNormal(
            math.sqrt(signal) * centres.double(), signal * covariances + noise * eye
        )
        whole = MixtureSameFamily(Categorical(shares.double()), parts)
        return float(torch.cat([whole.log_prob(rows) for rows in y.split(100)]).mean())

    found, plain = log_likelihood(mixture), log_likelihood(one)
    run.log(
        f"{len(mixture[0])} components: held-out log-likelihood {found:.2f} nats, one Gaussian "
        f"{plain:.2f}"
    )
    return found >= plain

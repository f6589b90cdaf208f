r"""N(m, S) with the first two moments of q(x_{t_trunc}) over the training images.

With mean :math:`\mu` and covariance :math:`\Sigma` of x_0 the moments of x_t are known,

.. math:: m = \sqrt{\bar\alpha_t} \, \mu, \qquad S = \bar\alpha_t \Sigma + (1 - \bar\alpha_t) I,

so the prior needs neither samples nor training. Raya and Ambrogioni (NeurIPS 2023,
https://arxiv.org/abs/2305.19693) study a full-covariance Gaussian as the start of a truncated chain
under the name "gls".
"""

import math
from typing import Literal

import torch
from torch import Tensor

from priorbench import FitRun, TruncatedMarginal, TruncPrior, check_choice, check_least, randn

from .axes import LARGE, principal_axes


class GaussianPrior(TruncPrior):
    """x_{t_trunc} ~ N(m, F F' + diag(v)).

    Arguments:
        covariance: ``full`` (of images of more than 1,024 numbers without the components that
            nobody can see, see :mod:`.axes`); ``diagonal``; ``identity``, the multiple of I with
            the same total variance; or ``low_rank``, the leading ``rank`` principal components
            plus a diagonal, for images too large for a d x d matrix.
        rank: the number of principal components in ``low_rank``.
    """

    emits = "x_t"
    takes_budget = False
    mean: Tensor
    factor: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        covariance: Literal["full", "diagonal", "identity", "low_rank"] = "full",
        rank: int = 64,
    ) -> None:
        super().__init__()
        check_choice("full", "diagonal", "identity", "low_rank", covariance=covariance)
        check_least(1, rank=rank)
        self.covariance = covariance
        self.rank = rank

    def build(self, shape: tuple[int, int, int]) -> None:
        d = math.prod(shape)
        columns = {"full": d, "low_rank": min(self.rank, d)}.get(self.covariance, 0)
        self.register_buffer("mean", torch.zeros(shape))
        adaptive = self.covariance == "full" and d > LARGE  # how many columns the data say
        self.register_buffer("factor", torch.empty(0) if adaptive else torch.zeros(d, columns))
        self.register_buffer("deviation", torch.ones(d))

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        signal, noise = marginal.alpha_bar, 1 - marginal.alpha_bar
        if self.covariance == "full" and math.prod(marginal.shape) > LARGE:
            self._fit_large(marginal.images.flatten(1), signal, noise)
            return run.progress(1, 1, float("nan"))
        x = marginal.images.flatten(1).cpu().double()
        self.mean.copy_(math.sqrt(signal) * x.mean(0).view(marginal.shape))
        x = x - x.mean(0)
        variance = signal * x.square().mean(0) + noise
        if self.covariance == "full":
            eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
            covariance = signal * x.T @ x / len(x) + noise * eye
            self.factor.copy_(torch.linalg.cholesky(covariance))
            self.deviation.zero_()
        elif self.covariance == "low_rank":
            rank = min(self.factor.shape[1], *x.shape)
            _, s, v = torch.svd_lowrank(x.float(), q=min(rank + 8, *x.shape), niter=4)
            factor = v[:, :rank] * s[:rank] * math.sqrt(signal / len(x))
            self.factor.zero_()[:, :rank].copy_(factor)
            rest = variance - factor.double().square().sum(1)
            self.deviation.copy_(rest.clamp(min=noise).sqrt())
        elif self.covariance == "diagonal":
            self.deviation.copy_(variance.sqrt())
        else:
            self.deviation.fill_(float(variance.mean().sqrt()))
        run.progress(1, 1, float("nan"))

    def _fit_large(self, x: Tensor, signal: float, noise: float) -> None:
        """The full covariance of images (N, d), whose last axes are taken to be alike."""
        axes = principal_axes(x)
        self.mean.copy_(math.sqrt(signal) * axes.mean.view(self.mean.shape))
        factor = axes.vectors * (signal * (axes.values - axes.rest)).clamp(min=0).sqrt()
        self.factor = factor.to(self.device, axes.dtype)
        self.deviation.fill_(math.sqrt(signal * axes.rest + noise))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        d, columns = self.factor.shape
        x = randn((n, d), generator, self.device) * self.deviation
        if columns:
            x = x + randn((n, columns), generator, self.device) @ self.factor.T.to(x.dtype)
        return self.mean + x.view(n, *self.mean.shape)

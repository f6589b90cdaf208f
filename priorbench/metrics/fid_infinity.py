r"""FID with infinitely many images, and the standard error of the estimate.

FID is biased upward by the finite number of images, by a / n + b / m to first order (Chong and
Forsyth, CVPR 2020, https://arxiv.org/abs/1911.07023). Halving both sets doubles the bias. So the
line through the FID of the whole sets and that of their halves meets infinity at

.. math:: \mathrm{FID}_\infty = 2 \, \mathrm{FID}(x, y)
              - \overline{\mathrm{FID}(\text{half of } x, \text{half of } y)},

where the mean is over several ways of halving, and each half is used. FID_inf is unbiased up to
second order. So for perfect samples it falls below 0 as often as above.

**Spread.** With T the optimal transport map between the Gaussians of the two sets, FID moves with
one feature vector x by its influence function (the gradient of the squared Bures distance is
:math:`I - T`; Bhatia et al., 2019, https://arxiv.org/abs/1712.01504)

.. math:: \psi(x) = 2 (\mu_x - \mu_y)^\top (x - \mu_x) + (x - \mu_x)^\top (I - T) (x - \mu_x).

So its variance is v = var psi(x) / n + var psi(y) / m, to which a bootstrap of the influence values
converges.

For nearly equal laws v overestimates. FID is then a quadratic form z'Az of nearly centred z with
covariance V. The mean of v is b = 4 tr(AVAV), but the variance of FID_inf over H halvings is
(1 + 1 / H) b / 2. Estimate b from the two halves of one set, whose laws are equal: v between the
halves of x is 16 times b with the V of x alone. sqrt(b) adds over the two sets. The variance used
here is therefore

.. math:: \max(v - (1 - 1 / H) \, b / 2, \; (1 + 1 / H) \, b / 2).

The plain FID over new samples and the same real images has no extrapolation and no new y: its
variance is :math:`\max(v_x - b_x / 2, \; b_x / 2)` with both parts of x alone. Without the
correction it would be too large by a half where the laws are nearly equal.

To draw whole images with replacement instead would double the bias, since every duplicate is a
missing image. ``benchmarks/coverage.py`` counts how often either interval is right. All of this
assumes that the images are independent draws. A test set with equally many images of each class has
less bias than its halves suggest, and FID_inf falls below the truth.
"""

import torch
from torch import Tensor

HALVINGS = 2


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (F,) and covariance (F, F) of features (N, F), float64."""
    x = x.double()
    return x.mean(0), torch.cov(x.T)


def root(matrix: Tensor, power: float = 0.5) -> Tensor:
    """A power of a symmetric positive semi-definite matrix (F, F), on its range."""
    values, vectors = torch.linalg.eigh(matrix)
    least = values[-1] * 1e-12
    powers = torch.where(values > least, values.clamp(min=least) ** power, 0.0)
    found: Tensor = (vectors * powers) @ vectors.T
    return found


def frechet(
    x: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor], root_y: Tensor | None = None
) -> float:
    """The squared Fréchet distance between the Gaussians with moments ``x`` and ``y``.

    Arguments:
        root_y: the square root of the covariance of ``y``, for callers that have it.
    """
    (mean_x, cov_x), (mean_y, cov_y) = x, y
    half = root(cov_y) if root_y is None else root_y
    cross = torch.linalg.eigvalsh(half @ cov_x @ half).clamp(min=0).sqrt().sum()
    return float((mean_x - mean_y).square().sum() + cov_x.trace() + cov_y.trace() - 2 * cross)


def influence(x: Tensor, of: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """psi of features (N, F), up to a constant: (N,).

    Arguments:
        x: features of a set with the moments ``of``.
        other: the moments of the set that the distance is to.
    """
    (mean, cov), (mean_other, cov_other) = of, other
    half, inverse = root(cov), root(cov, -0.5)
    transport = inverse @ root(half @ cov_other @ half) @ inverse
    centred = x.double() - mean
    return (
        2 * centred @ (mean - mean_other)
        + centred.square().sum(1)
        - ((centred @ transport) * centred).sum(1)
    )


def fid_at_infinity(x: Tensor, y: Tensor, generator: torch.Generator) -> dict[str, float]:
    """FID between features (N, F) of samples and (M, F) of real images, without its bias.

    Returns:
        ``fid_inf``; ``fid_inf_se``, its standard error over new samples and new real images; and
        ``fid_se``, that over new samples alone, which is the standard error of the plain FID on one
        set of real images. All are NaN if half of a set has no more images than features: nothing
        can be extrapolated from singular covariances.
    """
    if min(len(x), len(y)) // 2 <= x.shape[1]:
        return dict.fromkeys(("fid_inf", "fid_inf_se", "fid_se"), float("nan"))
    whole, by_samples, by_reference = _with_variance(x, y)
    halvings = [(_halves(x, generator), _halves(y, generator)) for _ in range(HALVINGS)]
    halved = [
        frechet(moments(a), moments(b)) for pair in halvings for a, b in zip(*pair, strict=True)
    ]
    variance = by_samples + by_reference
    of_samples, of_reference = map(_quadratic, halvings[0])
    of_both = (of_samples**0.5 + of_reference**0.5) ** 2
    share = (1 - 1 / HALVINGS) / 2
    return {
        "fid_inf": 2 * whole - sum(halved) / len(halved),
        "fid_inf_se": max(variance - share * of_both, (1 - share) * of_both) ** 0.5,
        "fid_se": max(by_samples - of_samples / 2, of_samples / 2) ** 0.5,
    }


def _quadratic(halves: tuple[Tensor, Tensor]) -> float:
    """b of the set that was halved."""
    return sum(_with_variance(*halves)[1:]) / 16


def _with_variance(x: Tensor, y: Tensor) -> tuple[float, float, float]:
    """The squared distance, its variance over new x, and its variance over new y."""
    of_x, of_y = moments(x), moments(y)
    by_x, by_y = influence(x, of_x, of_y), influence(y, of_y, of_x)
    return frechet(of_x, of_y), float(by_x.var()) / len(x), float(by_y.var()) / len(y)


def _halves(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two random halves of equal size."""
    order = torch.randperm(len(x), generator=generator)
    return x[order[: len(x) // 2]], x[order[len(x) // 2 : 2 * (len(x) // 2)]]

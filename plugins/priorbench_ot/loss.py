r"""The sliced Wasserstein distance between two batches.

.. math:: SW_p(x, y) = \Big( \frac{1}{K} \sum_{k=1}^K W_p^p(\langle x, \theta_k \rangle, \langle y, \theta_k \rangle)
          \Big)^{1/p}, \qquad \theta_k \in S^{d-1}

In one dimension the optimal plan is monotone: sort both sides and pair them. With N = M points that is the mean of
:math:`|x_{(i)} - y_{(i)}|^p`; with N != M the two quantile functions are steps, and the integral of their difference is
a finite sum over the union of their jumps.

References:
    | Wasserstein barycenter and its application to texture mixing (Rabin et al., 2011)
    | Sliced and Radon Wasserstein barycenters of measures (Bonneel et al., 2015)
    | https://doi.org/10.1007/s10851-014-0506-3
"""

import torch
from torch import Tensor

from priorbench import randn


def random_directions(n: int, dim: int, generator: torch.Generator, device: torch.device | str | None = None) -> Tensor:
    """``n`` directions, (n, dim), uniform on the unit sphere of R^dim."""
    return torch.nn.functional.normalize(randn((n, dim), generator, device), dim=1)


def sliced_power(x: Tensor, y: Tensor, directions: Tensor, p: float = 2) -> Tensor:
    """SW_p^p of (N, d) and (M, d) along ``directions`` (K, d): a scalar, differentiable in x and y.

    The directions come first in the product, so that each sort runs along contiguous memory.
    """
    u = (directions @ x.T).sort(dim=1).values
    v = (directions @ y.T).sort(dim=1).values
    n, m = len(x), len(y)
    if n == m:
        return (u - v).abs().pow(p).mean()
    # The jumps of both quantile functions in units of 1 / (n m), where they are whole numbers.
    jumps = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    starts = torch.cat([jumps.new_zeros(1), jumps[:-1]])
    weights = ((jumps - starts).to(u.dtype) / (n * m)).to(u.device)
    gap = u[:, (starts // m).to(u.device)] - v[:, (starts // n).to(v.device)]
    return (gap.abs().pow(p) @ weights).mean()


def sliced_wasserstein(
    x: Tensor,
    y: Tensor,
    *,
    n_projections: int = 512,
    p: float = 2,
    directions: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """SW_p between two batches of points with equal weights, in the units of the points.

    Arguments:
        x, y: the batches, (N, d) and (M, d).
        n_projections: K, how many random directions; has no effect where ``directions`` are given.
        p: the order, at least 1 and finite.
        directions: (K, d), of unit length; drawn uniformly on the sphere if left out.
        generator: what draws them; needed where ``directions`` are left out.

    Raises:
        ValueError: for shapes that do not match, p < 1, or neither directions nor a generator.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not len(x) or not len(y):
        raise ValueError(f"x and y must be (N, d) and (M, d), got {tuple(x.shape)} and {tuple(y.shape)}")
    if not (x.is_floating_point() and y.is_floating_point()):
        raise ValueError(f"x and y must be of floating point, got {x.dtype} and {y.dtype}")
    if not 1 <= p < float("inf"):
        raise ValueError(f"p must be at least 1 and finite, got {p}")
    if directions is None:
        if generator is None:
            raise ValueError("give either directions or a generator to draw them with")
        if n_projections < 1:
            raise ValueError(f"n_projections must be at least 1, got {n_projections}")
        directions = random_directions(n_projections, x.shape[1], generator, x.device)
    if directions.ndim != 2 or directions.shape[1] != x.shape[1] or not len(directions):
        raise ValueError(f"directions must be (K, {x.shape[1]}), got {tuple(directions.shape)}")
    return sliced_power(x, y, directions.to(x), p).pow(1 / p)

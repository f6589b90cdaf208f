r"""The sliced Wasserstein distance between two batches.

.. math:: SW_p(x, y) = \Big( \frac{1}{K} \sum_{k=1}^K
          W_p^p(\langle x, \theta_k \rangle, \langle y, \theta_k \rangle) \Big)^{1/p},
          \qquad \theta_k \in S^{d-1}

In one dimension the optimal plan is monotone: sort both batches and pair them. With N = M points
the distance is the mean of :math:`|x_{(i)} - y_{(i)}|^p`. With N != M the two quantile functions
are step functions, and the integral of their difference is a finite sum over the union of their
jumps.

The gradient depends only on the order of the projections. It is computed in the forward pass, one
chunk of directions at a time. The backward pass needs the gradient alone, (N, d), so no tensor of
size N K is ever kept.

References:
    | Wasserstein barycenter and its application to texture mixing (Rabin et al., 2011)
    | Sliced and Radon Wasserstein barycenters of measures (Bonneel et al., 2015)
    | https://doi.org/10.1007/s10851-014-0506-3
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .directions import make_directions
from .sorting import sort_rows

Kind = Literal["gaussian", "orthogonal"]


def sliced_wasserstein(
    x: Tensor,
    y: Tensor,
    *,
    n_projections: int = 512,
    p: float = 2,
    directions: Tensor | Kind | None = None,
    generator: torch.Generator | None = None,
    chunk: int | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """SW_p between two batches of points with equal weights, in the units of the points.

    Arguments:
        x, y: the batches, (N, d) and (M, d); N and M may differ. Differentiable once in both.
        n_projections: K, the number of random directions; unused if ``directions`` is a tensor.
        p: the order, at least 1 and finite.
        directions: directions (K, d) of unit length, also differentiable; or how to draw them:
            ``gaussian`` (the default: uniform on the sphere) or ``orthogonal`` (uniform, and
            orthogonal within each d of them).
        generator: draws the directions; required unless ``directions`` is a tensor.
        chunk: the number of directions projected at once, by default all; memory is of order
            N chunk + (N + K) d.
        dtype: the dtype of the projections, for instance ``torch.bfloat16``; by default that of
            ``x``.

    Raises:
        ValueError: if shapes do not match, p < 1, or neither directions nor a generator are given.
    """
    _check_arguments(x, y, p, chunk)
    if not isinstance(directions, Tensor):
        if generator is None:
            raise ValueError("give either directions or a generator that draws them")
        if n_projections < 1:
            raise ValueError(f"n_projections must be at least 1, got {n_projections}")
        directions = make_directions(
            directions or "gaussian", n_projections, x.shape[1], generator, x.device
        )
    if directions.ndim != 2 or directions.shape[1] != x.shape[1] or not len(directions):
        raise ValueError(f"directions must be (K, {x.shape[1]}), got {tuple(directions.shape)}")
    return sliced_power(x, y, directions.to(x), p, chunk=chunk, dtype=dtype).pow(1 / p)


def _check_arguments(x: Tensor, y: Tensor, p: float, chunk: int | None) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not len(x) or not len(y):
        raise ValueError(
            f"x and y must be (N, d) and (M, d), got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if not (x.is_floating_point() and y.is_floating_point()):
        raise ValueError(f"x and y must be of floating point, got {x.dtype} and {y.dtype}")
    if not 1 <= p < float("inf"):
        raise ValueError(f"p must be at least 1 and finite, got {p}")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")


def sliced_power(
    x: Tensor,
    y: Tensor,
    directions: Tensor,
    p: float = 2,
    *,
    chunk: int | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """SW_p^p of (N, d) and (M, d) along ``directions`` (K, d), a scalar.

    It is differentiable once in all three.
    """
    value: Tensor = _SlicedPower.apply(x, y, directions, p, chunk or len(directions), dtype)
    return value


class _SlicedPower(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        directions: Tensor,
        p: float,
        chunk: int,
        dtype: torch.dtype | None,
    ) -> Tensor:
        to_x, to_y, to_directions = needed = ctx.needs_input_grad[:3]
        by_x, by_y, by_directions = ctx.gradients = [
            torch.zeros_like(given) if wanted else None
            for given, wanted in zip((x, y, directions), needed, strict=True)
        ]
        projected = dtype or x.dtype
        cast_x, cast_y, total = x.to(projected), y.to(projected), x.new_zeros(())
        for start in range(0, len(directions), chunk):
            here = slice(start, start + chunk)
            theta = directions[here].to(projected)
            u, of_u = sort_rows(theta @ cast_x.T, to_x or to_directions)
            v, of_v = sort_rows(theta @ cast_y.T, to_y or to_directions)
            value, slope_u, slope_v = _transport(u, v, p, any(needed))
            total = total + value.to(x.dtype) / len(directions)
            _add_gradients(slope_u, of_u, x, directions, here, by_x, by_directions)
            _add_gradients(slope_v, of_v, y, directions, here, by_y, by_directions)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if g is None else above * g for g in ctx.gradients), None, None, None)


def _add_gradients(
    slope: Tensor,
    order: Tensor | None,
    points: Tensor,
    directions: Tensor,
    here: slice,
    by_points: Tensor | None,
    by_directions: Tensor | None,
) -> None:
    """Add what one chunk of directions, ``here``, gives to the gradients of one batch.

    Arguments:
        slope: the derivative in the sorted projections, (K, N).
        order: the index of the point behind each slope, (K, N); None if no gradient is needed.
        by_points, by_directions: the gradients that are added to, if they are needed.
    """
    if order is None:
        return
    unsorted = torch.empty_like(slope).scatter_(1, order, slope)
    unsorted = unsorted.to(points.dtype) / len(directions)
    if by_points is not None:
        by_points.addmm_(unsorted.T, directions[here])
    if by_directions is not None:
        by_directions[here] += unsorted @ points


def _transport(u: Tensor, v: Tensor, p: float, slopes: bool) -> tuple[Tensor, Tensor, Tensor]:
    """W_p^p of sorted rows u (K, N) and v (K, M), summed over rows, and its slopes in u and v.

    Without ``slopes`` the last two are placeholders.
    """
    n, m = u.shape[1], v.shape[1]
    if n == m:
        gap = u - v
        value = _power(gap, p).sum(dtype=_wide(u)) / n
        slope = _slope(gap, p) / n if slopes else gap
        return value, slope, -slope if slopes else gap
    # The jumps of both quantile functions, in units of 1 / (n m) to be whole numbers.
    jumps = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    starts = torch.cat([jumps.new_zeros(1), jumps[:-1]])
    weights = ((jumps - starts).to(_wide(u)) / (n * m)).to(u.device)
    of_u, of_v = (starts // m).to(u.device), (starts // n).to(u.device)
    gap = u[:, of_u] - v[:, of_v]
    value = (_power(gap, p).to(weights) @ weights).sum()
    if not slopes:
        return value, gap, gap
    slope = _slope(gap, p) * weights.to(u.dtype)
    return (
        value,
        torch.zeros_like(u).index_add_(1, of_u, slope),
        -torch.zeros_like(v).index_add_(1, of_v, slope),
    )


def _wide(u: Tensor) -> torch.dtype:
    """The dtype of sums: at least float32."""
    return torch.promote_types(u.dtype, torch.float32)


def _power(gap: Tensor, p: float) -> Tensor:
    return gap.square() if p == 2 else gap.abs() if p == 1 else gap.abs().pow(p)


def _slope(gap: Tensor, p: float) -> Tensor:
    """The derivative of |gap|^p."""
    return 2 * gap if p == 2 else gap.sign() if p == 1 else p * gap.abs().pow(p - 1) * gap.sign()


def ascend(
    x: Tensor, y: Tensor, directions: Tensor, steps: int = 5, rate: float = 1.0, p: float = 2
) -> Tensor:
    """Directions (K, d) that separate x (N, d) and y (M, d) better than the given ones do.

    They are found by ``steps`` of gradient ascent on the sphere. Step i moves each direction by
    ``rate / i`` along its normalised gradient.
    """
    x, y = x.detach(), y.detach()
    for step in range(steps):
        theta = directions.detach().requires_grad_()
        (slope,) = torch.autograd.grad(sliced_power(x, y, theta, p), theta)
        directions = F.normalize(
            theta.detach() + rate / (step + 1) * F.normalize(slope, dim=1), dim=1
        )
    return directions

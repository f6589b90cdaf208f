r"""The sliced Wasserstein distance between two batches.

.. math:: SW_p(x, y) = \Big( \frac{1}{K} \sum_{k=1}^K W_p^p(\langle x, \theta_k \rangle, \langle y, \theta_k \rangle)
          \Big)^{1/p}, \qquad \theta_k \in S^{d-1}

In one dimension the optimal plan is monotone: sort both sides and pair them. With N = M points that
is the mean of :math:`|x_{(i)} - y_{(i)}|^p`; with N != M the two quantile functions are steps, and
the integral of their difference is a finite sum over the union of their jumps.

The gradient needs nothing but the order of the projections, so it is computed on the way there, a
chunk of directions at a time: what is kept for the backward pass is the gradient itself, (N, d),
and never anything of size N K.

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
        n_projections: K, how many random directions; has no effect where ``directions`` is a
            tensor.
        p: the order, at least 1 and finite.
        directions: (K, d), of unit length, differentiable too; or how to draw them: ``gaussian``
            (the default, uniform on the sphere) or ``orthogonal`` (uniform too, and orthogonal
            among each d).
        generator: what draws them; needed where ``directions`` is no tensor.
        chunk: directions at once; memory is of order N chunk + (N + K) d. All of them if left out.
        dtype: of the projections, ``torch.bfloat16`` for instance; that of ``x`` if left out.

    Raises:
        ValueError: for shapes that do not match, p < 1, or neither directions nor a generator.
    """
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
    if not isinstance(directions, Tensor):
        if generator is None:
            raise ValueError("give either directions or a generator to draw them with")
        if n_projections < 1:
            raise ValueError(f"n_projections must be at least 1, got {n_projections}")
        directions = make_directions(
            directions or "gaussian", n_projections, x.shape[1], generator, x.device
        )
    if directions.ndim != 2 or directions.shape[1] != x.shape[1] or not len(directions):
        raise ValueError(f"directions must be (K, {x.shape[1]}), got {tuple(directions.shape)}")
    return sliced_power(x, y, directions.to(x), p, chunk=chunk, dtype=dtype).pow(1 / p)


def sliced_power(
    x: Tensor,
    y: Tensor,
    directions: Tensor,
    p: float = 2,
    *,
    chunk: int | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """SW_p^p of (N, d) and (M, d) along ``directions`` (K, d): a scalar, differentiable once in all
    three.
    """
    return _SlicedPower.apply(x, y, directions, p, chunk or len(directions), dtype)


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
        to_x, to_y, to_directions = ctx.needs_input_grad[:3]
        ordered = to_x or to_y or to_directions
        by_x = torch.zeros_like(x) if to_x else None
        by_y = torch.zeros_like(y) if to_y else None
        by_directions = torch.zeros_like(directions) if to_directions else None
        given, points, total = dtype or x.dtype, (x, y), x.new_zeros(())
        cast = [z.to(given) for z in points]
        for start in range(0, len(directions), chunk):
            theta = directions[start : start + chunk].to(given)
            (u, of_u), (v, of_v) = (
                sort_rows(theta @ z.T, ordered and (own or to_directions))
                for z, own in zip(cast, (to_x, to_y), strict=True)
            )
            value, slope_u, slope_v = _transport(u, v, p, ordered)
            total = total + value.to(x.dtype) / len(directions)
            if not ordered:
                continue
            # each slope goes back to the point that it belongs to, before sorting
            for slope, order, z, mine in ((slope_u, of_u, x, by_x), (slope_v, of_v, y, by_y)):
                if order is None:
                    continue
                back = torch.empty_like(slope).scatter_(1, order, slope).to(x.dtype) / len(
                    directions
                )
                if mine is not None:
                    mine.addmm_(back.T, directions[start : start + chunk])
                if by_directions is not None:
                    by_directions[start : start + chunk] += back @ z
        ctx.gradients = by_x, by_y, by_directions
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        return (*(None if g is None else above * g for g in ctx.gradients), None, None, None)


def _transport(u: Tensor, v: Tensor, p: float, slopes: bool) -> tuple[Tensor, Tensor, Tensor]:
    """W_p^p of sorted rows u (K, N) and v (K, M), summed over rows, and its slopes in u and v."""
    n, m = u.shape[1], v.shape[1]
    if n == m:
        gap = u - v
        value = _power(gap, p).sum(dtype=_wide(u)) / n
        slope = _slope(gap, p) / n if slopes else gap
        return value, slope, -slope if slopes else gap
    # The jumps of both quantile functions in units of 1 / (n m), where they are whole numbers.
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
    """What sums are taken in: never less than float32."""
    return torch.promote_types(u.dtype, torch.float32)


def _power(gap: Tensor, p: float) -> Tensor:
    return gap.square() if p == 2 else gap.abs() if p == 1 else gap.abs().pow(p)


def _slope(gap: Tensor, p: float) -> Tensor:
    """The derivative of |gap|^p."""
    return 2 * gap if p == 2 else gap.sign() if p == 1 else p * gap.abs().pow(p - 1) * gap.sign()


def ascend(
    x: Tensor, y: Tensor, directions: Tensor, steps: int = 5, rate: float = 1.0, p: float = 2
) -> Tensor:
    """Directions (K, d) along which (N, d) and (M, d) lie further apart than along the given ones.

    ``steps`` of gradient ascent on the sphere: each moves by ``rate`` along its gradient, ever
    less.
    """
    x, y = x.detach(), y.detach()
    for step in range(steps):
        theta = directions.detach().requires_grad_()
        (slope,) = torch.autograd.grad(sliced_power(x, y, theta, p), theta)
        directions = F.normalize(
            theta.detach() + rate / (step + 1) * F.normalize(slope, dim=1), dim=1
        )
    return directions

"""Fast, the loss: ours beside POT's on the device, and its sort beside the memory's bandwidth."""

from collections.abc import Callable

import ot
import torch
from priorbench_ot import sliced_wasserstein
from torch import Tensor

from .clocks import seconds
from .section import Figures, Section, require

TIMES = 10  # POT's time over ours that is asked for on a GPU, at N = 10,000


def run(section: Section) -> None:
    """Every size."""
    for n, d in section.size.losses:
        section.check(f"loss N={n} d={d}", loss, section, n, d, needs=5.0)
    n = section.size.losses[-1][0]
    section.check(f"sort N={n}", sort, section, n)


def loss(section: Section, n: int, d: int) -> Figures:
    """Value and gradient, both ways."""
    k, device = section.size.projections, section.device
    generator = torch.Generator(device).manual_seed(0)
    x, y = (torch.randn(n, d, generator=generator, device=device) for _ in range(2))
    theta = torch.nn.functional.normalize(
        torch.randn(k, d, generator=generator, device=device), dim=1
    )
    columns = theta.T.contiguous()

    def theirs(points: Tensor) -> Tensor:
        found: Tensor = ot.sliced_wasserstein_distance(points, y, projections=columns, p=2)
        return found

    def ours(points: Tensor) -> Tensor:
        return sliced_wasserstein(points, y, directions=theta, p=2)

    (value, slope), (pot_value, pot_slope) = (_both(program, x) for program in (ours, theirs))
    spent = seconds(lambda: _both(ours, x), device, section.size.repeats)
    pot_spent = seconds(lambda: _both(theirs, x), device, section.size.repeats)
    figures = {
        "ours_ms": 1000 * spent,
        "pot_ms": 1000 * pot_spent,
        "ratio": pot_spent / spent,
        "values_differ_by": abs(value.item() - pot_value.item()) / pot_value.item(),
        "gradients_differ_by": float((slope - pot_slope).norm() / pot_slope.norm()),
    }
    # POT sums weights in float32, which is too coarse for the weights of 100,000 points.
    if n <= 10_000:
        require(figures["values_differ_by"] < 1e-4, "another value than POT's", figures)
        require(figures["gradients_differ_by"] < 1e-2, "another gradient than POT's", figures)
    asked = section.cuda and n == 10_000
    require(not asked or figures["ratio"] >= TIMES, f"less than {TIMES} times POT", figures)
    return figures


def _both(program: Callable[[Tensor], Tensor], start: Tensor) -> tuple[Tensor, Tensor]:
    """The value of ``program`` and its gradient."""
    points = start.detach().requires_grad_()
    value = program(points)
    (slope,) = torch.autograd.grad(value, points)
    return value.detach(), slope


def sort(section: Section, n: int) -> Figures:
    """One sort of (K, N) with its order, beside the time in which memory could move that much."""
    k, device = section.size.projections, section.device
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(k, n, generator=generator, device=device)
    copied = torch.empty_like(x)
    spent = seconds(lambda: x.sort(dim=1), device, section.size.repeats)
    copy = seconds(lambda: copied.copy_(x), device, section.size.repeats)
    # A copy reads and writes 4 bytes a number; a sort reads 4, and writes 4 and an order of 8.
    least = copy * 16 / 8
    return {
        "sort_ms": 1000 * spent,
        "copy_ms": 1000 * copy,
        "bandwidth_gb_per_s": 8 * k * n / copy / 1e9,
        "sort_over_limit": spent / least,
    }

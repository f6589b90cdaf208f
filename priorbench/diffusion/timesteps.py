r"""Times of a chain that are chosen, where :func:`~.solvers.respace` spaces them uniformly.

``quadratic_times`` are spaced as in appendix D of DDIM (Song et al., 2021,
https://arxiv.org/abs/2010.02502): t_k is t_trunc (k / K)^2, rounded.

Tuned times are fitted to the frozen model. A teacher runs by DDIM over many times
tau_1 < ... < tau_M = t_trunc, and at each it predicts :math:`D_m = \hat x_0(x_{\tau_m}, \tau_m)`. A
step from tau_i to tau_j moves along :math:`D_i` all the way. What that neglects is

.. math:: c_{ij} = \int_{\sigma_j}^{\sigma_i} \mathbb{E} \| D(\sigma) - D_i \|^2
                   \, \sigma^{-3} \, d\sigma, \qquad
          \sigma_m^2 = (1 - \bar\alpha_{\tau_m}) / \bar\alpha_{\tau_m}.

Summed over the steps of a chain, it bounds the KL divergence that few steps cost (Align Your Steps,
Sabour et al., 2024, https://arxiv.org/abs/2404.14507). Since it is a sum, dynamic programming finds
the K times of least cost exactly, as it does in GITS (Chen et al., 2024,
https://arxiv.org/abs/2405.11326), where a cost is a distance to the teacher's next state.

The first cost was taken, and not the second, by FID on validation images of digits: it was better
or as good with 2, 3 and 5 steps, and has no coefficient for later steps to be tuned. It depends on
tau_1, where the integral begins: a teacher of 100 times, with half of that tau_1, was worse.
"""

import torch
from torch import Tensor

from .frozen import FrozenDiffusion
from .process import scheduler_index
from .solvers import limited, respace, respaced_alpha_bar, to_x_0

TEACHER = 50  # times of the teacher, or all that there are
LARGEST_TUNED = 32  # steps of the longest chain with tuned times


def quadratic_times(t_trunc: int, steps: int) -> list[int]:
    """The times t_1 < ... < t_K = ``t_trunc`` of K = ``steps`` steps that are spaced quadratically.

    Where rounding would let two of them coincide, the later one is 1 more than the earlier.
    """
    times: list[int] = []
    for k in range(1, steps + 1):
        times.append(max(round(t_trunc * (k / steps) ** 2), times[-1] + 1 if times else 1))
    return times


def tuned_times(costs: Tensor, t_trunc: int) -> Tensor:
    """The times of least cost for each number of steps, up to ``LARGEST_TUNED``.

    Arguments:
        costs: those of :func:`step_costs`, or a mean or sum of several.

    Returns:
        Whole numbers, with t_1 < ... < t_K = ``t_trunc`` and then zeros in row K - 1.
    """
    times, largest = _teacher_times(t_trunc), min(LARGEST_TUNED, len(costs) - 1)
    found = torch.zeros(largest, largest, dtype=torch.int64)
    for row, path in zip(found, cheapest(costs, largest), strict=True):
        row[: len(path)] = torch.tensor([times[i - 1] for i in path])
    return found


def step_costs(diffusion: FrozenDiffusion, x_t: Tensor, t_trunc: int) -> Tensor:
    """c_ij for i, j = 0..M, where index 0 stands for x_0; infinite where i <= j.

    Arguments:
        x_t: where the teacher starts, at ``t_trunc``, (N, C, H, W). The costs are means over it.

    Returns:
        (M + 1, M + 1), float64, on the CPU.
    """
    times = _teacher_times(t_trunc)
    alpha_bar = respaced_alpha_bar(diffusion.process, times)[1:]
    return neglected(teacher(diffusion, x_t, times), alpha_bar / (1 - alpha_bar))


def _teacher_times(t_trunc: int) -> list[int]:
    return respace(t_trunc, min(TEACHER, t_trunc))


@torch.no_grad()
def teacher(diffusion: FrozenDiffusion, x_t: Tensor, times: list[int]) -> Tensor:
    """The predicted x_0 at each of ``times``, along the DDIM chain over all of them.

    Arguments:
        x_t: the start at t_trunc = ``times[-1]``, (N, C, H, W).

    Returns:
        D_1, ..., D_M, limited as the model's folder says, shape (M, N, C, H, W).
    """
    alpha_bar = respaced_alpha_bar(diffusion.process, times)
    signal, sigma = alpha_bar.sqrt().tolist(), (1 - alpha_bar).sqrt().tolist()
    kind = diffusion.config.get("prediction_type", "epsilon")
    x, found = x_t.to(diffusion.device), list[Tensor]()
    for m in range(len(times), 0, -1):
        output = diffusion.predict(x, scheduler_index(times[m - 1]))[:, : x.shape[1]]
        x_0 = to_x_0(output, kind, x, float(alpha_bar[m]))
        noise = (x - signal[m] * x_0) / sigma[m]  # that of the unlimited x_0, as in diffusers
        found.append(limited(x_0, diffusion.config))
        x = signal[m - 1] * found[-1] + sigma[m - 1] * noise
    return torch.stack(found[::-1])


def neglected(x_0: Tensor, snr: Tensor) -> Tensor:
    """The c_ij of :func:`step_costs`, by the trapezoidal rule.

    The integral begins at tau_1, the least noise that the teacher sees: from 0 it would diverge.

    Arguments:
        x_0: the teacher's predictions D_1, ..., D_M, (M, N, C, H, W).
        snr: sigma^-2 at tau_1 < ... < tau_M, (M,), float64.
    """
    flat, width = x_0.flatten(2), (snr[:-1] - snr[1:]) / 2  # sigma^-3 d sigma = -d(sigma^-2) / 2
    costs = torch.full((len(flat) + 1, len(flat) + 1), torch.inf, dtype=torch.float64)
    for i in range(1, len(flat) + 1):
        missed = (flat[:i] - flat[i - 1]).square().sum(2).mean(1).double().cpu()
        parts = width[: i - 1] * (missed[:-1] + missed[1:]) / 2
        costs[i, 1:i] = parts.flip(0).cumsum(0).flip(0)
        costs[i, 0] = parts.sum()
    return costs


def cheapest(costs: Tensor, largest: int) -> list[list[int]]:
    """For each number of steps K = 1..``largest``, the indices i_1 < ... < i_K = M of least cost.

    The cost of K steps is ``costs[i_K, i_{K-1}] + ... + costs[i_2, i_1] + costs[i_1, 0]``.

    Arguments:
        costs: (M + 1, M + 1), infinite where there is no step; ``largest`` is at most M.
    """
    least = torch.full((len(costs),), torch.inf, dtype=costs.dtype)  # from each index down to 0
    least[0] = 0
    below: list[Tensor] = []  # for each K, the index that follows each index
    for _ in range(largest):
        least, choice = (costs + least).min(1)
        below.append(choice)
    found = []
    for steps in range(1, largest + 1):
        path = [len(costs) - 1]
        for choice in below[:steps][::-1]:
            path.append(int(choice[path[-1]]))
        found.append(path[-2::-1])
    return found

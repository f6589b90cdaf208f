r"""The forward process, and the one place where the meaning of ``t`` is fixed.

``t`` is the number of noising steps applied: x_0 is clean, x_T the last,

.. math:: q(x_t \mid x_{t-1}) = \mathcal{N}(\sqrt{1 - \beta_t} \, x_{t-1}, \beta_t I), \qquad
          q(x_t \mid x_0) = \mathcal{N}(\sqrt{\bar\alpha_t} \, x_0, (1 - \bar\alpha_t) I)

with :math:`\bar\alpha_t = \prod_{s \le t} (1 - \beta_s)` and :math:`\bar\alpha_0 = 1`. A
``diffusers`` scheduler, and the time embedding of its network, count from 0. So **the scheduler's
index of t is t - 1**. Only this module and :mod:`priorbench.diffusion.solvers` need to know that.

Reference: Denoising Diffusion Probabilistic Models (Ho et al., 2020),
https://arxiv.org/abs/2006.11239
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import UserError

Time = TypeVar("Time", int, Tensor)


def scheduler_index(t: Time) -> Time:
    """The index that a ``diffusers`` scheduler and its network have for ``t``, 1 <= t <= T."""
    return t - 1


class CleanGuess(Tensor):
    """x_0 as a prior guessed it, (N, C, H, W): a tensor from which no chain can start yet.

    :meth:`priorbench.FrozenDiffusion.diffuse` makes x_{t_trunc} of it, and ``denoise`` refuses it:
    the images that it would make look plausible and are wrong. What is computed from it, a part or
    a sum, is a clean guess too; ``x.as_subclass(torch.Tensor)`` is the plain tensor.
    """


def randn(
    shape: Sequence[int], generator: torch.Generator, device: torch.device | str | None = None
) -> Tensor:
    """Standard normal draws of ``shape``, float32, on ``device``.

    They are made on the device of ``generator`` and then moved. So a generator on the CPU gives the
    same numbers whatever ``device`` is.
    """
    draws = torch.randn(
        tuple(shape), generator=generator, device=generator.device, dtype=torch.float32
    )
    return draws.to(device or generator.device)


def generator_for(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A stream of random numbers for each (seed, purpose), independent of all others.

    All priors share it, so differences between them come from the priors.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed the global generators of the CPU and of ``device`` inside, and restore them after.

    Layers initialise and drop out by the global generator, so this makes their draws explicit.
    """
    device = torch.device(device)
    accelerated = device.type != "cpu"
    index = device.index or 0
    with torch.random.fork_rng(
        devices=[index] if accelerated else [], device_type=device.type if accelerated else "cuda"
    ):
        torch.default_generator.manual_seed(seed)
        if accelerated:
            with torch.accelerator.device_index(index):
                torch.get_device_module(device).manual_seed(seed)
        yield


class ForwardProcess:
    """q(x_t | x_0) for t = 0..T.

    Arguments:
        alpha_bar: the cumulative products of 1 - beta_t for t = 1..T, shape (T,); kept in float64.

    Raises:
        UserError: if alpha_bar does not fall at every step.
    """

    def __init__(self, alpha_bar: Tensor) -> None:
        values = alpha_bar.detach().to("cpu", torch.float64)
        #: alpha_bar[t] for t = 0..T, shape (T + 1,), float64, with alpha_bar[0] = 1.
        self.alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), values])
        if values.ndim != 1 or len(values) == 0 or not bool((self.alpha_bar.diff() < 0).all()):
            raise UserError(
                "the noise schedule must have alpha_bar fall at every step from 1 towards 0"
            )

    @classmethod
    def from_betas(cls, betas: Tensor) -> "ForwardProcess":
        """The process with variances ``betas``, shape (T,), beta_t at index t - 1."""
        return cls(torch.cumprod(1 - betas.to(torch.float64), dim=0))

    @property
    def T(self) -> int:
        """The number of noising steps."""
        return len(self.alpha_bar) - 1

    def check(self, t: int, name: str = "t") -> int:
        """``t`` itself.

        Raises:
            UserError: calling it ``name``, if it is no whole number in 1..T.
        """
        if isinstance(t, bool) or int(t) != t or not 1 <= t <= self.T:
            raise UserError(f"{name} must be a whole number from 1 to T = {self.T}, got {t}")
        return int(t)

    def coefficients(self, t: int) -> tuple[float, float]:
        """(sqrt(alpha_bar_t), sqrt(1 - alpha_bar_t))."""
        a = self.alpha_bar[t]
        return float(a.sqrt()), float((1 - a).sqrt())

    def diffuse(self, x_0: Tensor, t: int, generator: torch.Generator) -> Tensor:
        """A draw of q(x_t | x_0) in closed form: (N, C, H, W), differentiable in ``x_0``."""
        signal, noise = self.coefficients(t)
        x_0 = x_0.as_subclass(Tensor)
        return signal * x_0 + noise * randn(x_0.shape, generator, x_0.device)

    def step(self, x: Tensor, t: int, generator: torch.Generator) -> Tensor:
        """A draw of q(x_t | x_{t-1}), (N, C, H, W): one noising step, the t-th."""
        kept = float(self.alpha_bar[t] / self.alpha_bar[t - 1])
        signal: float = kept**0.5
        noise: float = (1 - kept) ** 0.5
        return signal * x + noise * randn(x.shape, generator, x.device)

"""Small networks for any (C, H, W), odd sizes and three channels included: what the built-in priors
are made of.

Below 16 pixels a side a multilayer perceptron sees the whole image at once; from there on they are
convolutional.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .diffusion.process import randn
from .prior import FitRun

SMALL = 16  # pixels a side below which convolution gains nothing over a perceptron


def perceptron(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers of the given sizes with SiLU between them."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        layers += [nn.SiLU()] * (i > 0) + [nn.Linear(a, b)]
    return nn.Sequential(*layers)


def halvings(height: int, width: int) -> list[tuple[int, int]]:
    """The sizes from (height, width) down, each half the last rounded up, until a side is at most
    7.
    """
    sizes = [(height, width)]
    while min(sizes[-1]) > 7:
        h, w = sizes[-1]
        sizes.append((math.ceil(h / 2), math.ceil(w / 2)))
    return sizes


def cosine(
    optimizer: torch.optim.Optimizer, run: FitRun, own: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate falls to 0 along half a cosine over the fit: over ``own`` steps, or what
    the budget gives.
    """
    if run.deadline is None:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, run.budget or own)
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda _: (1 + math.cos(math.pi * run.share)) / 2
    )


class Upsample(nn.Module):
    """Nearest-neighbour interpolation to an exact size."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=self.size)


def decoder(
    shape: tuple[int, int, int], latent: int, width: int = 512, depth: int = 3
) -> nn.Sequential:
    """A network (N, latent) -> (N, C, H, W); ``depth`` hidden layers of ``width`` where it is a
    perceptron.
    """
    channels, height, width_px = shape
    if min(height, width_px) < SMALL:
        sizes = [latent, *[width] * depth, math.prod(shape)]
        return nn.Sequential(*perceptron(sizes), nn.Unflatten(1, shape))
    sizes_px = halvings(height, width_px)[::-1]
    planes = [max(width // 2 ** (i + 2), 16) for i in range(len(sizes_px))]
    h, w = sizes_px[0]
    layers: list[nn.Module] = [
        nn.Linear(latent, planes[0] * h * w),
        nn.Unflatten(1, (planes[0], h, w)),
    ]
    for size, a, b in zip(sizes_px[1:], planes[:-1], planes[1:], strict=True):
        layers += [
            nn.SiLU(),
            Upsample(size),
            nn.Conv2d(a, b, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(b, b, 3, padding=1),
        ]
    return nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(planes[-1], channels, 3, padding=1))


def encoder(
    shape: tuple[int, int, int], outputs: int, width: int = 512, depth: int = 3
) -> nn.Sequential:
    """A network (N, C, H, W) -> (N, outputs), :func:`decoder`'s mirror image."""
    channels, height, width_px = shape
    if min(height, width_px) < SMALL:
        return nn.Sequential(
            nn.Flatten(), *perceptron([math.prod(shape), *[width] * depth, outputs])
        )
    sizes_px = halvings(height, width_px)
    planes = [max(width // 2 ** (i + 2), 16) for i in range(len(sizes_px))][::-1]
    layers: list[nn.Module] = [nn.Conv2d(channels, planes[0], 3, padding=1), nn.SiLU()]
    for a, b in zip(planes[:-1], planes[1:], strict=True):
        layers += [
            nn.Conv2d(a, b, 3, padding=1, stride=2),
            nn.SiLU(),
            nn.Conv2d(b, b, 3, padding=1),
            nn.SiLU(),
        ]
    h, w = sizes_px[-1]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(planes[-1] * h * w, outputs))


class EMA:
    """An exponential moving average of parameters, with the usual warm-up min(decay, (1 + n) / (10
    + n)).

    Inside ``fit``: ``average = EMA(self.parameters())``, ``average.update()`` after each step,
    ``average.copy()`` at the
    end. It is no module, so that only one copy of the weights is saved.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float = 0.999) -> None:
        self.live: list[Tensor] = list(parameters)
        self.kept = [p.detach().clone() for p in self.live]
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are now."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.kept, self.live, weight)

    @torch.no_grad()
    def copy(self) -> None:
        """Put the average in the place of the parameters."""
        for parameter, average in zip(self.live, self.kept, strict=True):
            parameter.copy_(average)


class Pushforward(nn.Module):
    r"""A map of standard normal draws to images, :math:`f(z, \epsilon) = g(z) + s \, \epsilon`.

    With ``noisy`` the scale s is learned: x_{t_trunc} has full support, and a narrow latent could
    not give it that. Without it f = g, for clean images x_0.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent: int,
        noisy: bool,
        width: int = 512,
        depth: int = 3,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.latent = latent
        self.mean = decoder(shape, latent, width, depth)
        self.log_scale = nn.Parameter(torch.zeros(())) if noisy else None

    def forward(self, n: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """``n`` images, (n, C, H, W)."""
        x = self.mean(randn((n, self.latent), generator, device))
        if self.log_scale is not None:
            x = x + self.log_scale.exp() * randn(x.shape, generator, device)
        return x

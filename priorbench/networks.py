"""Small networks for any (C, H, W), of which the built-in priors are made.

Below 16 pixels a side they are multilayer perceptrons, which see the whole image at once. From 16
pixels on they are convolutional.
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
    """The sizes from (height, width) down: each is half the last, until a side is at most 7.

    Odd sizes are rounded up.
    """
    sizes = [(height, width)]
    while min(sizes[-1]) > 7:
        h, w = sizes[-1]
        sizes.append((math.ceil(h / 2), math.ceil(w / 2)))
    return sizes


def cosine(
    optimizer: torch.optim.Optimizer, run: FitRun, own: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """A learning rate that falls to 0 along half a cosine over the fit.

    The fit takes ``own`` steps, or the steps or seconds of the budget of ``run``.
    """
    if run.deadline is None:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, run.budget or own)
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda _: (1 + math.cos(math.pi * run.share)) / 2
    )


class Upsample(nn.Module):
    """Nearest-neighbour interpolation of (N, C, ...) to an exact size (height, width)."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """``x`` in the new size."""
        return F.interpolate(x, size=self.size)


def decoder(
    shape: tuple[int, int, int], latent: int, width: int = 512, depth: int = 3
) -> nn.Sequential:
    """A network (N, latent) -> (N, C, H, W) for images of ``shape`` (C, H, W).

    Arguments:
        width: the width of the hidden layers of a perceptron. A convolutional network has a quarter
            of it as channels at its coarsest level, and half as many at each finer level, but never
            fewer than 16.
        depth: the number of hidden layers of a perceptron.
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
    """A network (N, C, H, W) -> (N, outputs): the mirror image of :func:`decoder`."""
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
    """An exponential moving average of parameters.

    Its decay after n updates is min(decay, (1 + n) / (10 + n)), the usual warm-up. Inside ``fit``,
    make ``average = EMA(self.parameters())``, call ``average.update()`` after each step and
    ``average.copy()`` at the end. It is no module, so that only one copy of the weights is saved.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float = 0.999) -> None:
        self.live: list[Tensor] = list(parameters)
        self.kept = [p.detach().clone() for p in self.live]
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the present parameters."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.kept, self.live, weight)

    @torch.no_grad()
    def copy(self) -> None:
        """Overwrite the parameters with the average."""
        for parameter, average in zip(self.live, self.kept, strict=True):
            parameter.copy_(average)


class Pushforward(nn.Module):
    r"""A map of standard normal draws to images, :math:`f(z, \epsilon) = g(z) + s \, \epsilon`.

    With ``noisy`` the scale s is learned: x_{t_trunc} has full support, which a narrow latent alone
    could not give it. Without ``noisy`` f = g, for clean images x_0.

    Arguments:
        shape: (C, H, W) of the images.
        latent: the dimension of z.
        width: see :func:`decoder`, which makes g.
        depth: see :func:`decoder`.
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
        x: Tensor = self.mean(randn((n, self.latent), generator, device))
        if self.log_scale is not None:
            x = x + self.log_scale.exp() * randn(x.shape, generator, device)
        return x

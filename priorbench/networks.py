"""Small networks for any (C, H, W), of which the built-in priors are made.

Below 32 pixels a side they are multilayer perceptrons: at 28x28 on one thread of a processor they
learn more in a minute than strided convolutions do (docs/rivals.md). From 32 pixels on they are
strided convolutions, as in DCGAN (Radford et al., ICLR 2016, https://arxiv.org/abs/1511.06434) but
without batch normalisation.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from .diffusion.process import randn
from .prior import FitRun

SMALL = 32  # pixels a side below which convolution gains nothing over a perceptron


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
    optimizer: torch.optim.Optimizer, run: FitRun, own: int, full: int | None = None
) -> torch.optim.lr_scheduler.LRScheduler:
    """A learning rate that falls to 0 along half a cosine over the fit.

    The fit takes ``own`` steps, or the share, steps or seconds of the budget of ``run``.

    Arguments:
        full: the steps of a fit that begins with the full rate. A longer one begins lower, by the
            root of how many times longer it is: what a short fit needs is too much for a long one.
    """

    def start(steps: int) -> float:
        return 1.0 if full is None else math.sqrt(full / max(full, steps))

    if run.deadline is None:
        steps = run.budget or max(round(own * run.own_share), 1)
        for group in optimizer.param_groups:
            group["lr"] *= start(steps)
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda _: start(run.total) * (1 + math.cos(math.pi * run.share)) / 2
    )


class ChannelsLast(nn.Module):
    """Images (N, C, H, W) in the memory layout in which convolutions are fastest.

    The weights keep their layout, so that those that are loaded round as those that were saved.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``x`` itself, laid out as (N, H, W, C)."""
        return x.contiguous(memory_format=torch.channels_last)


def _planes(sizes: Sequence[tuple[int, int]], width: int) -> list[int]:
    """The channels of a convolutional network at each of ``sizes``, from the full one down."""
    return [max(width // 2 ** (i + 2), 16) for i in range(len(sizes))][::-1]


def _kernel(size: tuple[int, int]) -> tuple[int, int]:
    """The kernel with which a stride of 2 halves exactly ``size``, rounded up, or doubles to it."""
    height, width = size
    return 4 - height % 2, 4 - width % 2


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
    sizes_px = halvings(height, width_px)
    planes = _planes(sizes_px, width)
    coarsest = (planes[-1], *sizes_px[-1])
    layers: list[nn.Module] = [
        nn.Linear(latent, math.prod(coarsest)),
        nn.Unflatten(1, coarsest),
        ChannelsLast(),
        nn.SiLU(),
    ]
    for size, a, b in reversed(list(zip(sizes_px, planes[1:], planes, strict=False))):
        layers += [nn.ConvTranspose2d(a, b, _kernel(size), stride=2, padding=1), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(planes[0], channels, 3, padding=1))


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
    planes = _planes(sizes_px, width)
    layers: list[nn.Module] = [
        ChannelsLast(),
        nn.Conv2d(channels, planes[0], 3, padding=1),
        nn.SiLU(),
    ]
    for size, a, b in zip(sizes_px, planes, planes[1:], strict=False):
        layers += [nn.Conv2d(a, b, _kernel(size), stride=2, padding=1), nn.SiLU()]
    last = planes[-1] * math.prod(sizes_px[-1])
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(last, outputs))


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

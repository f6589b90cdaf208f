r"""The flow that takes draws of a mixture to the data.

.. math:: \frac{d y_\tau}{d \tau} = v_\phi(y_\tau, \tau, k), \qquad y_0 = s(z)

v minimises :math:`\mathbb{E} \lVert v_\phi((1 - \tau) y_0 + \tau y_1, \tau, k) - (y_1 - y_0)
\rVert^2` over pairs of a draw and an image, which are both of component k (:mod:`.pairing`), and
:math:`\tau \sim U(0, 1)`. Whatever the pairs, the flow of the best v takes the law of the draws to
that of the images (flow matching: Lipman et al., ICLR 2023, https://arxiv.org/abs/2210.02747).
"""

import math

import torch
from torch import Tensor, nn

from .pairing import Pairs

FREQUENCIES = 8


class Flow(nn.Module):
    """v, a perceptron with residual blocks; it is zero until it is trained.

    Attributes:
        scale: the deviation of each coordinate, (q,), that points are divided by as they are read.

    Arguments:
        coordinates: q, the dimension of the space.
        components: how many kinds of draws there are, at most.
        width, depth: of the blocks; how many there are.
    """

    scale: Tensor

    def __init__(self, coordinates: int, components: int, width: int, depth: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(coordinates))
        self.read = nn.Linear(coordinates + 2 * FREQUENCIES, width)
        self.kind = nn.Embedding(components, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
            )
            for _ in range(depth)
        )
        self.write = nn.Linear(width, coordinates)
        nn.init.normal_(self.kind.weight, std=0.02)
        for parameter in self.write.parameters():
            nn.init.zeros_(parameter)

    def forward(self, y: Tensor, tau: Tensor, k: Tensor) -> Tensor:
        """v (N, q) at points y (N, q), times tau (N, 1) and components k (N,)."""
        angles = tau * torch.arange(1, FREQUENCIES + 1, device=y.device) * (math.pi / 2)
        h = self.read(torch.cat([y / self.scale, angles.sin(), angles.cos()], dim=1)) + self.kind(k)
        for block in self.blocks:
            h = h + block(h)
        found: Tensor = self.write(nn.functional.silu(h))
        return found

    def loss(self, pairs: Pairs, generator: torch.Generator) -> Tensor:
        """The squared error of v along the lines between ``pairs``, a scalar."""
        start, end, k = pairs
        tau = torch.rand((len(k), 1), generator=generator, device=generator.device).to(start.device)
        error: Tensor = self(torch.lerp(start, end, tau), tau, k) - (end - start)
        return error.square().sum(1).mean()

    def carry(self, y: Tensor, k: Tensor, steps: int) -> Tensor:
        """Points y (N, q) at the end of the flow, after ``steps`` steps of Heun's method."""
        h = 1 / steps
        for step in range(steps):
            tau = torch.full_like(y[:, :1], step * h)
            slope = self(y, tau, k)
            y = y + h * (slope + self(y + h * slope, tau + h, k)) / 2
        return y

"""The networks and the data that are measured: random weights and made images, no downloads."""

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn

from priorbench import FrozenDiffusion
from priorbench.diffusion.process import seeded

SHAPE = (3, 32, 32)


def cifar_unet() -> UNet2DModel:
    """The configuration of google/ddpm-cifar10-32, 35.7 M parameters, with random weights."""
    return _unet(
        layers_per_block=2,
        block_out_channels=(128, 256, 256, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None,
        norm_eps=1e-6,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
    )


def small_unet() -> UNet2DModel:
    """A small network, with 3.3 M parameters."""
    return _levels((48, 96, 128), 16)


def tiny_unet() -> UNet2DModel:
    """A network that a CPU evaluates in milliseconds, and compiles in seconds."""
    return _levels((8,), 4, add_attention=False)


def _levels(channels: tuple[int, ...], groups: int, **others: Any) -> UNet2DModel:
    return _unet(
        layers_per_block=1,
        block_out_channels=channels,
        down_block_types=("DownBlock2D",) * len(channels),
        up_block_types=("UpBlock2D",) * len(channels),
        norm_num_groups=groups,
        **others,
    )


def _unet(**configuration: Any) -> UNet2DModel:
    with seeded(0):
        return UNet2DModel(sample_size=32, in_channels=3, out_channels=3, **configuration)


class GaussianDenoiser(nn.Module):
    r"""The optimal denoiser of x_0 ~ N(mu, s^2), pixel by pixel; it predicts the noise.

    .. math::
        E[x_0 | x_t] = \mu + \frac{\sqrt{a} s^2}{a s^2 + 1 - a} (x_t - \sqrt{a} \mu),
        \quad a = \bar\alpha_t
    """

    def __init__(self, mean: Tensor, deviation: Tensor, alpha_bar: Tensor) -> None:
        super().__init__()
        for name, values in {"mean": mean, "deviation": deviation, "alpha_bar": alpha_bar}.items():
            self.register_buffer(name, values)
        self.config = {"sample_size": tuple(mean.shape[1:]), "in_channels": mean.shape[0]}

    def forward(self, x: Tensor, timestep: Tensor) -> SimpleNamespace:
        """``x`` (N, C, H, W) at the scheduler's index ``timestep`` (N,)."""
        buffers = dict(self.named_buffers())
        mean, variance = buffers["mean"], buffers["deviation"] ** 2
        a = buffers["alpha_bar"][timestep.long()].view(-1, 1, 1, 1).to(x)
        x_0 = mean + a.sqrt() * variance / (a * variance + 1 - a) * (x - a.sqrt() * mean)
        return SimpleNamespace(sample=(x - a.sqrt() * x_0) / (1 - a).sqrt())


class GaussianWorld:
    """A frozen diffusion over Gaussian data of shape (1, 4, 4), T = 1000, in float64."""

    def __init__(self, device: torch.device) -> None:
        self.mean = torch.linspace(-0.6, 0.6, 16, dtype=torch.float64).view(1, 4, 4)
        self.deviation = torch.linspace(0.2, 2, 16, dtype=torch.float64).roll(5).view(1, 4, 4)
        scheduler = DDPMScheduler(clip_sample=False)
        network = GaussianDenoiser(self.mean, self.deviation, scheduler.alphas_cumprod.double())
        self.diffusion = FrozenDiffusion(network, scheduler, device=device)

    def draw(self, n: int, t: int, seed: int) -> Tensor:
        """Exact draws of x_t, (n, 1, 4, 4), from its law in closed form."""
        a = self.diffusion.process.alpha_bar[t]
        deviation = (a * self.deviation**2 + 1 - a).sqrt()
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(n, 1, 4, 4, generator=generator, dtype=torch.float64)
        return a.sqrt() * self.mean + deviation * noise

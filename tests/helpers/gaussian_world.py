"""Gaussian data, where everything is known: the optimal denoiser, and the law of every x_t."""

from types import SimpleNamespace

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from priorbench import FrozenDiffusion


class GaussianDenoiser(nn.Module):
    r"""The optimal denoiser of x_0 ~ N(mu, s^2), pixel by pixel, as a network that knows its
    scheduler's index.

    .. math::
        E[x_0 | x_t] = \mu + \frac{\sqrt{a} s^2}{a s^2 + 1 - a} (x_t - \sqrt{a} \mu),
        \quad a = \bar\alpha_t

    ``shift`` makes it believe that t is t + shift: the off-by-one that tests have to notice.
    """

    def __init__(
        self, mean: Tensor, deviation: Tensor, alpha_bar: Tensor, kind: str, shift: int = 0
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.register_buffer(
            "log_snr", torch.log(alpha_bar.double()) - torch.log1p(-alpha_bar.double())
        )
        self.kind = kind
        self.shift = shift
        self.config = {"sample_size": tuple(mean.shape[1:]), "in_channels": mean.shape[0]}

    def alpha_bar(self, index: float) -> float:
        """alpha_bar at a (possibly fractional) index, by interpolating log sigma as the schedulers
        do.
        """
        last = len(self.log_snr) - 1
        index = min(max(index + self.shift, 0.0), last)
        low = min(int(index), last - 1) if last else 0
        share = index - low
        log_snr = self.log_snr[low] * (1 - share) + (self.log_snr[low + 1] if last else 0) * share
        return float(torch.sigmoid(log_snr))

    def forward(self, x: Tensor, timestep: Tensor) -> SimpleNamespace:
        a = self.alpha_bar(float(timestep[0]))
        signal, sigma = a**0.5, (1 - a) ** 0.5
        gain = signal * self.deviation**2 / (a * self.deviation**2 + 1 - a)
        x_0 = self.mean + gain * (x - signal * self.mean)
        noise = (x - signal * x_0) / sigma
        return SimpleNamespace(
            sample={"sample": x_0, "epsilon": noise, "v_prediction": signal * noise - sigma * x_0}[
                self.kind
            ]
        )


class GaussianWorld:
    """A frozen diffusion over Gaussian data of shape (1, 4, 4), in float64, and draws of
    every x_t.
    """

    def __init__(
        self,
        T: int = 1000,
        kind: str = "epsilon",
        schedule: str = "linear",
        shift: int = 0,
        spread: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        scale = 1000 / T
        self.scheduler = DDPMScheduler(
            num_train_timesteps=T, beta_schedule=schedule, prediction_type=kind, clip_sample=False,
            beta_start=1e-4 * scale, beta_end=min(0.02 * scale, 0.999),
        )  # fmt: skip
        self.mean = torch.linspace(-0.6, 0.6, 16, dtype=torch.float64).view(1, 4, 4)
        self.deviation = spread * torch.linspace(0.05, 0.5, 16, dtype=torch.float64).roll(5).view(
            1, 4, 4
        )
        network = GaussianDenoiser(
            self.mean, self.deviation, self.scheduler.alphas_cumprod, kind, shift
        )
        self.diffusion = FrozenDiffusion(network, self.scheduler, device=device)

    def draw_clean(self, n: int, seed: int = 0) -> Tensor:
        """Exact draws of x_0."""
        generator = torch.Generator().manual_seed(seed)
        return self.mean + self.deviation * torch.randn(
            n, 1, 4, 4, generator=generator, dtype=torch.float64
        )

    def draw(self, n: int, t: int, seed: int = 0) -> Tensor:
        """Exact draws of x_t, from its law in closed form."""
        a = self.diffusion.process.alpha_bar[t]
        deviation = (a * self.deviation**2 + 1 - a).sqrt()
        generator = torch.Generator().manual_seed(seed)
        return a.sqrt() * self.mean + deviation * torch.randn(
            n, 1, 4, 4, generator=generator, dtype=torch.float64
        )

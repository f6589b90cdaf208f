r"""``vae``: a variational autoencoder, z ~ N(0, I), x | z ~ N(g(z), s^2 I).

It is fitted by the evidence lower bound,

.. math:: -\mathrm{ELBO}_\beta = \mathbb{E}_{q(z | x)}
          \Big[ \frac{\lVert x - g(z) \rVert^2}{2 s^2} + d \log s \Big]
          + \beta \, \mathrm{KL}\big(q(z | x) \,\Vert\, N(0, I)\big)

**Likelihood**: Gaussian, with one learned scale s for all pixels (Rybkin et al., ICML 2021,
https://arxiv.org/abs/2006.13202), so nobody has to choose a weight between the two terms. **Beta
schedule**: linear from 0 to ``beta`` over the first ``warmup`` share of the steps, against
posterior collapse (Sønderby et al., 2016).

With ``emits: x_t``, x is x_{t_trunc}, and a sample is a draw from the likelihood: its noise is the
noise that x_{t_trunc} carries. With ``emits: x_0``, x is a clean image, and a sample is the mean
g(z); the diffusion adds the noise.
"""

from typing import Literal

import torch
from torch import Tensor

from priorbench import (
    EMA,
    FitRun,
    Pushforward,
    TruncatedMarginal,
    TruncPrior,
    cosine,
    encoder,
    randn,
)


class VAEPrior(TruncPrior):
    """A VAE with a Gaussian likelihood of learned scale.

    Arguments:
        emits: the variable that the likelihood is of: ``x_t`` or ``x_0``.
        latent: the dimension of z.
        beta: the weight of the KL term after the warm-up.
        warmup: the share of the steps over which this weight rises from 0.
        batch_size: the number of draws per step.
        iterations: the number of steps.
        learning_rate: the initial rate of Adam; it decays to 0 along a cosine.
        width, depth: the size of both networks, see :func:`priorbench.decoder`.
        ema: the decay of the averaged weights.
    """

    def __init__(
        self,
        *,
        emits: Literal["x_t", "x_0"] = "x_t",
        latent: int = 16,
        beta: float = 1.0,
        warmup: float = 0.2,
        batch_size: int = 128,
        iterations: int = 800,
        learning_rate: float = 2e-3,
        width: int = 512,
        depth: int = 2,
        ema: float = 0.99,
    ) -> None:
        super().__init__()
        if emits not in ("x_t", "x_0"):
            raise ValueError(f"emits must be x_t or x_0, got {emits!r}")
        for name, value in {
            "latent": latent,
            "batch_size": batch_size,
            "iterations": iterations,
        }.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.emits = emits
        self.latent = latent
        self.beta = beta
        self.warmup = warmup
        self.batch_size = batch_size
        self.iterations = iterations
        self.learning_rate = learning_rate
        self.width = width
        self.depth = depth
        self.ema = ema

    def build(self, shape: tuple[int, int, int]) -> None:
        self.encoder = encoder(shape, 2 * self.latent, self.width, self.depth)
        self.generative = Pushforward(shape, self.latent, True, self.width, self.depth)

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        schedule = cosine(optimizer, run, self.iterations)
        average = EMA(self.parameters(), self.ema)
        draw = marginal.draw if self.emits == "x_t" else marginal.draw_clean
        for step in run.steps(self.iterations, average.copy):
            beta = self.beta * min(1.0, (step + 1) / max(1.0, self.warmup * run.total))
            loss = self.negative_elbo(draw(self.batch_size, run.generator), beta, run.generator)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters(), 100.0)
            optimizer.step()
            schedule.step()
            average.update()
            run.progress(step + 1, run.total, loss.item() if step % 10 == 0 else float("nan"))

    def negative_elbo(self, x: Tensor, beta: float, generator: torch.Generator) -> Tensor:
        """-ELBO_beta of x (N, C, H, W), in nats per image, without the constant d/2 log(2 pi)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        z = mean + (log_variance / 2).exp() * randn(mean.shape, generator, x.device)
        log_scale = self.generative.log_scale
        assert log_scale is not None  # the likelihood has a scale in both modes
        error = (x - self.generative.mean(z)).flatten(1).square().sum(1)
        reconstruction = error * (-2 * log_scale).exp() / 2 + x[0].numel() * log_scale
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
        loss: Tensor = (reconstruction + beta * divergence).mean()
        return loss

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        x: Tensor
        if self.emits == "x_t":
            x = self.generative(n, generator, self.device)
        else:
            x = self.generative.mean(randn((n, self.latent), generator, self.device))
        return x

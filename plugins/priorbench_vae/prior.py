r"""``vae``: a variational autoencoder in two stages, z ~ r, x | z ~ N(g(z), s^2 I).

**The first stage** is fitted by the evidence lower bound with r = N(0, I),

.. math:: -\mathrm{ELBO}_\beta = \mathbb{E}_{q(z | x)}
          \Big[ \frac{\lVert x - g(z) \rVert^2}{2 s^2} + d \log s \Big]
          + \beta \, \mathrm{KL}\big(q(z | x) \,\Vert\, N(0, I)\big)

The likelihood is Gaussian, with one learned scale s for all pixels (Rybkin et al., ICML 2021,
https://arxiv.org/abs/2006.13202), so nobody has to choose a weight between the two terms. The
weight of the KL term rises linearly to ``beta`` over the first ``warmup`` share of the steps,
against posterior collapse (Sønderby et al., 2016).

**The second stage** fits r to the codes of the training images (:mod:`.density`).

With ``emits: x_0``, x is a clean image, and a sample is the mean g(z); the diffusion adds the
noise. With ``emits: x_t``, x is x_{t_trunc}, and a sample is a draw from the likelihood: its noise
is the noise that x_{t_trunc} carries.
"""

import time
from typing import Literal

import torch
from torch import Tensor, nn

from priorbench import (
    EMA,
    FitRun,
    TruncatedMarginal,
    TruncPrior,
    check_choice,
    check_least,
    check_share,
    cosine,
    decoder,
    encoder,
    randn,
)

from .density import Density

CODES = 10_000  # at most, that the density is fitted to
RESERVE = 1.5  # times what a fit of the density took before training is kept free for it after


class VAEPrior(TruncPrior):
    """A VAE with a Gaussian likelihood of learned scale, and a density fitted to its codes.

    Arguments:
        emits: the variable that the likelihood is of: ``x_0`` or ``x_t``.
        density: what z is drawn from: ``normal``, N(0, I); or, fitted to the codes after training,
            one ``gaussian`` or a ``mixture`` of Gaussians.
        components: the number of Gaussians in the mixture, at most one for every 20 images.
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
        emits: Literal["x_t", "x_0"] = "x_0",
        density: Literal["normal", "gaussian", "mixture"] = "mixture",
        components: int = 50,
        latent: int = 16,
        beta: float = 1.0,
        warmup: float = 0.2,
        batch_size: int = 128,
        iterations: int = 1000,
        learning_rate: float = 2e-3,
        width: int = 512,
        depth: int = 2,
        ema: float = 0.99,
    ) -> None:
        super().__init__()
        check_choice("x_t", "x_0", emits=emits)
        check_choice("normal", "gaussian", "mixture", density=density)
        check_least(1, components=components, latent=latent, width=width, depth=depth)
        check_least(1, batch_size=batch_size, iterations=iterations)
        check_least(0, beta=beta, learning_rate=learning_rate)
        check_share(warmup=warmup, ema=ema)
        self.emits = emits
        self.density = density
        self.components = components
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
        self.decoder = decoder(shape, self.latent, self.width, self.depth)
        self.log_scale = nn.Parameter(torch.zeros(()))  # log s
        self.law = Density(self.latent)

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate, fused=True)
        schedule = cosine(optimizer, run, self.iterations)
        average = EMA(self.parameters(), self.ema)
        draw = marginal.draw if self.emits == "x_t" else marginal.draw_clean

        def finish() -> None:
            average.copy()
            self.fit_density(marginal, run)

        reserve = RESERVE * self.fit_density(marginal, run) if run.deadline is not None else 0.0
        for step in run.steps(self.iterations, finish, reserve):
            beta = self.beta * min(1.0, (step + 1) / max(1.0, self.warmup * run.total))
            loss = self.negative_elbo(draw(self.batch_size, run.generator), beta, run.generator)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parameters(), 100.0)
            optimizer.step()
            schedule.step()
            average.update()
            run.progress(step + 1, run.total, loss.item() if step % 10 == 0 else float("nan"))

    @torch.no_grad()
    def fit_density(self, marginal: TruncatedMarginal, run: FitRun) -> float:
        """The second stage, on draws of the aggregated posterior; returns the seconds it took."""
        from sklearn.mixture import GaussianMixture  # noqa: F401 - the import is not timed

        started = time.monotonic()
        self.law.standard()
        if self.density != "normal" and not run.out_of_time():
            draw = marginal.draw if self.emits == "x_t" else marginal.draw_clean
            x = draw(min(len(marginal.images), CODES), run.generator)
            codes = torch.cat([self.code(part, run.generator)[0] for part in x.split(500)])
            self.law.fit(codes, self.components if self.density == "mixture" else 1, run)
        return time.monotonic() - started

    def code(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A draw of q(z | x), (N, latent), and KL(q(z | x) || N(0, I)), (N,), of x (N, C, H, W)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        z = mean + (log_variance / 2).exp() * randn(mean.shape, generator, x.device)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
        return z, divergence

    def negative_elbo(self, x: Tensor, beta: float, generator: torch.Generator) -> Tensor:
        """-ELBO_beta of x (N, C, H, W), in nats per image, without the constant d/2 log(2 pi)."""
        z, divergence = self.code(x, generator)
        error = (x - self.decoder(z)).flatten(1).square().sum(1)
        reconstruction = error * (-2 * self.log_scale).exp() / 2 + x[0].numel() * self.log_scale
        loss: Tensor = (reconstruction + beta * divergence).mean()
        return loss

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        x: Tensor = self.decoder(self.law(n, generator))
        if self.emits == "x_t":
            x = x + self.log_scale.exp() * randn(x.shape, generator, self.device)
        return x

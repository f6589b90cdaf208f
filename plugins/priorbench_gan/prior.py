r"""A generative adversarial network on x_{t_trunc}.

.. math:: \min_G \max_D \; \mathbb{E}[-\mathrm{softplus}(-D(x_t))] + \mathbb{E}[-\mathrm{softplus}(D(G(z)))]
          - \frac{\gamma}{2} \, \mathbb{E} \lVert \nabla_x D(x_t) \rVert^2

What makes it stable on small data:

* the **R1 penalty** on real draws, at every ``r1_every``-th step with the weight multiplied by as
  much, under
which the non-saturating game
  converges locally (Mescheder et al., ICML 2018, https://arxiv.org/abs/1801.04406; lazily as in
  StyleGAN2);
* both sides are seen **at t_trunc, freshly noised each step**: the discriminator never meets the
  same training
point twice,
  and the two laws overlap (Diffusion-GAN, Wang et al., ICLR 2023,
  https://arxiv.org/abs/2206.02262);
* an **average of the generator's weights** is what samples; no batch normalisation; Adam without
  momentum.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from priorbench import EMA, FitRun, Pushforward, TruncatedMarginal, TruncPrior, cosine, encoder


class GANPrior(TruncPrior):
    """A GAN with R1 penalty and averaged generator.

    Arguments:
        emits: ``x_0``, a clean guess that is diffused (in training too: the discriminator sees
            x_{t_trunc}), or
        ``x_t``.
        latent: the dimension of z.
        r1: the weight gamma of the penalty.
        r1_every: steps between two penalties.
        batch_size, iterations: of both players, one step each in turn.
        learning_rate: Adam's (betas 0, 0.99), with cosine decay to 0.
        width, depth: of both networks, see :func:`priorbench.decoder`.
        ema: the decay of the average of the generator that is kept.
    """

    def __init__(
        self,
        *,
        emits: Literal["x_t", "x_0"] = "x_0",
        latent: int = 32,
        r1: float = 0.1,
        r1_every: int = 4,
        batch_size: int = 128,
        iterations: int = 1200,
        learning_rate: float = 2e-3,
        width: int = 256,
        depth: int = 3,
        ema: float = 0.99,
    ) -> None:
        super().__init__()
        if emits not in ("x_t", "x_0"):
            raise ValueError(f"emits must be x_t or x_0, got {emits!r}")
        for name, value in {
            "latent": latent,
            "r1_every": r1_every,
            "batch_size": batch_size,
            "iterations": iterations,
        }.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.emits = emits
        self.latent = latent
        self.r1 = r1
        self.r1_every = r1_every
        self.batch_size = batch_size
        self.iterations = iterations
        self.learning_rate = learning_rate
        self.width = width
        self.depth = depth
        self.ema = ema

    def build(self, shape: tuple[int, int, int]) -> None:
        self.generator = Pushforward(
            shape, self.latent, self.emits == "x_t", self.width, self.depth
        )

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        critic = encoder(marginal.shape, 1, self.width, self.depth).to(marginal.device)
        make = torch.optim.Adam(self.parameters(), lr=self.learning_rate, betas=(0.0, 0.99))
        judge = torch.optim.Adam(critic.parameters(), lr=self.learning_rate, betas=(0.0, 0.99))
        schedules = [cosine(o, run, self.iterations) for o in (make, judge)]
        average = EMA(self.parameters(), self.ema)
        for step in run.steps(self.iterations):
            with torch.no_grad():
                fake = self.noised(marginal, run)
            real = marginal.draw(self.batch_size, run.generator).requires_grad_(
                step % self.r1_every == 0
            )
            score = critic(real)
            loss = (softplus(-score) + softplus(critic(fake))).mean()
            if real.requires_grad:
                (slope,) = torch.autograd.grad(score.sum(), real, create_graph=True)
                loss = loss + self.r1_every * self.r1 / 2 * slope.flatten(1).square().sum(1).mean()
            judge.zero_grad()
            loss.backward()
            judge.step()

            loss = softplus(-critic(self.noised(marginal, run))).mean()
            make.zero_grad()
            loss.backward()
            make.step()
            average.update()
            for schedule in schedules:
                schedule.step()
            run.progress(step + 1, run.total, loss.item() if step % 10 == 0 else float("nan"))
        average.copy()

    def noised(self, marginal: TruncatedMarginal, run: FitRun) -> Tensor:
        """A batch of fakes at t_trunc."""
        made = self.generator(self.batch_size, run.generator, marginal.device)
        return marginal.diffuse(made, run.generator) if self.emits == "x_0" else made

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.generator(n, generator, self.device)

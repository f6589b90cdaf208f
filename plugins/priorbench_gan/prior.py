r"""``gan``: a generative adversarial network on x_{t_trunc}.

.. math:: \min_G \max_D \; \mathbb{E}[-\mathrm{softplus}(-D(x_t))]
          + \mathbb{E}[-\mathrm{softplus}(D(G(z)))]
          - \frac{\gamma}{2} \, \mathbb{E} \lVert \nabla_x D(x_t) \rVert^2

Four choices make it stable on small data:

* The **R1 penalty** on real draws makes the non-saturating game converge locally (Mescheder et al.,
  ICML 2018, https://arxiv.org/abs/1801.04406). It is applied lazily, as in StyleGAN2: at every
  ``r1_every``-th step, with ``r1_every`` times the weight.
* The discriminator sees both laws **at t_trunc, with fresh noise at each step**. It never sees the
  same training point twice, and the two laws overlap (Diffusion-GAN, Wang et al., ICLR 2023,
  https://arxiv.org/abs/2206.02262).
* Samples come from a generator with **averaged weights**.
* There is no batch normalisation, and Adam runs without momentum.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from priorbench import EMA, FitRun, Pushforward, TruncatedMarginal, TruncPrior, cosine, encoder


class GANPrior(TruncPrior):
    """A GAN with an R1 penalty and an averaged generator.

    Arguments:
        emits: ``x_0``, a clean guess that is diffused, also in training (the discriminator always
            sees x_{t_trunc}); or ``x_t``.
        latent: the dimension of z.
        r1: the weight gamma of the penalty.
        r1_every: the number of steps from one penalty to the next.
        batch_size: the number of real and of generated draws per step.
        iterations: the number of steps; each trains the discriminator, then the generator.
        learning_rate: the initial rate of Adam (betas 0, 0.99); it decays to 0 along a cosine.
        width, depth: the size of both networks, see :func:`priorbench.decoder`.
        ema: the decay of the averaged weights.
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
        for step in run.steps(self.iterations, average.copy):
            with torch.no_grad():
                fake = self.noised(marginal, run)
            real = marginal.draw(self.batch_size, run.generator)
            loss = self.critic_loss(critic, real, fake, penalised=step % self.r1_every == 0)
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

    def critic_loss(
        self, critic: torch.nn.Module, real: Tensor, fake: Tensor, penalised: bool
    ) -> Tensor:
        """The discriminator's loss on batches (N, C, H, W); ``penalised``: with the R1 penalty."""
        score = critic(real.requires_grad_(penalised))
        loss: Tensor = (softplus(-score) + softplus(critic(fake))).mean()
        if penalised:
            (slope,) = torch.autograd.grad(score.sum(), real, create_graph=True)
            loss = loss + self.r1_every * self.r1 / 2 * slope.flatten(1).square().sum(1).mean()
        return loss

    def noised(self, marginal: TruncatedMarginal, run: FitRun) -> Tensor:
        """A batch of generated draws at t_trunc."""
        made: Tensor = self.generator(self.batch_size, run.generator, marginal.device)
        return marginal.diffuse(made, run.generator) if self.emits == "x_0" else made

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        x: Tensor = self.generator(n, generator, self.device)
        return x

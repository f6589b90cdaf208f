r"""``gan``: a generative adversarial network on x_{t_trunc}.

The game is relativistic: the discriminator D scores pairs of a real and a generated draw,

.. math:: \min_G \max_D \; -\mathbb{E} \big[ \mathrm{softplus}(D(G(z)) - D(x_t)) \big]
          - \frac{\gamma}{2} \, \mathbb{E} \big[ \lVert \nabla D(x_t) \rVert^2
          + \lVert \nabla D(G(z)) \rVert^2 \big]

What makes it stable on small data and in little time:

* **Pairs and two penalties** (R3GAN, Huang et al., NeurIPS 2024, https://arxiv.org/abs/2501.05441):
  with the gradients penalised on real (R1) and on generated draws (R2) the game converges locally,
  and pairs leave no reason to drop modes. The penalties are applied lazily, as in StyleGAN2: at
  every ``penalty_every``-th step, with ``penalty_every`` times the weight.
* The discriminator sees both laws **at t_trunc, with fresh noise at each step**. It never sees the
  same training point twice, and the two laws overlap (Diffusion-GAN, Wang et al., ICLR 2023,
  https://arxiv.org/abs/2206.02262).
* Samples come from a generator with **averaged weights**, over a share of the steps so far.
* There is no batch normalisation, and Adam runs without momentum.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from priorbench import (
    EMA,
    FitRun,
    Pushforward,
    TruncatedMarginal,
    TruncPrior,
    check_choice,
    check_least,
    check_share,
    cosine,
    encoder,
)

CALM = 8000  # steps; in a longer fit at the full rate the discriminator may break down


class GANPrior(TruncPrior):
    """A relativistic GAN with gradient penalties and an averaged generator.

    Arguments:
        emits: ``x_0``, a clean guess that is diffused, also in training (the discriminator always
            sees x_{t_trunc}); or ``x_t``.
        latent: the dimension of z.
        penalty: the weight gamma of both penalties.
        penalty_every: the number of steps from one penalty to the next.
        batch_size: the number of real and of generated draws per step.
        iterations: the number of steps; each trains the discriminator, then the generator.
        learning_rate: the initial rate of Adam (betas 0, 0.99), of a fit of at most 8,000 steps; of
            a longer one it is lower, by the root of how many times longer. It decays to 0 along a
            cosine.
        width, depth: the size of both networks, see :func:`priorbench.decoder`.
        ema: the largest decay of the averaged weights; before that the average spans about a tenth
            of the steps so far.
    """

    def __init__(
        self,
        *,
        emits: Literal["x_t", "x_0"] = "x_0",
        latent: int = 32,
        penalty: float = 1.0,
        penalty_every: int = 4,
        batch_size: int = 64,
        iterations: int = 1500,
        learning_rate: float = 2e-3,
        width: int = 256,
        depth: int = 2,
        ema: float = 0.999,
    ) -> None:
        super().__init__()
        check_choice("x_t", "x_0", emits=emits)
        check_least(1, latent=latent, width=width, depth=depth, penalty_every=penalty_every)
        check_least(1, batch_size=batch_size, iterations=iterations)
        check_least(0, penalty=penalty, learning_rate=learning_rate)
        check_share(ema=ema)
        self.emits = emits
        self.latent = latent
        self.penalty = penalty
        self.penalty_every = penalty_every
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
        make, judge = (
            torch.optim.Adam(network.parameters(), self.learning_rate, (0.0, 0.99), fused=True)
            for network in (self, critic)
        )
        schedules = [cosine(o, run, self.iterations, CALM) for o in (make, judge)]
        average = EMA(self.parameters(), self.ema)
        for step in run.steps(self.iterations, average.copy):
            with torch.no_grad():
                fake = self.noised(marginal, run)
            real = marginal.draw(self.batch_size, run.generator)
            loss = self.critic_loss(critic, real, fake, step % self.penalty_every == 0)
            judge.zero_grad()
            loss.backward()
            judge.step()

            critic.requires_grad_(False)  # the generator's step needs no gradient of its weights
            real = marginal.draw(self.batch_size, run.generator)
            loss = softplus(critic(real) - critic(self.noised(marginal, run))).mean()
            make.zero_grad()
            loss.backward()
            make.step()
            critic.requires_grad_(True)

            average.update()
            for schedule in schedules:
                schedule.step()
            run.progress(step + 1, run.total, loss.item() if step % 10 == 0 else float("nan"))

    def critic_loss(
        self, critic: torch.nn.Module, real: Tensor, fake: Tensor, penalised: bool
    ) -> Tensor:
        """The discriminator's loss on batches (N, C, H, W); ``penalised``: with the penalties."""
        scores = [critic(x.requires_grad_(penalised)) for x in (real, fake)]
        loss: Tensor = softplus(scores[1] - scores[0]).mean()
        if penalised:
            slopes = torch.autograd.grad(
                [score.sum() for score in scores], [real, fake], create_graph=True
            )
            squares = sum(slope.flatten(1).square().sum(1).mean() for slope in slopes)
            loss = loss + self.penalty_every * self.penalty / 2 * squares
        return loss

    def noised(self, marginal: TruncatedMarginal, run: FitRun) -> Tensor:
        """A batch of generated draws at t_trunc."""
        made: Tensor = self.generator(self.batch_size, run.generator, marginal.device)
        return marginal.diffuse(made, run.generator) if self.emits == "x_0" else made

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        x: Tensor = self.generator(n, generator, self.device)
        return x

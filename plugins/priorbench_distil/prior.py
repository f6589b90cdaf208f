r"""``distil``: the frozen chain's own map from z ~ N(0, I) to x_{t_trunc}, learned from pairs.

The teacher is the frozen model. It carries z by a solver without noise from T to t_trunc, in
``steps`` evaluations, and (z, x_{t_trunc}) is a pair. The student takes one step in its stead:

.. math:: f_\phi(z) = \mathrm{DDIM}_{t' \to t} \big( G_{T \to t'}(z); \, \epsilon_\phi \big)

G is the map of the chain for Gaussian data with the moments of the training images, in closed form
(:mod:`.gaussian_flow`). From T to t', where there is much noise, it is as good as the chain.
:math:`\epsilon_\phi` is a copy of the frozen network, and begins with its weights. It minimises

.. math:: L(\phi) = \mathbb{E}_z \, \lVert f_\phi(z) - x_{t_{trunc}} \rVert^2

The time t' is one of nine between t_trunc and T: the one from which the step comes nearest to the
first pairs before it is trained.

The student imitates the teacher's draws, so it cannot be better than they are, only cheaper. Its
step is an evaluation of a network as large as the frozen one, and is counted as such.

References:
    | Knowledge distillation in iterative generative models (Luhman and Luhman, 2021)
    | https://arxiv.org/abs/2101.02388
    | Simple and fast distillation of diffusion models (Zhou et al., NeurIPS 2024)
    | https://arxiv.org/abs/2409.19681
"""

from typing import ClassVar, Literal

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
    randn,
)

from .gaussian_flow import GaussianFlow
from .student import describe, one_step, rebuild

KEPT = 20_000  # pairs; of more the oldest are dropped
TRIED = 9  # times t' between t_trunc and T


class DistilPrior(TruncPrior):
    """A copy of the frozen network that takes one step where the frozen chain takes many.

    Arguments:
        solver: the solver of the teacher, one without noise: ``ddim``, ``dpm++`` or ``unipc``.
        steps: its number of evaluations for each pair.
        batch_size: the number of new pairs for each step of the fit, and of pairs in each update.
        updates: the number of updates for each step of the fit, on any of the pairs made so far.
        iterations: the number of steps.
        learning_rate: the initial rate of Adam; it decays to 0 along a cosine.
        ema: the decay of the averaged weights.
    """

    emits = "x_t"
    expected_failures: ClassVar[dict[str, str]] = {
        "gaussian target": "it imitates the frozen chain, and in that check the model is untrained"
    }
    description: Tensor
    levels: Tensor
    start: Tensor

    def __init__(
        self,
        *,
        solver: Literal["ddim", "dpm++", "unipc"] = "dpm++",
        steps: int = 10,
        batch_size: int = 32,
        updates: int = 4,
        iterations: int = 20,
        learning_rate: float = 3e-4,
        ema: float = 0.99,
    ) -> None:
        super().__init__()
        check_choice("ddim", "dpm++", "unipc", solver=solver)
        check_least(1, steps=steps, batch_size=batch_size, updates=updates, iterations=iterations)
        check_least(0, learning_rate=learning_rate)
        check_share(ema=ema)
        self.solver = solver
        self.steps = steps
        self.batch_size = batch_size
        self.updates = updates
        self.iterations = iterations
        self.learning_rate = learning_rate
        self.ema = ema

    def build(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.flow = GaussianFlow(shape)
        # What the network is is not known before a fit: it is kept beside the weights.
        self.register_buffer("description", torch.empty(0, dtype=torch.uint8))
        self.register_buffer("levels", torch.zeros(3))  # alpha_bar at T, t' and t_trunc
        self.register_buffer("start", torch.zeros(()))  # the scheduler's index of t'
        self.network: nn.Module = nn.Identity()

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Make the network that the tensors are of, and take them."""
        if len(tensors["description"]):
            network, self.predicts = rebuild(tensors["description"])
            self.network = network.to(self.device)
        super().load_tensors(tensors)

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """z, (n, C, H, W) standard normal."""
        return randn((n, *self.shape), generator, self.device)

    def from_latents(self, z: Tensor) -> Tensor:
        """f(z), (N, C, H, W)."""
        top, level, end = self.levels
        x = self.flow(z, top, level)
        output = self.network(x, self.start.expand(len(x))).sample
        return one_step(output, self.predicts, x, level, end)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.from_latents(self.latents(n, generator))

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        self._copy(marginal)
        optimizer = torch.optim.Adam(
            self.network.parameters(), self.learning_rate, (0.9, 0.99), fused=True
        )
        schedule = cosine(optimizer, run, self.iterations)
        average = EMA(self.network.parameters(), self.ema)
        z = x = torch.empty(0, *self.shape, device=marginal.device)
        for step in run.steps(self.iterations, average.copy):
            made = self.latents(self.batch_size, run.generator)
            found = self.teach(marginal, made)
            if not len(z):
                self._choose_start(marginal, made, found)
            z, x = torch.cat([z, made])[-KEPT:], torch.cat([x, found])[-KEPT:]
            for _ in range(self.updates):
                drawn = torch.randint(
                    len(z), (self.batch_size,), generator=run.generator,
                    device=run.generator.device,
                ).to(z.device)  # fmt: skip
                loss = (self.from_latents(z[drawn]) - x[drawn]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                average.update()
            schedule.step()
            run.progress(step + 1, run.total, loss.item())

    def teach(self, marginal: TruncatedMarginal, z: Tensor) -> Tensor:
        """x_{t_trunc} that the frozen chain makes of ``z``; both (N, C, H, W)."""
        T, t = marginal.T, marginal.t_trunc
        if t == T:
            return z
        steps = min(self.steps, T - t)
        return marginal.diffusion.carry(z, T, t, self.solver, steps)

    def _copy(self, marginal: TruncatedMarginal) -> None:
        """Make the student: the closed form of the data, and a copy of the frozen network."""
        frozen = marginal.diffusion
        kind = str(frozen.config.get("prediction_type", "epsilon"))
        self.description = describe(frozen.network, kind).to(marginal.device)
        network, self.predicts = rebuild(self.description)
        network.load_state_dict(frozen.network.state_dict())
        self.network = network.to(marginal.device)
        self.flow.fit(marginal.images)
        self._start_at(marginal, _between(marginal.t_trunc, marginal.T)[0])  # until there are pairs

    def _start_at(self, marginal: TruncatedMarginal, t: int) -> None:
        alpha_bar = marginal.diffusion.process.alpha_bar.clamp(min=1e-8)
        self.levels.copy_(alpha_bar[[marginal.T, t, marginal.t_trunc]])
        self.start.fill_(t - 1)

    @torch.no_grad()
    def _choose_start(self, marginal: TruncatedMarginal, z: Tensor, x: Tensor) -> None:
        """Start at the time t' from which one step comes nearest to the pairs ``z``, ``x``."""
        errors = {}
        for t in _between(marginal.t_trunc, marginal.T):
            self._start_at(marginal, t)
            errors[t] = float((self.from_latents(z) - x).square().mean())
        self._start_at(marginal, min(errors, key=errors.__getitem__))


def _between(t_trunc: int, T: int) -> list[int]:
    """``TRIED`` times above t_trunc, evenly spaced, the last below T if there is one."""
    found = (t_trunc + round((T - t_trunc) * k / (TRIED + 1)) for k in range(1, TRIED + 1))
    return [min(max(t, t_trunc + 1), T) for t in found]

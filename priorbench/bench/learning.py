"""How a fit got on: at fixed shares of it, samples compared with held-out draws.

All priors are measured alike, by the sliced W2 distance at x_{t_trunc}, with the same draws, the
same directions and the same randomness of the prior at every look. Only where t_trunc has no part
in the fit of a clean guess, clean images are compared: the fit has one curve at every t_trunc then.

A look during the fit does no more than copy the prior's tensors, and undoes what it took to get
them. They are sampled once the samples of the table are drawn, because a prior could work ahead in
every call that is not timed. The seconds of looks are not the fit's.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..diffusion.process import generator_for, seeded
from ..errors import one_line
from ..marginal import TruncatedMarginal
from ..metrics.wasserstein import sliced_w2
from ..plan.spec import CellSpec
from ..prior import FitRun, TruncPrior

SHARES = tuple(i / 8 for i in range(8))  # the looks; another follows when the fit is over
LATE = 0.75  # where the last quarter begins
DRAWS = 1000

#: A point for each look: ``share`` of the fit, ``step``, ``seconds`` without the looks, ``loss``
#: (the mean of what the prior reported since the look before), ``distance``, and ``floor``: the
#: distance of as many training draws, the same at every look.
Curve = list[dict[str, float]]


@dataclass
class Learning:
    """Watches one fit: a :class:`~priorbench.prior.FitRun` calls it before each step.

    Attributes:
        points: of the curve so far, without distances.
        tensors: of the prior at each point, by name.
        losses: those reported since the last look.
        fault: why there is no curve, or nothing.
    """

    prior: TruncPrior
    started: float = field(default_factory=lambda: time.monotonic())
    points: Curve = field(default_factory=list)
    tensors: list[dict[str, Tensor]] = field(default_factory=list)
    losses: list[Any] = field(default_factory=list)
    fault: str = ""

    def __call__(self, run: FitRun, finish: Callable[[], None] | None) -> bool:
        """Look, if it is time to; returns whether it was."""
        done = len(self.points)
        if self.fault or done == len(SHARES) or run.share < SHARES[done]:
            return False
        randomness = run.generator.get_state()
        try:
            with _put_back(self.prior), seeded(0, self.prior.device):
                before = self.seconds(run)
                if finish:
                    finish()
                self.look(run, run.share, before)
        except Exception as error:  # the prior's own code, which need not be ready for this
            self.fault = one_line(error, named=True)
        run.generator.set_state(randomness)
        return True

    def seconds(self, run: FitRun) -> float:
        """How long the fit has taken so far."""
        return time.monotonic() - self.started - run.paused

    def look(self, run: FitRun, share: float, seconds: float) -> None:
        """Copy the prior as it is now; what has not changed since the last copy is shared."""
        point = {"share": share, "step": run.taken, "seconds": seconds}
        self.points.append(point | {"loss": _mean(self.losses)})
        self.losses.clear()
        before = self.tensors[-1] if self.tensors else {}
        now = {name: tensor.detach() for name, tensor in self.prior.state_dict().items()}
        self.tensors.append(
            {n: before[n] if _same(before.get(n), x) else x.clone() for n, x in now.items()}
        )

    def curve(
        self,
        spec: CellSpec,
        marginal: TruncatedMarginal,
        remade: Callable[..., TruncPrior],
        clean: bool = False,
    ) -> Curve:
        """The points with their distances; none for a fit without steps, or without held-out draws.

        Arguments:
            remade: makes a prior of tensors, by name.
            clean: compare clean images, not x_{t_trunc}.
        """
        if not self.points or self.fault or marginal.validation is None:
            return []

        def real(law: TruncatedMarginal, name: str) -> Tensor:
            draw = law.draw_clean if clean else law.draw
            return draw(DRAWS, generator_for(spec.seed, f"look at {name} draws"))

        def drawn(prior: TruncPrior) -> Tensor:
            x = prior.sample(DRAWS, generator_for(spec.seed, "look"))
            noise = generator_for(spec.seed, "look at noise")
            noised = prior.emits == "x_0" and not clean
            return marginal.diffuse(x, noise) if noised else x.as_subclass(Tensor)

        wanted = real(marginal.validation, "held-out")

        try:
            samples = [drawn(remade(tensors)) for tensors in self.tensors]
            if not torch.equal(samples[-1], drawn(self.prior)):
                raise ValueError("loaded from its weights the prior draws other samples")
        except Exception as error:  # the prior's own code
            self.fault = one_line(error, named=True)
            return []
        samples.append(real(marginal, "training"))
        along = [generator_for(spec.seed, "look along") for _ in samples]
        *distances, floor = [sliced_w2(x, wanted, g) for x, g in zip(samples, along, strict=True)]
        return [
            point | {"distance": distance, "floor": floor}
            for point, distance in zip(self.points, distances, strict=True)
        ]


def watched(run: FitRun, prior: TruncPrior) -> Learning:
    """What watches a fit from now on, once ``run`` is told of it; it also hears the losses."""
    learning, progress = Learning(prior), run.progress

    def heard(step: int, total: int, loss: float) -> None:
        learning.losses.append(loss)
        progress(step, total, loss)

    run.watch, run.progress = learning, heard
    return learning


def gains(curve: Curve) -> dict[str, float]:
    """By what share a fit lowered the distance: from its start, and in its last quarter.

    NaN for a fit without a curve.
    """
    if not curve:
        return {"gain": math.nan, "late_gain": math.nan}
    first, last = curve[0]["distance"], curve[-1]["distance"]
    # A fit of few steps was not looked at just then: the look before counts.
    late = [point["distance"] for point in curve if point["share"] <= LATE][-1]
    return {"gain": 1 - last / first, "late_gain": 1 - last / late}


@contextmanager
def _put_back(prior: nn.Module) -> Iterator[None]:
    """Put back the tensors of a prior afterwards."""
    held: list[tuple[dict[str, Any], str, Tensor, Tensor]] = [
        (store, name, tensor, tensor.detach().clone())
        for module in prior.modules()
        for store in (module._parameters, module._buffers)
        for name, tensor in store.items()
        if tensor is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for store, name, tensor, value in held:
                tensor.copy_(value)
                store[name] = tensor


def _mean(losses: list[Any]) -> float:
    """The mean of what a prior called its losses, leaving out what is no finite number."""
    found = []
    for loss in losses:
        with suppress(TypeError, ValueError):
            found.append(float(loss))
    finite = [loss for loss in found if math.isfinite(loss)]
    return sum(finite) / len(finite) if finite else math.nan


def _same(one: Tensor | None, other: Tensor) -> bool:
    return one is not None and one.shape == other.shape and bool(torch.equal(one, other))

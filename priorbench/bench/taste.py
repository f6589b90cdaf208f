"""How long a fit takes, from its first steps."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import ceil
from typing import NamedTuple

from ..diffusion.process import generator_for
from ..isolation import isolated
from ..plan.spec import CellSpec
from ..plugin_manager import load_plugins
from ..prior import FitRun, TruncPrior, make_prior
from ..task import Task
from .operations import evaluations_of_prior, of_evaluation, of_prior

TASTED = 1.0  # seconds of a phase of a fit that are looked at, after its first step


class Enough(Exception):
    """Ends a fit that was only begun to see how fast it goes."""


class Taste(FitRun):
    """A fit that soon ends: of each phase the first steps are timed, and the rest is added up.

    Attributes:
        rest: the seconds that were not waited for.
        learned: whether the prior takes steps, which a budget limits.
    """

    def __init__(self, budget: int | None, own_share: float) -> None:
        super().__init__(
            generator_for(0, "estimate"), budget=budget, own_share=own_share, progress=self._heard
        )
        self.rest, self.learned = 0.0, False
        self._stepping = self._asks = False
        self._first: tuple[float, int] | None = None
        self._last = (0, 0)

    def steps(
        self, own: int, finish: Callable[[], None] | None = None, reserve: float = 0.0
    ) -> Iterator[int]:
        """As usual; the first phase of steps is the last that is looked at."""
        self._first, self._stepping, self.learned = None, True, True
        yield from super().steps(own, finish, reserve)

    def out_of_time(self) -> bool:
        """Whether enough was seen of a phase that asks, as one without :meth:`steps` does."""
        self._asks = True
        if self._stepping or self._first is None or not self._tasted():
            return False
        self._add_rest()
        self._first = None
        return True

    def _heard(self, step: int, total: int, loss: float) -> None:
        if self._first is None or total != self._last[1]:
            self._first, self._asks = (time.monotonic(), step), False
        self._last = step, total
        if self._tasted() and (self._stepping or not self._asks):
            self._add_rest()
            raise Enough

    def _tasted(self) -> bool:
        assert self._first is not None
        return self._last[0] > self._first[1] and time.monotonic() - self._first[0] > TASTED

    def _add_rest(self) -> None:
        assert self._first is not None
        (started, first), (step, total) = self._first, self._last
        self.rest += (time.monotonic() - started) / (step - first) * (total - step)


class Tasted(NamedTuple):
    """What a taste of a fit says: its seconds without a limit, whether a limit of seconds makes a
    difference, whether t_trunc does, the bytes of the weights, and what the prior adds to the NFE.
    """

    seconds: float
    learned: bool
    shared: bool
    size: int
    nfe: int


def taste_of(task: Task, spec: CellSpec, steps: int | None, share: float | None) -> Tasted:
    prior = make_prior(load_plugins().find("prior", spec.prior).load(), spec.label, spec.params)
    taste, marginal = Taste(steps, share or 1.0), task.marginal(spec.t_trunc)
    started = time.monotonic()
    # The end of the taste, or a prior that fails, which its cell will report.
    with suppress(Exception), isolated():
        prior.fit(marginal, taste)
    seconds = time.monotonic() - started + taste.rest
    size = sum(x.nbytes for x in prior.state_dict().values())
    shared = prior.emits == "x_0" and not marginal.used_t_trunc
    return Tasted(seconds, taste.learned, shared, size, _nfe(prior, task, spec))


def _nfe(prior: TruncPrior, task: Task, spec: CellSpec) -> int:
    """The whole evaluations that a draw costs, if a fit that was only begun can draw already."""
    with suppress(Exception), isolated():
        prior.fitted.fill_(True)
        flops = of_prior(prior, spec)
        return ceil(evaluations_of_prior(0, flops, of_evaluation(task.diffusion)))
    return 0

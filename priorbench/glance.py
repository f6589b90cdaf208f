"""The quick checks of a contender, on one fit that is cut short; a run makes them by itself."""

import time
from collections.abc import Mapping
from copy import deepcopy
from functools import cached_property
from typing import Any

import torch

from .conformance import QUICK
from .isolation import isolated, no_forks
from .marginal import TruncatedMarginal
from .prior import FitRun, TruncPrior
from .subject import T_TRUNC, Subject, example_marginal


class _Glance(Subject):
    """A subject in a small world of its own, in which every fit is cut short."""

    @cached_property
    def marginal(self) -> TruncatedMarginal:
        world = deepcopy(example_marginal())  # the prior may change it
        assert world.validation is not None
        return TruncatedMarginal(
            world.images[:200], world.diffusion, T_TRUNC, world.validation.images[:100]
        )

    def run(self, deadline: float | None = None) -> FitRun:
        return FitRun(torch.Generator().manual_seed(0), time.monotonic() + 1.0, budget=2)


def quick_failures(cls: type[TruncPrior], params: Mapping[str, Any]) -> list[str]:
    """The names of the quick checks that ``cls(**params)`` fails.

    Checks that the prior declares as failing are left out. If the fit raised, the single name
    ``fit`` stands for all that could not be checked. Of what a prior raises, only KeyboardInterrupt
    is passed on, and the process is left as it was (``priorbench.isolation.isolated``).

    It costs one fit of two steps on 200 images of 8x8, or two if the first one moved a global
    random state. Each should be over in a second, which is its deadline.
    """
    subject = _Glance(cls, params)
    failures: list[str] = []
    with isolated():
        for name, check in QUICK.items():
            try:
                if name not in cls.expected_failures:
                    with no_forks():
                        check(subject)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                failures.append("fit" if error is subject.error else name)
    return list(dict.fromkeys(failures))

"""Which priors are unstable: their fits vary more over seeds than those of others.

The law of :mod:`.intervals` lets a setting borrow the stability of the others. An unstable prior
must not: with few seeds its figures are sometimes close together by chance, and its interval would
then be far too narrow. All its fits together tell an unstable prior better than one setting can, so
a prior whose fits are, by their mean, in the upper share of the law keeps its own variances in all
its settings.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from .intervals import Law, Seeds, distinct
from .selection import BUDGET, FITTED, LABELLED, Place

Owner = tuple[Any, ...]  # a prior with its budget, all of whose settings may be unstable together


@dataclass(frozen=True)
class Stability:
    """How FIDs vary over seeds.

    Attributes:
        law: that of all settings.
        unstable: the priors, with their budgets, that stand out of it.
    """

    law: Law
    unstable: frozenset[Owner]

    @classmethod
    def of(cls, settings: Mapping[Place, Seeds]) -> "Stability":
        """That of the settings of a run whose samples are drawn afresh for each seed."""
        settings = distinct(settings)
        # All solvers and steps of a fit vary together, so they count once.
        fits = {place[FITTED]: (owner(place), s.freedom) for place, s in settings.items()}
        law = Law.of(settings.values(), sum(freedom for _, freedom in fits.values()))
        ratios: dict[Owner, list[float]] = {}
        for place, seeds in settings.items():
            if isfinite(seeds.ratio):
                ratios.setdefault(owner(place), []).append(seeds.ratio)
        freedom = Counter[Owner]()
        for mine, free in fits.values():
            freedom[mine] += free
        return cls(
            law,
            frozenset(
                o for o, r in ratios.items() if law.stands_out(float(np.mean(r)), freedom[o])
            ),
        )

    def law_for(self, *places: Place, law: Law | None = None) -> Law | None:
        """What some settings may borrow from: ``law``, by default that of all settings, or nothing.

        It is nothing if any of them is of an unstable prior.
        """
        borrows = not any(owner(place) in self.unstable for place in places)
        return (law or self.law) if borrows else None


def owner(place: Place) -> Owner:
    """The prior of a setting with its budget."""
    return (*place[LABELLED], place[BUDGET])

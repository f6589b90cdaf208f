"""Which priors are unstable: their fits vary more over seeds than those of others.

The law of :mod:`.intervals` lets a setting borrow the stability of the others. An unstable prior
must not: with few seeds its figures are sometimes close together by chance, and its interval would
then be far too narrow. All its fits together tell an unstable prior better than one setting can, so
a prior whose fits are, by their mean, in the upper share of the law keeps its own variances in all
its settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from .columns import FIT, LABEL, PLACE
from .intervals import Law, Seeds, distinct

Place = tuple[Any, ...]  # a setting: the values of PLACE
Fitted = tuple[Any, ...]  # the values of FITTED, of which all settings may be unstable together

FITTED = (*LABEL, "fit_budget")


@dataclass(frozen=True)
class Stability:
    """How FIDs vary over seeds.

    Attributes:
        law: that of all settings.
        unstable: the priors, with their budgets, that stand out of it.
    """

    law: Law
    unstable: frozenset[Fitted]

    @classmethod
    def of(cls, settings: Mapping[Place, Seeds]) -> "Stability":
        """That of the settings of a run whose samples are drawn afresh for each seed."""
        settings = distinct(settings)
        # All solvers and steps of a fit vary together, so they count once.
        fits = {_values(place, FIT): (fitted(place), s.freedom) for place, s in settings.items()}
        law = Law.of(settings.values(), sum(freedom for _, freedom in fits.values()))
        ratios: dict[Fitted, list[float]] = {}
        for place, seeds in settings.items():
            if isfinite(seeds.ratio):
                ratios.setdefault(fitted(place), []).append(seeds.ratio)
        unstable = {
            prior
            for prior, found in ratios.items()
            if law.stands_out(
                float(np.mean(found)), sum(free for owner, free in fits.values() if owner == prior)
            )
        }
        return cls(law, frozenset(unstable))

    def law_for(self, *places: Place, law: Law | None = None) -> Law | None:
        """What some settings may borrow from: ``law``, by default that of all settings, or nothing.

        It is nothing if any of them is of an unstable prior.
        """
        borrows = not any(fitted(place) in self.unstable for place in places)
        return (law or self.law) if borrows else None


def fitted(place: Place) -> Fitted:
    """The prior of a setting with its budget."""
    return _values(place, FITTED)


def _values(place: Place, columns: tuple[str, ...] | list[str]) -> tuple[Any, ...]:
    return tuple(place[PLACE.index(column)] for column in columns)

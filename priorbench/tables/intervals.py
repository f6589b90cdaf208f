r"""Means over few seeds, and how surely they are known.

The mean of S figures, or of S differences that are paired by seed, has the variance V / S. The
seeds alone tell V badly: at S = 3 Student's t is more than twice the normal quantile. But each cell
also knows, by itself, how much its figure varies over samples (``fid_se``), and a run has many
settings. So the variance over seeds, s^2, is moderated (Smyth, 2004,
https://doi.org/10.2202/1544-6115.1027). In units of the variance over samples, w^2, it is taken to
follow one law over the settings of a run,

.. math:: s^2 / w^2 \sim r_0 \, F(S - 1, d_0),

with r_0 and d_0 by the moments of its logarithm, and the variance used is

.. math:: V = \frac{d_0 \, r_0 w^2 + (S - 1) \, s^2}{d_0 + S - 1},

with d_0 + S - 1 degrees of freedom. Where settings are alike, much is borrowed; where they differ,
d_0 is small and little is. A setting in the upper fifth of that law keeps its own variance, and
Student's t with S - 1 degrees of freedom: an unstable prior must not borrow the stability of the
others (as in Phipson et al., 2016, https://doi.org/10.1214/16-AOAS920). So do all settings of a
prior whose fits are in that upper fifth together (:mod:`.stability`), and every setting of two
seeds. ``benchmarks/coverage.py`` counts how often the intervals are right.

Where several means are tested at once, Holm's procedure (1979) corrects for their number.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan
from typing import TypeVar

import numpy as np
from scipy import optimize, special, stats

K = TypeVar("K")

LEVEL = 0.95  # of intervals; tests are wrong with the rest of the probability
NORMAL = float(stats.norm.ppf((1 + LEVEL) / 2))
OWN = 0.2  # the upper share of the law in which a setting keeps its own variance
LEAST = 2  # degrees of freedom; from fewer nobody can tell which setting is the unstable one


@dataclass(frozen=True)
class Mean:
    """A mean, its standard error (NaN if unknown) and the degrees of freedom of its t law."""

    value: float
    error: float
    freedom: float

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of its 95 % interval, or NaN."""
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.freedom)) * self.error
        return self.value - half, self.value + half

    @property
    def p(self) -> float:
        """The probability of a mean at least as far from 0 if the true mean is 0; or NaN."""
        if self.error == 0:
            return float(self.value == 0)
        return 2 * float(stats.t.sf(abs(self.value) / self.error, self.freedom))


@dataclass(frozen=True)
class Seeds:
    """A figure of each seed, and ``within``: its variance over samples, NaN if unknown."""

    values: Sequence[float]
    within: float = nan

    @property
    def freedom(self) -> int:
        """The degrees of freedom of the variance over seeds."""
        return len(self.values) - 1

    @property
    def variance(self) -> float:
        """The variance of one value over seeds."""
        return float(np.var(self.values, ddof=1)) if self.freedom > 0 else nan

    @property
    def ratio(self) -> float:
        """The variance over seeds divided by that over samples; NaN where either is unknown."""
        return self.variance / self.within if self.within > 0 else nan

    def mean(self, law: "Law | None" = None) -> Mean:
        """Their mean; of one value, with its variance over samples alone."""
        count, value = len(self.values), float(np.mean(self.values)) if self.values else nan
        if count < 2:
            return Mean(value, self.within**0.5, inf)
        variance, freedom = self.variance, float(self.freedom)
        if law and isfinite(self.ratio):
            ratio, freedom = law.moderated(self.ratio, self.freedom)
            variance = ratio * self.within
        return Mean(value, (variance / count) ** 0.5, freedom)


def distinct(settings: Mapping[K, Seeds]) -> dict[K, Seeds]:
    """The settings whose values no earlier one has: nothing is learned twice.

    A closed form scores the same with every budget of the fit.
    """
    first: dict[tuple[float, ...], K] = {}
    for setting, seeds in settings.items():
        first.setdefault(tuple(seeds.values), setting)
    return {setting: settings[setting] for setting in first.values()}


@dataclass(frozen=True)
class Law:
    """How the variance over seeds, in units of that over samples, varies over settings.

    Attributes:
        ratio: r_0, its centre.
        freedom: d_0; 0 where nothing can be borrowed.
        most: the most degrees of freedom that all settings have together.
    """

    ratio: float = 1.0
    freedom: float = 0.0
    most: float = inf

    @classmethod
    def of(cls, settings: Iterable[Seeds], most: float) -> "Law":
        """The law of some settings, by the mean and the variance of log(s^2 / w^2)."""
        known = [(s.ratio, s.freedom) for s in settings if isfinite(s.ratio) and s.ratio > 0]
        if len(known) < 3:
            return cls()
        ratio, freedom = np.array(known, float).T
        centred = np.log(ratio) - special.digamma(freedom / 2) + np.log(freedom / 2)
        spread = centred.var(ddof=1) - special.polygamma(1, freedom / 2).mean()
        if spread <= 0:
            return cls(float(np.exp(centred.mean())), inf, most)
        d_0 = 2 * _trigamma_inverse(float(spread))
        centre = centred.mean() + special.digamma(d_0 / 2) - np.log(d_0 / 2)
        return cls(float(np.exp(centre)), d_0, most)

    def stands_out(self, ratio: float, freedom: float) -> bool:
        """Whether a ratio is in the upper share of the law, in which variances are kept."""
        if not self.freedom or freedom < LEAST:
            return False
        return float(stats.f.sf(ratio / self.ratio, freedom, min(self.freedom, 1e9))) < OWN

    def moderated(self, ratio: float, freedom: int) -> tuple[float, float]:
        """The ratio to use for a setting with its own ``ratio``, and its degrees of freedom."""
        if not self.freedom or freedom < LEAST or self.stands_out(ratio, freedom):
            return ratio, freedom
        if self.freedom == inf:
            return self.ratio, max(self.most, freedom)
        together = self.freedom + freedom
        mixed = (self.freedom * self.ratio + freedom * ratio) / together
        return mixed, max(min(together, self.most), freedom)


def _trigamma_inverse(value: float) -> float:
    """The x at which trigamma is ``value``: it falls from infinity at 0, about as 1 / x."""
    found = optimize.brentq(lambda x: special.polygamma(1, np.exp(x)) - value, -30, 30)
    return float(np.exp(found))


def holm(ps: Sequence[float]) -> list[float]:
    """p values corrected for their number by Holm's procedure; NaN stays, and is not counted."""
    order = sorted((i for i, p in enumerate(ps) if p == p), key=lambda i: ps[i])
    found, least = [nan] * len(ps), 0.0
    for done, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - done) * ps[i]))
        found[i] = least
    return found

"""What the cells of a run have measured of time, taken together.

A chain costs the same whatever prior, t_trunc or seed came before it: what all cells measured of it
is one measurement, taken often, and its median is everybody's. What it varied by remains as an
interval, since on a busy machine the same chain takes many times longer in one cell than in the
next.
"""

from collections import defaultdict
from math import ceil
from statistics import median
from typing import Any

import numpy as np

from .columns import CLOCK, Row

Interval = tuple[float, float]

BATCHES = (
    "prior_batches",
    "denoise_batches",
)  # of a row: seconds an image of each timed batch. No columns of a table
ENDS = (0.1, 0.9)  # the quantiles over batches that an interval lies between
UNSTEADY = 1.5  # the ratio of its ends from which on a reader is warned


def shared(rows: list[Row]) -> list[Row]:
    """``rows`` of cells with the seconds of each chain shared, without their batches.

    ``denoise_seconds`` becomes the median over all batches of all reported rows with the same chain
    under the same conditions; a row without batches counts by its own ``denoise_seconds``. Reported
    rows get ``images_per_second`` and the interval ``seconds_low`` to ``seconds_high`` of an
    image's seconds; unsteady ones get a warning.
    """
    chains: dict[Any, list[float]] = defaultdict(list)
    for row in rows:
        if _timed(row) and row["split"] == "test":
            chains[_chain(row)] += row.get("denoise_batches") or [row["denoise_seconds"]]
    known = [_seconds(row, chains.get(_chain(row), [])) if _timed(row) else {} for row in rows]
    found = [
        {k: v for k, v in row.items() if k not in BATCHES} | new
        for row, new in zip(rows, known, strict=True)
    ]
    return _warned(found, [_unsteadiness(row, chains) for row in rows])


def _timed(row: Row) -> bool:
    return row["status"] == "ok" and row.get("denoise_seconds") is not None


def _chain(row: Row) -> tuple[Any, ...]:
    """What a chain's cost depends on: the solver, its own evaluations, the conditions."""
    own = row["nfe"] - ceil(row.get("nfe_prior") or 0)
    return row["solver"], own, *(row.get(name) for name in (*CLOCK, "model_precision"))


def _seconds(row: Row, chain: list[float]) -> Row:
    """The columns of a row that are about its seconds, by those of its chain in the whole run."""
    if not chain:  # no row with this chain is reported
        return {}
    found = {"denoise_seconds": median(chain)}
    if row["split"] == "test":
        low, high = _interval(row, chain)
        speed = 1 / (row["prior_seconds"] + found["denoise_seconds"])
        found |= {"seconds_low": low, "seconds_high": high, "images_per_second": speed}
    return found


def _interval(row: Row, chain: list[float]) -> Interval:
    """Seconds an image, from and to. What the prior took over the whole draw is always within its
    own part.
    """
    whole = row["prior_seconds"]
    low, high = _ends(row.get("prior_batches") or [whole])
    quick, slow = _ends(chain)
    return min(low, whole) + quick, max(high, whole) + slow


def _ends(values: list[float]) -> Interval:
    low, high = np.quantile(values, ENDS)
    return float(low), float(high)


def _unsteadiness(row: Row, chains: dict[Any, list[float]]) -> float:
    """The ratio of the interval's ends: of the chain, or of all that an image takes if the prior
    varied more.

    A prior that takes a small part of the time may vary as it likes: it decides nothing.
    """
    chain = chains.get(_chain(row), []) if _timed(row) and row["split"] == "test" else []
    ratios = (
        [high / low for low, high in (_ends(chain), _interval(row, chain)) if low > 0]
        if chain
        else []
    )
    return max(ratios, default=1.0)


def _warned(rows: list[Row], unsteadiness: list[float]) -> list[Row]:
    """One sentence for all rows that it concerns, so that a terminal shows it once."""
    said = (
        f"the same work took up to {max(unsteadiness, default=1.0):.1f} times longer in some batches than in others, "
        "and verdicts in time lean against the priors: time it again on an idle machine (--fresh), or with "
        "--exclusive-timing where cells ran at once"
    )
    return [
        row | {"warning": "; ".join(filter(None, (row.get("warning"), said)))}
        if ratio > UNSTEADY
        else row
        for row, ratio in zip(rows, unsteadiness, strict=True)
    ]

"""What the cells of a run measured of time, pooled.

A chain costs the same whatever prior, t_trunc or seed came before it. So what all cells measured of
one chain is one measurement, taken often, and all of them report its median. How much it varied
remains as an interval: on a busy machine the same chain can take many times longer in one cell than
in the next.
"""

from collections import defaultdict
from math import ceil
from statistics import median
from typing import Any

import numpy as np

from .columns import CLOCK, Row

Interval = tuple[float, float]
Chains = dict[Any, list[float]]  # chain -> seconds per image of each of its batches

# Keys of a row that are no columns: the seconds per image of each timed batch.
BATCHES = ("prior_batches", "denoise_batches")
ENDS = (0.1, 0.9)  # an interval lies between these quantiles over batches
UNSTEADY = 1.5  # a reader is warned where the ratio of its ends exceeds this


def shared(rows: list[Row]) -> list[Row]:
    """``rows`` of cells with the seconds of each chain pooled, and without their batches.

    ``denoise_seconds`` becomes the median over all batches of all reported rows with the same chain
    under the same conditions; a row without batches counts by its own ``denoise_seconds``. Reported
    rows get ``images_per_second`` and the ends ``seconds_low`` and ``seconds_high`` of an interval
    for the seconds of one image. Rows with unsteady seconds get a warning.
    """
    timed = [row for row in rows if _is_timed(row) and row["split"] == "test"]
    chains: Chains = defaultdict(list)
    # Each cell counts once, though a closed form has rows of every budget.
    for row in {(row["cell"], _chain(row)): row for row in timed}.values():
        chains[_chain(row)] += row.get("denoise_batches") or [row["denoise_seconds"]]
    found = [
        {key: value for key, value in row.items() if key not in BATCHES} | _seconds(row, chains)
        for row in rows
    ]
    return _warned(found, [_unsteadiness(row, chains) for row in rows])


def _is_timed(row: Row) -> bool:
    return row["status"] == "ok" and row.get("denoise_seconds") is not None


def _chain(row: Row) -> tuple[Any, ...]:
    """What the cost of a chain depends on: its solver, its own evaluations, the conditions."""
    own = row["nfe"] - ceil(row.get("nfe_prior") or 0)
    return row["solver"], own, *(row.get(name) for name in (*CLOCK, "model_precision"))


def _seconds(row: Row, chains: Chains) -> Row:
    """The columns of a row that hold seconds; none if no row with its chain is reported."""
    chain = chains.get(_chain(row), []) if _is_timed(row) else []
    if not chain:
        return {}
    found: Row = {"denoise_seconds": median(chain)}
    if row["split"] == "test":
        low, high = _interval(row, chain)
        found |= {"seconds_low": low, "seconds_high": high}
        found["images_per_second"] = 1 / (row["prior_seconds"] + found["denoise_seconds"])
    return found


def _interval(row: Row, chain: list[float]) -> Interval:
    """Seconds per image, prior and chain. The prior's part always contains its mean."""
    whole = row["prior_seconds"]
    low, high = _ends(row.get("prior_batches") or [whole])
    quick, slow = _ends(chain)
    return min(low, whole) + quick, max(high, whole) + slow


def _ends(values: list[float]) -> Interval:
    low, high = np.quantile(values, ENDS)
    return float(low), float(high)


def _unsteadiness(row: Row, chains: Chains) -> float:
    """The ratio of the ends of the chain's interval, or of the image's if that is larger.

    A prior that takes a small part of the time may vary as it likes: it decides nothing.
    """
    chain = chains.get(_chain(row), []) if _is_timed(row) and row["split"] == "test" else []
    intervals = (_ends(chain), _interval(row, chain)) if chain else ()
    return max((high / low for low, high in intervals if low > 0), default=1.0)


def _warned(rows: list[Row], unsteadiness: list[float]) -> list[Row]:
    """``rows``, the unsteady ones with a warning; the same one, so that it is shown once."""
    worst = max(unsteadiness, default=1.0)
    warning = (
        f"the same work took up to {worst:.1f} times longer in some batches than in others, "
        "and verdicts in time lean against the priors: time it again on an idle machine (--fresh), "
        "or with --exclusive-timing where cells ran at once"
    )
    return [
        row | {"warning": "; ".join(filter(None, (row.get("warning"), warning)))}
        if ratio > UNSTEADY
        else row
        for row, ratio in zip(rows, unsteadiness, strict=True)
    ]

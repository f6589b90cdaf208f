"""best.csv: the best setting of each prior at each number of evaluations, ranked."""

from collections.abc import Iterable

import pandas as pd

from .columns import BEST, PLACE, Row, choosing, reported
from .contest import decide
from .doubt import doubt
from .flags import cheats
from .selection import Chosen, Place


def best(table: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """For each NFE and prior, the setting that did best on the choosing split.

    :mod:`.contest` ranks them. Rows with an :func:`~priorbench.tables.flags.unfair` flag have no
    rank, nor rows of one seed, which does not tell how fits differ. A prior that was caught storing
    or repeating images in any setting is flagged in all.
    """
    known = Chosen(table)
    means = reported(summary.assign(params=summary.params.fillna(""))).set_index(PLACE)
    chosen_on = choosing(table).groupby("prior").split.first().to_dict()
    caught, doubted = cheats(table), doubt(table)
    rows: list[Row] = []
    for nfe, place in _choices(known):
        label = place[:2]
        flags = [*_failures(known, place, means), *means.loc[place, "flag"].split("; ")]
        rows.append(
            {c: means.loc[place, c] for c in BEST if c in means.columns}
            | dict(zip(PLACE, place, strict=True))
            | {"chosen_on": chosen_on.get(label[0], ""), "nfe": nfe, "doubt": doubted}
            | {"flag": "; ".join(dict.fromkeys(filter(None, [*flags, *caught.get(label, [])])))}
        )
    decide(rows, known)
    return pd.DataFrame(rows).reindex(columns=BEST)


def _choices(known: Chosen) -> Iterable[tuple[int, Place]]:
    """(NFE, best setting) of each prior at each NFE; pure noise from t_trunc = T alone.

    Pure noise counts as one prior, whatever its timesteps: its best setting is the rival.
    """
    for nfe in sorted({known.nfe(place) for place in known.places}):
        here = [p for p in known.places if known.nfe(p) == nfe]
        here = [p for p in here if p[0] != "noise" or p in known.rivals]
        labels = {p: p[:1] if p in known.rivals else p[:2] for p in here}
        for label in dict.fromkeys(labels.values()):
            mine = [p for p in here if labels[p] == label]
            place = known.best([p for p in mine if p not in known.failed] or mine)
            if place is not None:
                yield nfe, place


def _failures(known: Chosen, place: Place, means: pd.DataFrame) -> list[str]:
    failed = known.failed.get(place, 0)
    return (
        [f"failed in {failed} of {failed + int(means.loc[place, 'seeds'])} seeds"] if failed else []
    )

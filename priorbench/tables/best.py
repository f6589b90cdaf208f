"""best.csv: the best setting of each prior with each budget and number of evaluations, ranked."""

from collections.abc import Iterable
from itertools import product

import pandas as pd

from .columns import BEST, PLACE, Row, choosing, reported
from .contest import decide
from .doubt import doubt
from .flags import cheats
from .selection import BUDGET, LABELLED, Chosen, Place


def best(table: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """For each budget, NFE and prior, the setting that did best on the choosing split.

    Controls that have no budget stand beside every one. :mod:`.contest` ranks the contenders. Rows
    with an :func:`~priorbench.tables.flags.unfair` flag have no rank, nor rows of one seed, which
    does not tell how fits differ. A prior that was caught storing or repeating images in any
    setting is flagged in all of the same budget.
    """
    known = Chosen(table)
    means = reported(summary.fillna({"params": "", "fit_budget": ""})).set_index(PLACE)
    chosen_on = choosing(table).groupby("prior").split.first().to_dict()
    caught, doubted = cheats(table), doubt(table)
    rows: list[Row] = []
    for budget, nfe, place in _choices(known):
        label = place[LABELLED]
        caught_at = caught.get((*label, place[BUDGET]), [])
        flags = [*_failures(known, place, means), *means.loc[place, "flag"].split("; ")]
        rows.append(
            {c: means.loc[place, c] for c in BEST if c in means.columns}
            | dict(zip(PLACE, place, strict=True))
            | {"chosen_on": chosen_on.get(label[0], ""), "doubt": doubted}
            | {"fit_budget": budget, "nfe": nfe}
            | {"flag": "; ".join(dict.fromkeys(filter(None, [*flags, *caught_at])))}
        )
    decide(rows, known)
    return pd.DataFrame(rows).reindex(columns=BEST)


def _choices(known: Chosen) -> Iterable[tuple[str, int, Place]]:
    """(budget, NFE, best setting) of each prior; pure noise from t_trunc = T alone.

    Pure noise counts as one prior, whatever its timesteps: its best setting is the rival.
    """
    places = [p for p in known.places if p[0] != "noise" or p in known.rivals]
    for budget, nfe in product(known.budgets, sorted({known.nfe(p) for p in places})):
        here = [p for p in places if known.nfe(p) == nfe and known.beside(p, budget)]
        labels = {p: p[:1] if p in known.rivals else p[LABELLED] for p in here}
        for label in dict.fromkeys(labels.values()):
            mine = [p for p in here if labels[p] == label]
            place = known.best([p for p in mine if p not in known.failed] or mine)
            if place is not None:
                yield budget, nfe, place


def _failures(known: Chosen, place: Place, means: pd.DataFrame) -> list[str]:
    failed = known.failed.get(place, 0)
    return (
        [f"failed in {failed} of {failed + int(means.loc[place, 'seeds'])} seeds"] if failed else []
    )

"""Whether a run measures its backbone more than its priors.

A poor model spoils whatever a prior supplies, and pure noise most of all. Then many a prior is
better than pure noise, and no engineer gains anything by it.
"""

import pandas as pd

from .columns import WHERE, reported, succeeded
from .words import times

FLOORS = 3.0  # how many floors the full chain may score
SHARE = 10  # the full chain is compared with chains of at most this part of its evaluations


def doubt(table: pd.DataFrame) -> str:
    """Why the figures speak of the backbone, in a few words; empty where nothing says so.

    The full chain is the longest from pure noise over uniform times. Its FID is more than three
    floors, or no lower than that of such a chain with a tenth of its evaluations: then more
    evaluations are of no use, and what is wrong is the model. Chains over better times are left
    out: that they equal a full chain over uniform ones says nothing about the model. A run that had
    no full chain, which has no speed-ups, says nothing either.
    """
    test = reported(succeeded(table))
    if test.speedup.isna().all():
        return ""
    pure = test[(test.prior == "noise") & (test.t_trunc == test["T"])]
    if not len(pure):
        return ""
    pure = pure[pure.params.fillna("") == ""]
    means = pure.groupby(WHERE, sort=False)[["nfe", "fid", "fid_floor"]].mean().reset_index()
    full = means.loc[means.nfe.idxmax()]
    said = f"the full chain ({full.solver}, NFE {full.nfe:.0f}) scores FID {full.fid:.3g}"
    if full.fid > FLOORS * full.fid_floor:
        return f"{said}, {times(full.fid / full.fid_floor)} times the floor"
    short = means[means.nfe * SHARE <= full.nfe].sort_values("fid")
    if len(short) and short.fid.iloc[0] <= full.fid:
        quick = short.iloc[0]
        return f"{said}, no better than {quick.fid:.3g} with NFE {quick.nfe:.0f}"
    return ""

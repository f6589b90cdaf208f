"""The figures of a report, drawn from the means of a run. Captions say in words what they show."""

import pandas as pd

from ..tables.columns import contenders
from ..tables.headline import Headline
from .model import FID, Axis, Book, Figure, Series, hover, level, points, setting, shown, wide
from .plot_costs import COSTS, against, break_even
from .plot_fits import learning, over_fit_time
from .style import FLOOR, FULL_CHAIN, PURE_NOISE

HIDDEN = ("noise (control)", "memoriser (control)")  # at first, in the figure of repair


def figures(book: Book, verdict: Headline) -> list[Figure]:
    """All figures that have anything to show."""
    if not len(book.means):
        return []
    every = [
        *(against(book, cost) for cost in COSTS),
        over_t_trunc(book, verdict),
        repair(book),
        break_even(book),
        over_fit_time(book),
        learning(book),
        over_nfe(book),
    ]
    return [figure for figure in every if not figure.empty]


def over_t_trunc(book: Book, verdict: Headline) -> Figure:
    """FID over t_trunc, one view for each solver setting."""
    rows = book.means.dropna(subset=["fid"])
    rows = rows[~rows.index.isin(book.noise.index)]
    x = sorted(rows.t_trunc.astype(float).unique())
    views = {
        str(name): _over_t_trunc(book, part, x)
        for name, part in rows.groupby("setting", sort=False)
    }
    first = list(views)[-1] if views else ""
    if verdict.row:
        first = setting(verdict.row["solver"], verdict.row["nfe"])
    return Figure(
        "fid-t_trunc",
        "Quality over t_trunc",
        _least_in_words(rows, first),
        Axis("t_trunc, where the chain starts (noising steps)"),
        Axis(FID, wide(rows[rows.prior != "noise"].fid, book.means.dropna(subset="fid").fid_floor)),
        views,
        first,
    )


def _over_t_trunc(book: Book, rows: pd.DataFrame, x: list[float]) -> list[Series]:
    """The series of one solver setting."""
    series = []
    for label, control, part in book.groups(rows.sort_values("t_trunc")):
        name, style, text = shown(label, control, part), book.styles[label], hover(part)
        line = points(name, style, part, "t_trunc", "fid", text, band=True, mode="lines+markers")
        line.hidden = control and label != "oracle"
        series.append(line)
    nfe = rows.nfe.iloc[0]
    chosen = book.best[(book.best.prior == "noise") & (book.best.nfe == nfe)].fid
    least = book.noise[book.noise.nfe == nfe].fid.min()
    rival = float(chosen.iloc[0]) if len(chosen) else float(least)
    full, floor = float(book.chain.fid.mean()), float(rows.fid_floor.mean())
    said = f"Pure noise at equal NFE: {rival:.3g}"
    series += level("pure noise, equal NFE", PURE_NOISE, rival, x, said)
    series += level("full chain", FULL_CHAIN, full, x, f"Full chain: {full:.3g}")
    said = f"Floor, as many training images: {book.floor}"
    return series + level("floor", FLOOR, floor, x, said)


def _least_in_words(rows: pd.DataFrame, view: str) -> str:
    ranked = contenders(rows)
    ranked = ranked[ranked.setting == view]
    if not len(ranked):
        return "No contender has a FID."
    said = []
    for label, part in ranked.groupby("label", sort=False):
        row = part.loc[part.fid.idxmin()]
        said.append(f"{label} {row.fid:.3g} at t_trunc {row.t_trunc}")
    bands = " Bands are 95 % intervals." if ranked.fid_low.notna().any() else ""
    return f"The least FID of each prior by {view}: {'; '.join(said)}.{bands}"


def repair(book: Book) -> Figure:
    """Sliced W2 before and after the chain."""
    rows = book.means.dropna(subset=["sw2_xt", "sw2_x0"])
    rows = rows[~rows.index.isin(book.noise.index)]
    signal = rows.t_trunc.map(book.alpha_bar).astype(float) ** 0.5
    known = bool(len(rows)) and bool(signal.notna().all())
    rows = rows.assign(before=rows.sw2_xt / signal if known else rows.sw2_xt)
    series = []
    for label, control, part in book.groups(rows):
        name = shown(label, control, part)
        text = hover(part, ("before", "before"), ("after", "sw2_x0"))
        one = points(name, book.styles[label], part, "before", "sw2_x0", text)
        one.hidden, one.low, one.high = name in HIDDEN, [], []
        series.append(one)
    if known:
        ends = [float(f([*rows.before, *rows.sw2_x0])) for f in (min, max)]
        series.append(Series("no change", FLOOR, ends, ends, mode="lines"))
    before = "Before: sliced W2 / √ᾱ" if known else "Before: sliced W2"
    return Figure(
        "repair",
        "Does the frozen model repair or amplify?",
        _repaired_in_words(contenders(rows), known),
        Axis(f"{before} (pixel × √pixels)", wide(rows.before)),
        Axis("After: sliced W2 (pixel × √pixels)", wide(rows.sw2_x0)),
        {"all settings": series},
    )


def _repaired_in_words(rows: pd.DataFrame, known: bool) -> str:
    if not known:
        return (
            "Sliced W2 to the real law before the chain (at x_t) and after it. The column "
            "alpha_bar is missing, so the two have different units."
        )
    repaired = int((rows.sw2_x0 < rows.before).sum())
    return (
        "Sliced W2 to the real law before and after the chain, both in units of clean images. "
        f"Below the line the frozen model repairs the prior's error ({repaired} of {len(rows)} "
        "settings); above it, it amplifies the error."
    )


def over_nfe(book: Book) -> Figure:
    """The best FID of each prior at every number of evaluations."""
    best = book.best
    views: dict[str, list[Series]] = {}
    if contenders(best).nfe.nunique() > 1:
        series = []
        best = best.assign(label=best.label.where(best.prior != "noise", "noise"))
        for label, rows in best.sort_values(["control", "nfe"]).groupby("label", sort=False):
            noise, control = rows.prior.iloc[0] == "noise", bool(rows.control.iloc[0])
            style = PURE_NOISE if noise else book.styles[str(label)]
            hidden = control and not noise and label != "oracle"
            name = "pure noise" if noise else shown(str(label), control, rows)
            line = points(name, style, rows, "nfe", "fid", hover(rows), hidden=hidden)
            line.mode = "lines+markers"
            series.append(line)
        views["best settings"] = series
    caption = (
        "Each prior at the setting that did best on the choosing split, with its 95 % interval on "
        "the test split."
    )
    firsts = [
        f"{', '.join(rows.label)} at {nfe:.0f}"
        for nfe, rows in best[best["rank"] == 1].groupby("nfe")
    ]
    if firsts:
        caption += f" First by evaluations: {'; '.join(firsts)}."
    return Figure(
        "fid-nfe",
        "Quality over network evaluations",
        caption,
        Axis("Network evaluations (NFE, count)", wide(best.nfe)),
        Axis(FID, wide(best.fid)),
        views,
    )

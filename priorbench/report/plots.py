"""The figures of a report, each from the means of a run, with a caption that says in words what is
to be seen.
"""

import math

import pandas as pd

from ..tables.flags import unfair
from ..tables.headline import Headline
from ..tables.words import earned
from .model import Axis, Book, Figure, Series, hover, points, setting, wide
from .style import CHAIN, FLOOR, FRONT, NOISE, ORACLE, Style

MS = "Measured time per image, the prior's included (ms)"
FID = "FID (squared feature units)"


def figures(book: Book, verdict: Headline) -> list[Figure]:
    """All figures that there is anything to show in."""
    if not len(book.means):
        return []
    every = [
        quality_time(book),
        over_t_trunc(book, verdict),
        repair(book),
        cost(book),
        over_nfe(book),
    ]
    return [figure for figure in every if not figure.empty]


def shown(label: str, control: bool, rows: pd.DataFrame) -> str:
    """A series' name; what must not be taken for a contender says so."""
    return (
        f"{label} (control)"
        if control
        else f"{label} (flagged)"
        if rows.flag.map(unfair).any()
        else label
    )


def _level(name: str, style: Style, value: float, x: list[float], said: str) -> list[Series]:
    """A horizontal line over the range of x, or nothing where its value is not known."""
    ends = [min(x), max(x)] if x else []
    return (
        [Series(name, style, ends, [value] * 2, [said] * 2, mode="lines")]
        if value == value and ends
        else []
    )


def envelope(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other beats both in time and in FID, by time."""
    rows = rows.sort_values(["ms", "fid"])
    return rows[rows.fid < rows.fid.cummin().shift(fill_value=math.inf)]


def quality_time(book: Book) -> Figure:
    rows = book.means.dropna(subset=["fid", "ms"])
    x = rows.ms.tolist()
    series = [
        points(
            shown(label, control, g),
            book.styles[label],
            g,
            "ms",
            "fid",
            hover(g, ("ms/image", "ms")),
            hidden=control,
        )
        for label, control, g in book.groups(rows[rows.prior != "oracle"])
    ]
    rivals = rows[rows.index.isin(book.noise.index)]
    series.append(
        points("pure noise", NOISE, rivals, "ms", "fid", hover(rivals, ("ms/image", "ms")))
    )
    fair = envelope(
        rows[
            ((~rows.control.astype(bool)) & ~rows.flag.map(unfair).astype(bool))
            | rows.index.isin(book.noise.index)
        ]
    )
    front = Series(
        "Pareto front", FRONT, fair.ms.tolist(), fair.fid.tolist(), mode="lines", step=True
    )
    bound = envelope(rows[rows.prior == "oracle"])
    oracle = points(
        "oracle's bound", ORACLE, bound, "ms", "fid", hover(bound, ("ms/image", "ms")), step=True
    )
    oracle.mode = "lines+markers"
    chain = rows[rows.index.isin(book.chain.index)]
    series = [
        front,
        *series,
        oracle,
        points("full chain", CHAIN, chain, "ms", "fid", hover(chain, ("ms/image", "ms"))),
    ]
    series += _level(
        "floor",
        FLOOR,
        book.means.fid_floor.mean(),
        x,
        f"FID of as many training images: {book.floor}",
    )
    for line in series:
        line.low, line.high = [], []  # too many to be read here; hovering shows them
    said = [
        f"{'pure noise' if r.prior == 'noise' else r.label} {r.fid:.3g} in {r.ms:.3g} ms"
        for r in fair.itertuples()
    ]
    said = said if len(said) <= 6 else [*said[:3], "...", *said[-3:]]
    claim = "Nothing beats these both in time and in FID"
    if (fair.seeds == 1).any():  # then what beats another is a fit, not a prior
        claim = "The front of these fits (one seed, which ranks no priors)"
    caption = f"{claim}: {', '.join(said)}." if said else "No setting has a FID."
    if len(bound):
        caption += f" The best that the oracle reaches is {bound.fid.iloc[-1]:.3g}."
    return Figure(
        "quality-time", "Quality against time", caption, Axis(MS, wide(x)), Axis(FID, wide(rows.fid)),
        {"all settings": [s for s in series if s.x]},
    )  # fmt: skip


def over_t_trunc(book: Book, verdict: Headline) -> Figure:
    rows = book.means.dropna(subset=["fid"])
    starts = rows[~rows.index.isin(book.noise.index)]
    views: dict[str, list[Series]] = {}
    x = sorted(starts.t_trunc.astype(float).unique())
    for name, g in starts.groupby("setting", sort=False):
        series = []
        for label, control, part in book.groups(g.sort_values("t_trunc")):
            hidden = control and label != "oracle"
            line = points(
                shown(label, control, part),
                book.styles[label],
                part,
                "t_trunc",
                "fid",
                hover(part),
                band=True,
                hidden=hidden,
            )
            line.mode = "lines+markers"
            series.append(line)
        same = book.noise[book.noise.nfe == g.nfe.iloc[0]]
        rival = book.best[(book.best.prior == "noise") & (book.best.nfe == g.nfe.iloc[0])].fid
        value = float(rival.iloc[0]) if len(rival) else float(same.fid.min())
        series += _level(
            "pure noise, as many evaluations",
            NOISE,
            value,
            x,
            f"Pure noise, as many evaluations: {value:.3g}",
        )
        full = float(book.chain.fid.mean())
        series += _level("full chain", CHAIN, full, x, f"Full chain: {full:.3g}")
        floor = float(g.fid_floor.mean())
        series += _level("floor", FLOOR, floor, x, f"Floor, as many training images: {book.floor}")
        views[str(name)] = series
    first = (
        setting(verdict.row["solver"], verdict.row["nfe"])
        if verdict.row
        else list(views)[-1]
        if views
        else ""
    )
    least = starts[
        (~starts.control.astype(bool)) & (starts.setting == (first if first in views else ""))
    ]
    caption = (
        f"The least FID of each prior by {first}: " if len(least) else "No contender has a FID"
    )
    for label, part in least.groupby("label", sort=False):
        row = part.loc[part.fid.idxmin()]
        caption += f"{label} {row.fid:.3g} at t_trunc {row.t_trunc}; "
    caption = caption.rstrip("; ") + (
        ". Bands are 95 % intervals."
        if least.get("fid_low", least.fid * math.nan).notna().any()
        else "."
    )
    return Figure(
        "fid-t_trunc", "Quality over t_trunc", caption, Axis("t_trunc, where the chain starts (noising steps)"),
        Axis(FID, wide(starts[starts.prior != "noise"].fid, rows.fid_floor)), views, first,
    )  # fmt: skip


def repair(book: Book) -> Figure:
    rows = book.means.dropna(subset=["sw2_xt", "sw2_x0"])
    rows = rows[~rows.index.isin(book.noise.index)]
    signal = rows.t_trunc.map(book.alpha_bar).astype(float) ** 0.5
    known = bool(len(rows)) and bool(signal.notna().all())
    rows = rows.assign(before=rows.sw2_xt / signal if known else rows.sw2_xt)
    names = [("before", "before"), ("after", "sw2_x0")]
    series = [
        points(
            shown(label, control, g), book.styles[label], g, "before", "sw2_x0", hover(g, *names)
        )
        for label, control, g in book.groups(rows)
    ]
    for s in series:
        s.hidden, s.low, s.high = s.name in ("noise (control)", "memoriser (control)"), [], []
    caption = (
        "Sliced W2 to the real law before and after the chain, both in units of clean images. "
    )
    if known:
        ends = [float(f([*rows.before, *rows.sw2_x0])) for f in (min, max)]
        series.append(Series("no change", FLOOR, ends, ends, mode="lines"))
        fair = rows[~rows.control.astype(bool)]
        mended = int((fair.sw2_x0 < fair.before).sum())
        caption += (
            f"Below the line the frozen model repairs the prior's error ({mended} of {len(fair)} settings), above it "
            "amplifies it."
        )
    else:
        caption = (
            "Sliced W2 to the real law before the chain (at x_t) and after it, in unlike units, because the column "
            "alpha_bar is missing."
        )
    before = "Before: sliced W2 / √ᾱ" if known else "Before: sliced W2"
    return Figure(
        "repair", "Does the frozen model repair or amplify?", caption,
        Axis(f"{before} (pixel × √pixels)", wide(rows.before)),
        Axis("After: sliced W2 (pixel × √pixels)", wide(rows.sw2_x0)), {"all settings": series},
    )  # fmt: skip


def cost(book: Book) -> Figure:
    """Fit cost and break-even; "never" and "no rival is as good" are places of their own above and
    below.
    """
    rows = book.means[~book.means.control.astype(bool)].dropna(subset=["fit_seconds"])
    known = rows.break_even[rows.break_even < 1e12].clip(lower=1)
    low, high = (known.min(), known.max()) if len(known) else (1e3, 1e3)
    bottom, top = 10 ** math.floor(math.log10(low) - 0.7), 10 ** math.ceil(math.log10(high) + 0.7)
    y = rows.break_even.clip(lower=1, upper=top).fillna(bottom)
    rows = rows.assign(images=y.where(rows.break_even.fillna(0) < 1e12, top))
    series = []
    for label, _, g in book.groups(rows):
        said = [
            f"{text}\nfit earned back: {earned(e)}"
            for text, e in zip(hover(g, ("fit s", "fit_seconds")), g.break_even, strict=True)
        ]
        series.append(
            points(shown(label, False, g), book.styles[label], g, "fit_seconds", "images", said)
        )
    decades = range(round(math.log10(bottom)) + 1, round(math.log10(top)))
    ticks = [
        (bottom, "no rival as good"),
        *((10.0**d, _count(10.0**d)) for d in decades),
        (top, "never"),
    ]
    never, good = int((rows.break_even > 1e12).sum()), int(rows.break_even.isna().sum())
    caption = (
        f"Of {len(rows)} settings {good} reach a FID that no solver from pure noise reaches, so there is nothing to "
        f"earn back; {len(rows) - good - never} earn their fit back after as many images as shown; {never} never do, "
        "because a rival is as good and not shown to take longer."
    )  # fmt: skip
    if not book.has_rivals:
        caption, series = "", []
    return Figure(
        "cost", "When the fit is earned back", caption,
        Axis("Time to fit (s)", wide(rows.fit_seconds)), Axis("Fit earned back after (images)", True, ticks),
        {"all settings": series},
    )  # fmt: skip


def _count(value: float) -> str:
    for size, unit in ((1e9, " bn"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def over_nfe(book: Book) -> Figure:
    best = book.best
    views: dict[str, list[Series]] = {}
    if len(best) and best[~best.control.astype(bool)].nfe.nunique() > 1:
        series = []
        for label, rows in best.sort_values(["control", "nfe"]).groupby("label", sort=False):
            noise, control = rows.prior.iloc[0] == "noise", bool(rows.control.iloc[0])
            style = NOISE if noise else book.styles[str(label)]
            hidden = control and not noise and label != "oracle"
            name = "pure noise" if noise else shown(str(label), control, rows)
            line = points(name, style, rows, "nfe", "fid", hover(rows), hidden=hidden)
            line.mode = "lines+markers"
            series.append(line)
        views["best settings"] = series
    caption = "Each prior at the setting that did best on the choosing split, with its 95 % interval on the test split."
    firsts = best[best["rank"] == 1] if len(best) else best
    parts = (
        [f"{', '.join(rows.label)} at {nfe:.0f}" for nfe, rows in firsts.groupby("nfe")]
        if len(firsts)
        else []
    )
    if parts:
        caption += " First by evaluations: " + "; ".join(parts) + "."
    return Figure(
        "fid-nfe", "Quality over network evaluations", caption,
        Axis("Network evaluations (NFE, count)", wide(best.nfe)), Axis(FID, wide(best.fid)), views,
    )  # fmt: skip

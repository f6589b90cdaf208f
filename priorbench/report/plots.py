"""The figures of a report, drawn from the means of a run. Captions say in words what they show."""

import math
from dataclasses import dataclass

import pandas as pd

from ..tables.columns import contenders
from ..tables.flags import unfair
from ..tables.headline import Headline
from ..tables.learning import STILL
from ..tables.words import earned
from .model import Axis, Book, Figure, Series, hover, points, setting, wide
from .style import FLOOR, FRONT, FULL_CHAIN, ORACLE, PURE_NOISE, Style

FID = "FID (squared feature units)"
HIDDEN = ("noise (control)", "memoriser (control)")  # at first, in the figure of repair


def figures(book: Book, verdict: Headline) -> list[Figure]:
    """All figures that have anything to show."""
    if not len(book.means):
        return []
    every = [
        *(against(book, cost) for cost in COSTS),
        over_t_trunc(book, verdict),
        repair(book),
        cost(book),
        over_fit_time(book),
        learning(book),
        over_nfe(book),
    ]
    return [figure for figure in every if not figure.empty]


def shown(label: str, control: bool, rows: pd.DataFrame) -> str:
    """The name of a series; it says whether the prior is a control or flagged."""
    if control:
        return f"{label} (control)"
    return f"{label} (flagged)" if rows.flag.map(unfair).any() else label


def fair(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of contenders that are not flagged as unfair."""
    rows = contenders(rows)
    return rows[~rows.flag.map(unfair).astype(bool)]


def envelope(rows: pd.DataFrame, cost: str = "ms") -> pd.DataFrame:
    """The rows that no other row beats in both cost and FID, in the order of cost."""
    rows = rows.sort_values([cost, "fid"])
    return rows[rows.fid < rows.fid.cummin().shift(fill_value=math.inf)]


def _level(name: str, style: Style, value: float, x: list[float], said: str) -> list[Series]:
    """A horizontal line over the range of x, or nothing if its value is not known."""
    if not x or math.isnan(value):
        return []
    return [Series(name, style, [min(x), max(x)], [value] * 2, [said] * 2, mode="lines")]


@dataclass(frozen=True)
class Cost:
    """What an image costs: a column of :attr:`Book.means`, in a unit."""

    column: str
    name: str
    unit: str
    axis: str


COSTS = (
    Cost("ms", "time", "ms", "Measured time per image, the prior's included (ms)"),
    Cost("gflops", "operations", "GFLOP", "Operations per image, the prior's included (GFLOP)"),
)


def against(book: Book, cost: Cost) -> Figure:
    """FID against what an image costs, with the Pareto front."""
    rows = book.means.dropna(subset=["fid", cost.column])
    rivals = rows[rows.index.isin(book.noise.index)]
    front = envelope(rows[rows.index.isin(fair(rows).index.union(rivals.index))], cost.column)
    bound = envelope(rows[rows.prior == "oracle"], cost.column)
    return Figure(
        f"quality-{cost.name}",
        f"Quality against {cost.name}",
        _front_in_words(front, bound, cost),
        Axis(cost.axis, wide(rows[cost.column])),
        Axis(FID, wide(rows.fid)),
        {"all settings": _against(book, cost, rows, front, rivals, bound)},
    )


def _against(
    book: Book,
    cost: Cost,
    rows: pd.DataFrame,
    front: pd.DataFrame,
    rivals: pd.DataFrame,
    bound: pd.DataFrame,
) -> list[Series]:
    def against_cost(name: str, style: Style, part: pd.DataFrame) -> Series:
        text = hover(part, (f"{cost.unit}/image", cost.column))
        return points(name, style, part, cost.column, "fid", text)

    x, fid = front[cost.column].tolist(), front.fid.tolist()
    series = [Series("Pareto front", FRONT, x, fid, mode="lines", step=True)]
    for label, control, part in book.groups(rows[rows.prior != "oracle"]):
        series.append(against_cost(shown(label, control, part), book.styles[label], part))
        series[-1].hidden = control
    series.append(against_cost("pure noise", PURE_NOISE, rivals))
    oracle = against_cost("oracle's bound", ORACLE, bound)
    oracle.step, oracle.mode = True, "lines+markers"
    chain = rows[rows.index.isin(book.chain.index)]
    series += [oracle, against_cost("full chain", FULL_CHAIN, chain)]
    said = f"FID of as many training images: {book.floor}"
    costs = rows[cost.column].tolist()
    series += _level("floor", FLOOR, book.means.fid_floor.mean(), costs, said)
    for one in series:
        one.low, one.high = [], []  # too many intervals to read; hovering shows them
    return [one for one in series if one.x]


def _front_in_words(front: pd.DataFrame, bound: pd.DataFrame, cost: Cost) -> str:
    said = [
        f"{'pure noise' if row.prior == 'noise' else row.label} {row.fid:.3g} in "
        f"{getattr(row, cost.column):.3g} {cost.unit}"
        for row in front.itertuples()
    ]
    said = said if len(said) <= 6 else [*said[:3], "...", *said[-3:]]
    claim = f"Nothing beats these settings in both {cost.name} and FID"
    if (front.seeds == 1).any():  # then one fit beats another, not one prior another
        claim = "The front of these fits (one seed, which ranks no priors)"
    caption = f"{claim}: {', '.join(said)}." if said else "No setting has a FID."
    if len(bound):
        caption += f" The best FID that the oracle reaches is {bound.fid.iloc[-1]:.3g}."
    return caption


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
    series += _level("pure noise, equal NFE", PURE_NOISE, rival, x, said)
    series += _level("full chain", FULL_CHAIN, full, x, f"Full chain: {full:.3g}")
    said = f"Floor, as many training images: {book.floor}"
    return series + _level("floor", FLOOR, floor, x, said)


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


def cost(book: Book) -> Figure:
    """Seconds of the fit against the break-even.

    Two places beyond the ends of the axis stand for "never" and for "no rival is as good".
    """
    rows = contenders(book.means).dropna(subset=["fit_seconds"])
    rows = rows[rows.break_even.notna() | rows.relative_time.notna()]  # else it is unknown
    never = rows.break_even.map(earned) == earned(math.inf)
    known = rows.break_even[~never].dropna().clip(lower=1)
    low, high = (known.min(), known.max()) if len(known) else (1e3, 1e3)
    bottom, top = 10 ** math.floor(math.log10(low) - 0.7), 10 ** math.ceil(math.log10(high) + 0.7)
    images = rows.break_even.clip(lower=1, upper=top).fillna(bottom)
    rows = rows.assign(images=images.where(~never, top))
    series = []
    for label, _, part in book.groups(rows):
        said = [
            f"{text}\nfit earned back: {earned(value)}"
            for text, value in zip(
                hover(part, ("fit s", "fit_seconds")), part.break_even, strict=True
            )
        ]
        name, style = shown(label, False, part), book.styles[label]
        series.append(points(name, style, part, "fit_seconds", "images", said))
    decades = [10.0**d for d in range(round(math.log10(bottom)) + 1, round(math.log10(top)))]
    ticks = [
        (bottom, earned(math.nan)),
        *((images, _count(images)) for images in decades),
        (top, earned(math.inf)),
    ]
    return Figure(
        "cost",
        "When the fit is earned back",
        _earned_in_words(rows, int(never.sum())) if book.has_rivals else "",
        Axis("Time to fit (s)", wide(rows.fit_seconds)),
        Axis("Fit earned back after (images)", True, ticks),
        {"all settings": series if book.has_rivals else []},
    )


def _earned_in_words(rows: pd.DataFrame, never: int) -> str:
    unrivalled = int(rows.break_even.isna().sum())
    return (
        f"Of {len(rows)} settings {unrivalled} reach a FID that no solver from pure noise reaches, "
        f"so there is nothing to earn back; {len(rows) - unrivalled - never} earn their fit back "
        f"after the number of images shown; {never} never do, because a rival is as good and is "
        "not shown to take longer."
    )


def _count(value: float) -> str:
    for size, unit in ((1e9, " bn"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def over_fit_time(book: Book) -> Figure:
    """The best FID of each prior with each budget of the fit, one view for each NFE."""
    rows = book.budgets.dropna(subset=["fid"])
    several = contenders(rows).fit_budget.nunique() > 1
    views = {
        f"NFE {nfe}": _over_fit_time(book, part.sort_values("fit_seconds"))
        for nfe, part in rows.groupby("nfe")
        if several and len(contenders(part))
    }
    said = [
        f"{budget or 'their own steps'}: {', '.join(part.label)}"
        for budget, part in rows[(rows["rank"] == 1) & (rows.nfe == rows.nfe.min())].groupby(
            "fit_budget", sort=False
        )
    ]
    firsts = f" First with the fewest evaluations, by budget: {'; '.join(said)}." if said else ""
    return Figure(
        "fid-fit",
        "Quality over the time to fit",
        "Each prior at the setting that did best on the choosing split, for each budget of the "
        f"fit, with its 95 % interval on the test split.{firsts}",
        Axis("Time to fit (s)", wide(contenders(rows).fit_seconds)),
        Axis(FID, wide(rows.fid)),
        views,
    )


def _over_fit_time(book: Book, rows: pd.DataFrame) -> list[Series]:
    """The series of one NFE. A control's time is the longest that a contender took."""
    ranked, series = contenders(rows), []
    for label, part in ranked.groupby("label", sort=False):
        name, style = shown(str(label), False, part), book.styles[str(label)]
        text = hover(part, ("fit s", "fit_seconds"))
        line = points(name, style, part, "fit_seconds", "fid", text, mode="lines+markers")
        series.append(line)
    longest = ranked.groupby("fit_budget").fit_seconds.max()
    for prior, name, style in (
        ("noise", "pure noise, equal NFE", PURE_NOISE),
        ("oracle", "oracle", ORACLE),
    ):
        part = rows[rows.prior == prior]
        part = part.assign(at=part.fit_budget.map(longest)).dropna(subset="at").sort_values("at")
        if len(part):
            x, y, text = [part["at"].tolist(), part.fid.tolist(), hover(part)]
            least = float(ranked.fit_seconds.min())
            series.append(
                Series(name, style, [least, *x], [y[0], *y], [text[0], *text], mode="lines")
            )
    return series


def learning(book: Book) -> Figure:
    """How the fits got on: the distance to held-out draws over the seconds of the fit."""
    curves = book.curves.dropna(subset=["distance"])
    views = {
        f"t_trunc {t_trunc}": _fits_over_time(book, rows)
        for t_trunc, rows in curves.groupby("t_trunc")
    }
    still = contenders(book.means)
    still = still[still.learning.fillna("") == STILL] if "learning" in still else still[:0]
    where = [
        f"{label} at t_trunc {', '.join(map(str, rows.t_trunc.unique()))}"
        for label, rows in still.groupby("label", sort=False)
    ]
    return Figure(
        "learning",
        "How the fits got on",
        "Sliced W2 at x_t between a prior's samples and held-out draws, at fixed shares of its "
        "fit; the mean over seeds. The floor is that of as many training draws. "
        + (f"Still learning at the end: {'; '.join(where)}." if where else ""),
        Axis("Time of the fit (s)"),
        Axis("Sliced W2 to held-out draws (pixel × √pixels)", wide(curves.distance)),
        views,
    )


def _fits_over_time(book: Book, curves: pd.DataFrame) -> list[Series]:
    series = []
    for label, rows in curves.groupby("label", sort=False):
        at = rows.groupby("share")[["seconds", "distance", "step", "loss"]].mean().reset_index()
        text = [
            f"{label}\n{r.seconds:.3g} s, {r.step:.0f} steps\ndistance {r.distance:.4g}"
            for r in at.itertuples()
        ]
        style, x, y = book.styles[str(label)], at.seconds.tolist(), at.distance.tolist()
        series.append(Series(str(label), style, x, y, text, mode="lines+markers"))
    floor, x = float(curves.floor.mean()), [0.0, float(curves.seconds.max())]
    return series + _level("floor", FLOOR, floor, x, f"As many training draws: {floor:.4g}")


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

"""The figures of the fits: what more time buys, and how they got on."""

import pandas as pd

from ..tables.columns import contenders
from ..tables.learning import STILL
from .model import FID, Axis, Book, Figure, Series, hover, level, points, shown, wide
from .style import FLOOR, ORACLE, PURE_NOISE

ACROSS_BUDGETS = "fid-fit"  # the one figure that shows several budgets


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
        ACROSS_BUDGETS,
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
            x, y, text = part["at"].tolist(), part.fid.tolist(), hover(part)
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
        # Fits are looked at at eighths of them, as nearly as their steps allow.
        looks = rows.groupby((8 * rows.share).round())
        at = looks[["seconds", "distance", "step", "loss"]].mean()
        text = [
            f"{label}\n{r.seconds:.3g} s, {r.step:.0f} steps\ndistance {r.distance:.4g}"
            for r in at.itertuples()
        ]
        style, x, y = book.styles[str(label)], at.seconds.tolist(), at.distance.tolist()
        series.append(Series(str(label), style, x, y, text, mode="lines+markers"))
    floor, x = float(curves.floor.mean()), [0.0, float(curves.seconds.max())]
    return series + level("floor", FLOOR, floor, x, f"As many training draws: {floor:.4g}")

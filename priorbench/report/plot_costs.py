"""The figures of what an image costs, and of when the fit is earned back."""

import math
from dataclasses import dataclass

import pandas as pd

from ..tables.columns import contenders
from ..tables.flags import unfair
from ..tables.words import earned
from .model import FID, Axis, Book, Figure, Series, hover, level, points, shown, wide
from .style import FLOOR, FRONT, FULL_CHAIN, ORACLE, PURE_NOISE, Style


@dataclass(frozen=True)
class Cost:
    """What an image costs: a column of :attr:`Book.means`, in a unit."""

    column: str
    name: str
    unit: str
    axis: str
    digits: int = 3


COSTS = (
    Cost("ms", "time", "ms", "Measured time per image, the prior's included (ms)"),
    Cost("gflops", "operations", "GFLOP", "Operations per image, the prior's included (GFLOP)", 4),
)


def fair(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of contenders that are not flagged as unfair."""
    rows = contenders(rows)
    return rows[~rows.flag.map(unfair).astype(bool)]


def envelope(rows: pd.DataFrame, cost: str = "ms") -> pd.DataFrame:
    """The rows that no other row beats in both cost and FID, in the order of cost."""
    rows = rows.sort_values([cost, "fid"])
    return rows[rows.fid < rows.fid.cummin().shift(fill_value=math.inf)]


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
    series += level("floor", FLOOR, book.means.fid_floor.mean(), costs, said)
    for one in series:
        one.low, one.high = [], []  # too many intervals to read; hovering shows them
    return [one for one in series if one.x]


def _front_in_words(front: pd.DataFrame, bound: pd.DataFrame, cost: Cost) -> str:
    said = [
        f"{'pure noise' if row.prior == 'noise' else row.label} {row.fid:.3g} in "
        f"{getattr(row, cost.column):.{cost.digits}g} {cost.unit}"
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


def break_even(book: Book) -> Figure:
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

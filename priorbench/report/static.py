"""The figures of a report for papers: the data of the page, drawn by matplotlib."""

import io
import math
import re
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from ..files import write_atomically
from .model import Axis, Figure, Series

MARKERS = {
    "circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "triangle-down": "v",
    "cross": "P", "x": "X", "star": "*", "hexagon": "h", "pentagon": "p",
}  # fmt: skip
LINE_STYLES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
NEUTRAL = {"ink": "#16181d", "muted": "#7a7f87"}
# Journals ask for Type 42 fonts. Text that stays text can be searched and edited.
RC_PARAMS: Any = {
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "priorbench",
    "text.parse_math": False,
}
# Without dates and versions in them, equal runs write equal files.
METADATA = {
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
    "png": {"Software": None},
}


def write_figures(figures: list[Figure], folder: Path, formats: list[str]) -> list[Path]:
    """Write one file per figure, view and format.

    Series that the page hides at first are left out.

    Arguments:
        formats: some of ``pdf``, ``svg`` and ``png``.
    """
    from matplotlib import rc_context

    written = []
    for figure in figures:
        for view in figure.views:
            name = figure.id if len(figure.views) == 1 else f"{figure.id}-{_slug(view)}"
            with rc_context(RC_PARAMS):
                canvas = draw_figure(figure, view)
                for kind in formats:
                    buffer = io.BytesIO()
                    canvas.savefig(buffer, format=kind, dpi=200, metadata=METADATA[kind])
                    write_atomically(folder / f"{name}.{kind}", buffer.getvalue())
                    written.append(folder / f"{name}.{kind}")
    return written


def _slug(view: str) -> str:
    return re.sub(r"[^A-Za-z0-9+]+", "-", view).strip("-")


def draw_figure(figure: Figure, view: str) -> Canvas:
    """One view of a figure, 6 x 4 inches."""
    canvas = Canvas(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    for series in figure.views[view]:
        if not series.hidden:
            _add(axes, series)
    _scale(axes, figure.x, "x")
    _scale(axes, figure.y, "y")
    title = figure.title if len(figure.views) == 1 else f"{figure.title}: {view}"
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(color="#e6e6e3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    canvas.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return canvas


def _add(axes: Axes, series: Series) -> None:
    style = series.style
    colour = NEUTRAL.get(style.colour, style.colour)
    shape = style.symbol.removesuffix("-open")
    marker = MARKERS[shape] if "markers" in series.mode else ""
    axes.plot(
        series.x, series.y, color=colour, marker=marker, markersize=style.size * 0.7, linewidth=1.4,
        linestyle=LINE_STYLES[style.dash] if "lines" in series.mode else "", label=series.name,
        markerfacecolor="white" if style.symbol.endswith("-open") else colour,
        drawstyle="steps-post" if series.step else "default",
    )  # fmt: skip
    known = [i for i, low in enumerate(series.low) if not math.isnan(low)]
    x, y, low, high = (
        [values[i] for i in known] for values in (series.x, series.y, series.low, series.high)
    )
    if known and series.band:
        axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
    elif known:
        around = [
            [a - b for a, b in zip(y, low, strict=True)],
            [b - a for a, b in zip(y, high, strict=True)],
        ]
        axes.errorbar(x, y, around, color=colour, fmt="none", elinewidth=0.8)


def _scale(axes: Axes, axis: Axis, which: str) -> None:
    axes.set(**{f"{which}label": axis.title})
    drawn = axes.xaxis if which == "x" else axes.yaxis
    drawn.label.set_fontsize(9)
    drawn.set_tick_params(labelsize=8)
    if axis.log:
        axes.set(**{f"{which}scale": "log"})
        low, high = drawn.get_view_interval()
        drawn.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1e3 else (1,)))
        drawn.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        drawn.set_minor_formatter(NullFormatter())
    if axis.ticks:
        names = dict(axis.ticks)
        drawn.set_major_locator(FixedLocator(list(names)))
        drawn.set_major_formatter(FuncFormatter(lambda value, _: names.get(value, "")))

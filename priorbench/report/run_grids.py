"""Sample grids: x_{t_trunc} above, and below it the images that the frozen model makes of it."""

import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..files import write_atomically
from ..pictures import mosaic
from ..plan.budget import size
from ..plan.layout import Plan
from ..plan.spec import ImageKey
from ..store.results import Store
from .samples import by_key, picture_name


def grid(x_t: np.ndarray, x_0: np.ndarray, above: str, below: str) -> bytes:
    """A PNG of two mosaics with their titles."""
    figure = Figure(figsize=(5, 4.9), dpi=120)
    FigureCanvasAgg(figure)
    # The places are given: matplotlib would draw everything twice to find them, and a run has a
    # grid for each prior and t_trunc.
    places = {"left": 0.01, "right": 0.99, "bottom": 0.01, "top": 0.95, "hspace": 0.13}
    for axis, images, title in zip(
        figure.subplots(2, 1, gridspec_kw=places), (x_t, x_0), (above, below), strict=True
    ):
        picture = mosaic(images)
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.set_title(title, fontsize=9, y=1.0)
        axis.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def write_grids(plan: Plan, store: Store) -> list[Path]:
    """Write one PNG per prior and t_trunc, of the first seed and the last solver setting.

    Of several budgets it is the largest that the prior has.

    The grid of pure noise shows the full chain instead.
    """
    written = []
    first = [s for s in plan.cells if s.seed == plan.config.seed and store.images_path(s).is_file()]
    by_budget = sorted(first, key=lambda spec: size(spec.fit_budget or ""))
    for spec in {(spec.label, spec.t_trunc): spec for spec in by_budget}.values():
        images = by_key(store.images(spec))
        made = [key for key in images if key.kind == "x_0"]
        key = made[0 if spec.t_trunc == plan.T else -1]  # at T the full chain comes first
        path = store.folder / "grids" / picture_name(spec.label, spec.t_trunc)
        label = spec.label.replace("\\", "\\\\").replace("$", r"\$")  # a name is not a formula
        above = f"{label}: $x_{{{spec.t_trunc}}}$"
        below = f"$x_0$ by {key.solver}, {key.nfe} evaluations"
        write_atomically(path, grid(images[ImageKey("x_t")], images[key], above, below))
        written.append(path)
    return written

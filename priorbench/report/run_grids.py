"""Sample grids: x_{t_trunc} above, what the frozen model made of it below."""

import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..files import write_atomically
from ..plan.layout import Plan
from ..store.results import Store
from .samples import picture_name

COLUMNS, ROWS = 10, 4


def mosaic(images: np.ndarray) -> np.ndarray:
    """(N, C, H, W) bytes as one picture (h, w) or (h, w, 3), ``COLUMNS`` across, a white line
    between.
    """
    images = images[: COLUMNS * ROWS]
    n, channels, height, width = images.shape
    rows = -(-n // COLUMNS)
    canvas = np.full((channels, rows * (height + 1) + 1, COLUMNS * (width + 1) + 1), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = (i // COLUMNS) * (height + 1) + 1, (i % COLUMNS) * (width + 1) + 1
        canvas[:, y : y + height, x : x + width] = image
    return canvas[0] if channels == 1 else canvas.transpose(1, 2, 0)


def grid(x_t: np.ndarray, x_0: np.ndarray, above: str, below: str) -> bytes:
    """A PNG of two mosaics with their titles."""
    figure = Figure(figsize=(5, 4.9), dpi=120)
    FigureCanvasAgg(figure)
    # Places given, not found: finding them draws everything twice, and a run has a grid for each
    # prior and t_trunc.
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
    """One PNG per prior and t_trunc, of the first seed, by its last solver setting; pure noise by
    the full chain.
    """
    written = []
    for spec in plan.cells:
        if spec.seed != plan.config.seed or not store.images_path(spec).is_file():
            continue
        images = store.images(spec)
        made = [(n, v) for n, v in images.items() if n.startswith("x_0 ")]
        name, x_0 = made[
            0 if spec.t_trunc == plan.T else -1
        ]  # pure noise: by the full chain, which comes first
        _, solver, nfe = name.split(" ")
        path = store.folder / "grids" / picture_name(spec.label, spec.t_trunc)
        label = spec.label.replace("\\", "\\\\").replace(
            "$", r"\$"
        )  # no formula, whatever a user wrote
        above = f"{label}: $x_{{{spec.t_trunc}}}$"
        write_atomically(
            path, grid(images["x_t"], x_0, above, f"$x_0$ by {solver}, {nfe} evaluations")
        )
        written.append(path)
    return written

"""Sample grids for the page: z, x_{t_trunc}, a few moments of the chain, x_0; a row a moment, a
column a sample.
"""

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..files import UNREADABLE
from ..tables.columns import LABEL
from ..tables.words import named

ACROSS = 10  # samples beside each other, at most
FEW = 5  # and at least
BUDGET = 4_000_000  # bytes of pixels on a page; what does not fit is shown as fewer samples, then smaller
LARGEST = 96  # pixels across a sample


@dataclass
class Grid:
    """One picture: its rows' names from above, and the training images nearest to the last row.
    ``picture`` alone where the run has kept no more than its own PNG.
    """

    label: str
    t_trunc: int
    setting: str
    rows: list[str]
    picture: str
    nearest: str = ""
    control: bool = False


def picture_name(label: str, t_trunc: int) -> str:
    """The file of a grid in ``grids/``."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "-", label).strip("-") + f"-t{t_trunc}.png"


def grids(table: pd.DataFrame, folders: dict[str, Path]) -> list[Grid]:
    """A grid for each prior and t_trunc of the first seed: from ``images/`` of its run, else from
    ``grids/``.

    Arguments:
        table: rows with their ``run``, a key of ``folders``.
    """
    cells = table[table.status == "ok"].fillna({"params": ""}).sort_values("seed", kind="stable")
    cells = cells.drop_duplicates([*LABEL, "t_trunc"]).sort_index()
    kept: list[tuple[Any, dict[str, np.ndarray]]] = []
    for row in cells.itertuples():
        folder = folders[row.run]
        try:
            with np.load(folder / "images" / f"{row.cell}.npz", allow_pickle=False) as images:
                kept.append((row, {name: images[name] for name in images.files}))
        except UNREADABLE:
            path = folder / "grids" / picture_name(named(row.prior, row.params), row.t_trunc)
            if path.is_file():
                kept.append((row, {"": np.frombuffer(path.read_bytes(), np.uint8)}))
    scale = _scale([images for _, images in kept])
    made = [_grid(row, images, *scale) for row, images in kept]
    return sorted((grid for grid in made if grid), key=lambda g: g.control)


def moments(images: dict[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray]]:
    """The setting, and name -> images (N, C, H, W) from z to x_0, of what a cell has kept."""
    chain = {int(name.split(" ")[-1]): name for name in images if name.startswith("chain ")}
    if chain:
        solver, nfe = chain[0].split(" ")[1:3]
        rows = {name: images[name] for name in ("z", "f(z)") if name in images}
        states = {f"x_{t}": images[chain[t]] for t in sorted(chain, reverse=True)}
        first = next(iter(states))
        if "f(z)" in rows and np.array_equal(rows["f(z)"], states[first]):
            rows.pop("f(z)")
            states = {
                (f"f(z) = {name}" if name == first else name): x for name, x in states.items()
            }
        return f"{solver}, NFE {nfe}", rows | states
    made = [name for name in images if name.startswith("x_0 ")]
    if "x_t" not in images or not made:
        return "", {}
    _, solver, nfe = made[-1].split(" ")
    return f"{solver}, NFE {nfe}", {"x_t": images["x_t"], "x_0": images[made[-1]]}


def _scale(every: list[dict[str, np.ndarray]]) -> tuple[int, float]:
    """How many samples across, and how much smaller, so that the page keeps its budget."""
    rows = [x for images in every for x in moments(images)[1].values()]
    rows += [images["nearest"] for images in every if "nearest" in images]
    pixels = sum(x[0].size for x in rows)
    if not pixels:
        return ACROSS, 1.0
    across = int(np.clip(BUDGET // pixels, FEW, ACROSS))
    return across, min(
        1.0, (BUDGET / (pixels * across)) ** 0.5, LARGEST / max(max(x.shape[2:]) for x in rows)
    )


def _grid(row: Any, images: dict[str, np.ndarray], across: int, scale: float) -> Grid | None:
    label, control = named(row.prior, row.params), bool(row.control)
    if "" in images:
        return Grid(label, row.t_trunc, "", [], _uri(images[""].tobytes()), control=control)
    by, rows = moments(images)
    if not rows:
        return None
    *_, height, width = list(rows.values())[-1].shape
    size = max(1, round(width * scale)), max(1, round(height * scale))
    nearest = sprite([images["nearest"]], across, size) if "nearest" in images else ""
    return Grid(
        label,
        row.t_trunc,
        by,
        list(rows),
        sprite(list(rows.values()), across, size),
        nearest,
        control,
    )


def sprite(rows: list[np.ndarray], across: int, size: tuple[int, int]) -> str:
    """Rows of images (N, C, H, W) as one PNG, a transparent line of a pixel between, as a data URI."""
    width, height = size
    colour = any(x.shape[1] == 3 for x in rows)
    canvas = Image.new(
        "RGBA" if colour else "LA", (across * (width + 1) - 1, len(rows) * (height + 1) - 1)
    )
    for i, images in enumerate(rows):
        for j, image in enumerate(images[:across]):
            tile = Image.fromarray(image.transpose(1, 2, 0) if len(image) == 3 else image[0])
            if tile.size != size:
                smaller = tile.width > width
                tile = tile.resize(
                    size, Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
                )
            canvas.paste(tile.convert(canvas.mode), (j * (width + 1), i * (height + 1)))
    buffer = io.BytesIO()
    canvas.save(buffer, format="png", optimize=False, compress_level=9)
    return _uri(buffer.getvalue())


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()

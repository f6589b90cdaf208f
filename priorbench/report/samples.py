"""Sample grids for the page: z, x_{t_trunc}, a few states of the chain, and x_0.

A row is a stage on the way from z to x_0, a column is a sample.
"""

import base64
import io
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..files import UNREADABLE
from ..pictures import ACROSS
from ..plan.spec import ImageKey
from ..tables.columns import LABEL, budgets_of, succeeded, with_budget
from ..tables.words import named
from .model import setting

Images = dict[ImageKey, np.ndarray]  # each (N, C, H, W) bytes

FEW = 5  # samples side by side, at least
BUDGET = 4_000_000  # bytes of pixels on a page: beyond it samples are left out, then made smaller
LARGEST = 96  # pixels across a sample


@dataclass
class Grid:
    """One picture with the names of its rows, from above.

    ``nearest`` holds the training images nearest to the last row. A run that kept nothing but the
    PNG of a grid has a ``picture`` without rows.
    """

    label: str
    t_trunc: int
    setting: str
    rows: list[str]
    picture: str
    nearest: str = ""
    control: bool = False


def picture_name(label: str, t_trunc: int) -> str:
    """The name of a grid's file in ``grids/``."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "-", label).strip("-") + f"-t{t_trunc}.png"


def by_key(images: dict[str, np.ndarray]) -> Images:
    """Kept images by their typed names; images of other names are left out."""
    found: Images = {}
    for name, image in images.items():
        with suppress(ValueError):
            found[ImageKey.parse(name)] = image
    return found


def grids(table: pd.DataFrame, folders: dict[str, Path]) -> list[Grid]:
    """A grid for each prior and t_trunc of the first seed and the last budget, contenders first.

    It is made of the images that the run kept in ``images/``, or else of the PNG in ``grids/``.

    Arguments:
        table: rows with their ``run``, a key of ``folders``.
    """
    cells = with_budget(succeeded(table), budgets_of(table)[-1]).fillna({"params": ""})
    cells = cells.sort_values("seed", kind="stable")
    cells = cells.drop_duplicates([*LABEL, "t_trunc"]).sort_index()
    kept = [(row, *_read(row, folders[row.run])) for row in cells.itertuples()]
    scale = _scale([images for _, images, _ in kept])
    made = [_grid(row, images, picture, *scale) for row, images, picture in kept]
    return sorted((grid for grid in made if grid), key=lambda g: g.control)


def _read(row: Any, folder: Path) -> tuple[Images, bytes]:
    """The kept images of a cell, else the PNG of its grid; both are empty if there is neither."""
    try:
        with np.load(folder / "images" / f"{row.cell}.npz", allow_pickle=False) as images:
            return by_key({name: images[name] for name in images.files}), b""
    except UNREADABLE:
        path = folder / "grids" / picture_name(named(row.prior, row.params), row.t_trunc)
        return {}, path.read_bytes() if path.is_file() else b""


def stages(images: Images) -> tuple[str, dict[str, np.ndarray]]:
    """The solver setting of a cell's images, and its stages from z to x_0: name -> (N, C, H, W)."""
    chain = {key.t: key for key in images if key.kind == "chain"}
    if chain:
        latents = {name: images.get(ImageKey(name)) for name in ("z", "f(z)")}
        rows = {name: x for name, x in latents.items() if x is not None}
        states = {f"x_{t}": images[chain[t]] for t in sorted(chain, reverse=True)}
        first = next(iter(states))
        if "f(z)" in rows and np.array_equal(rows["f(z)"], states[first]):
            rows.pop("f(z)")  # the prior emits x_t: the two rows are one
            states = {f"f(z) = {first}": states.pop(first)} | states
        return setting(chain[0].solver, chain[0].nfe), rows | states
    made = [key for key in images if key.kind == "x_0"]
    x_t = images.get(ImageKey("x_t"))
    if x_t is None or not made:
        return "", {}
    return setting(made[-1].solver, made[-1].nfe), {"x_t": x_t, "x_0": images[made[-1]]}


def _scale(every: list[Images]) -> tuple[int, float]:
    """How many samples stand side by side, and by how much they shrink, to keep the budget."""
    rows = [x for images in every for x in stages(images)[1].values()]
    rows += [x for images in every for key, x in images.items() if key.kind == "nearest"]
    pixels = sum(x[0].size for x in rows)
    if not pixels:
        return ACROSS, 1.0
    across = int(np.clip(BUDGET // pixels, FEW, ACROSS))
    within_budget = (BUDGET / (pixels * across)) ** 0.5
    return across, min(1.0, within_budget, LARGEST / max(max(x.shape[2:]) for x in rows))


def _grid(row: Any, images: Images, picture: bytes, across: int, scale: float) -> Grid | None:
    label, control = named(row.prior, row.params), bool(row.control)
    if picture:
        return Grid(label, row.t_trunc, "", [], _uri(picture), control=control)
    by, rows = stages(images)
    if not rows:
        return None
    *_, height, width = list(rows.values())[-1].shape
    size = max(1, round(width * scale)), max(1, round(height * scale))
    drawn = sprite(list(rows.values()), across, size)
    neighbours = images.get(ImageKey("nearest"))
    nearest = "" if neighbours is None else sprite([neighbours], across, size)
    return Grid(label, row.t_trunc, by, list(rows), drawn, nearest, control)


def sprite(rows: list[np.ndarray], across: int, size: tuple[int, int]) -> str:
    """Rows of images (N, C, H, W) as one PNG, in a data URI; transparent lines separate them."""
    width, height = size
    colour = any(x.shape[1] == 3 for x in rows)
    canvas = Image.new(
        "RGBA" if colour else "LA", (across * (width + 1) - 1, len(rows) * (height + 1) - 1)
    )
    for i, images in enumerate(rows):
        for j, image in enumerate(images[:across]):
            tile = Image.fromarray(image.transpose(1, 2, 0) if len(image) == 3 else image[0])
            if tile.size != size:
                by = Image.Resampling.BOX if tile.width > width else Image.Resampling.NEAREST
                tile = tile.resize(size, by)
            canvas.paste(tile.convert(canvas.mode), (j * (width + 1), i * (height + 1)))
    buffer = io.BytesIO()
    canvas.save(buffer, format="png", optimize=False, compress_level=9)
    return _uri(buffer.getvalue())


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()

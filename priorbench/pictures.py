"""Bytes as pictures."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

ACROSS = 10  # samples side by side, at most
SEEN = 32  # pixels across an image of an overview, about, at least
DOWN = 4  # rows of images in a mosaic, at most


def as_pil(images: "Tensor") -> list[Any]:
    """Bytes (N, C, H, W), of 1 or 3 channels, as a list of :class:`PIL.Image.Image`.

    Raises:
        UserError: if they have other channels.
    """
    from PIL import Image

    if images.shape[1] not in (1, 3):
        raise UserError(f"images of {images.shape[1]} channels are neither grey nor RGB pictures")
    return [
        Image.fromarray(x[0].numpy() if len(x) == 1 else x.permute(1, 2, 0).numpy()) for x in images
    ]


def mosaic(images: np.ndarray, across: int = ACROSS, down: int = DOWN) -> np.ndarray:
    """Images (N, C, H, W) of bytes as one picture, (h, w) or (h, w, 3).

    ``across`` images stand in each of at most ``down`` rows; white lines separate them.
    """
    images = images[: across * down]
    n, channels, height, width = images.shape
    rows = -(-n // across)
    canvas = np.full((channels, rows * (height + 1) + 1, across * (width + 1) + 1), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = (i // across) * (height + 1) + 1, (i % across) * (width + 1) + 1
        canvas[:, y : y + height, x : x + width] = image
    return canvas[0] if channels == 1 else canvas.transpose(1, 2, 0)


def overview(images: "Tensor", across: int = ACROSS, down: int = DOWN) -> Any:
    """The first of the bytes (N, C, H, W) as one picture, small ones enlarged: a PIL image."""
    from PIL import Image

    picture = Image.fromarray(mosaic(images.numpy(), across, down))
    times = max(1, SEEN // images.shape[-1])
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)

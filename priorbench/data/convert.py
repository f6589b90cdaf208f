"""From files and arrays to bytes (N, C, H, W)."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import UserError

GREY = ("1", "L", "LA", "I;16", "I;16L", "I;16B", "I", "F")


@dataclass(frozen=True)
class Read:
    """Images (N, C, H, W) and labels (N,) of each split; no labels where there are no folders to tell them by."""

    images: dict[str, Tensor]
    labels: dict[str, Tensor]


def read_images(
    splits: Mapping[str, Path | list[Image.Image]], resize: int | None = None, channels: int | None = None
) -> Read:
    """Read every image, from folders or as PIL has them.

    They are grey if all of them are, else all are colour; transparency is laid on black, rotation tags are obeyed.

    Raises:
        UserError: naming all images that cannot be read, or, where nothing was said of ``resize``, the sizes that
            differ.
    """
    problems: list[str] = []
    pixels: dict[str, list[np.ndarray]] = {}
    classes: dict[str, list[str | None]] = {}
    for split, source in splits.items():
        pixels[split], classes[split] = [], []
        for where, item in _items(source):
            try:
                pixels[split].append(_pixels(item, resize, channels))
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
                problems.append(f"{where} ({' '.join(str(error).split()) or type(error).__name__})")
                continue
            inside = isinstance(source, Path) and isinstance(item, Path) and item.relative_to(source).parts[:-1]
            classes[split].append(inside[0] if inside else None)
        if not pixels[split] and not problems:
            raise UserError(f"{source if isinstance(source, Path) else 'the data set'} holds no images")
    if problems:
        raise UserError(f"{len(problems)} images cannot be read: {', '.join(problems)}")
    every = [p for split in pixels.values() for p in split]
    colour = any(p.ndim == 3 for p in every)
    shapes = {p.shape[:2] for p in every}
    if len(shapes) > 1:
        found = ", ".join(f"{h}x{w}" for h, w in sorted(shapes)[:5]) + (", ..." if len(shapes) > 5 else "")
        raise UserError(f"the images differ in size: {found}; resize=PIXELS brings them to one")
    images = {split: torch.from_numpy(_stack(found, colour)) for split, found in pixels.items()}
    names = sorted({c for found in classes.values() for c in found if c is not None})
    labelled = len(names) > 1 and all(c is not None for found in classes.values() for c in found)
    labels = {s: torch.tensor([names.index(c) for c in found if c]) for s, found in classes.items()} if labelled else {}
    return Read(images, labels)


def _items(source: Path | list[Image.Image]) -> Iterable[tuple[str, Path | Image.Image]]:
    if isinstance(source, list):
        return ((f"image {i}", image) for i, image in enumerate(source))
    known = Image.registered_extensions()
    files = sorted(p for p in source.rglob("*") if p.suffix.lower() in known and p.is_file())
    hidden = [any(part.startswith(".") for part in p.relative_to(source).parts) for p in files]
    return ((str(p), p) for p, skip in zip(files, hidden, strict=True) if not skip)


def _pixels(item: Path | Image.Image, resize: int | None, channels: int | None) -> np.ndarray:
    """Bytes (H, W) or (H, W, 3)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        if isinstance(item, Image.Image):
            image = item
        else:
            with Image.open(item) as opened:
                opened.load()
                image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}: 8 or 16 bits a channel are wanted")
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        grey = image.mode in ("LA", "La", "L")
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        image = image.convert("L" if grey else "RGB")
    image = image.convert({1: "L", 3: "RGB"}.get(channels or 0, "L" if image.mode in GREY else "RGB"))
    if resize:
        image = ImageOps.fit(image, (resize, resize), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _stack(pixels: list[np.ndarray], colour: bool) -> np.ndarray:
    if colour:
        pixels = [p if p.ndim == 3 else np.repeat(p[..., None], 3, axis=2) for p in pixels]
        return np.stack(pixels).transpose(0, 3, 1, 2).copy()
    return np.stack(pixels)[:, None]


def as_bytes(array: np.ndarray, what: str) -> Tensor:
    """An array (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W) of uint8 as a tensor (N, C, H, W)."""
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise UserError(
            f"data set {what!r} must be of bytes (uint8, 0..255) and of shape (N, H, W), (N, H, W, C) or (N, C, H, W), "
            f"got {array.dtype} of shape {array.shape}"
        )
    if array.ndim == 3:
        array = array[:, None]
    else:
        first, last = array.shape[1] in (1, 3), array.shape[3] in (1, 3)
        if first == last:
            what_is = "both" if first else "neither"
            raise UserError(f"data set {what!r}: of shape {array.shape}, {what_is} axis 1 or 3 could be the channels")
        array = array if first else array.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(array))


def converted(images: Tensor, resize: int | None = None, channels: int | None = None) -> Tensor:
    """(N, C, H, W) bytes with the middle square brought to ``resize`` pixels (bicubic, antialiased) and ``channels``: 1
    for grey (the luma of ITU-R 601), 3 for grey repeated. One image at a time, by the same steps as those of a folder.
    """
    same_size = resize is None or tuple(images.shape[2:]) == (resize, resize)
    same_channels = channels is None or images.shape[1] == channels
    if same_size and same_channels:
        return images
    found = [_pixels(_image(x), resize, channels) for x in images]
    return torch.from_numpy(_stack(found, (channels or images.shape[1]) == 3))


def _image(x: Tensor) -> Image.Image:
    return Image.fromarray(x[0].numpy() if len(x) == 1 else x.permute(1, 2, 0).contiguous().numpy())

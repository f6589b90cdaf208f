"""From files and arrays to bytes (N, C, H, W)."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_NAMED = ", ".join(FORMATS)
GREY = ("1", "L", "LA", "I;16", "I;16L", "I;16B", "I", "F")

Item: TypeAlias = Path | Image.Image
T = TypeVar("T")


@dataclass(frozen=True)
class Read:
    """Images (N, C, H, W) and labels (N,) of each split; no labels where there are no folders to
    tell them by.
    """

    images: dict[str, Tensor]
    labels: dict[str, Tensor]


def read_images(
    splits: Mapping[str, Path | list[Image.Image]],
    resize: int | None = None,
    channels: int | None = None,
) -> Read:
    """Read every image, from folders or as PIL has them.

    They are grey if all of them are, else all are colour; transparency is laid on black, rotation
    tags are obeyed. A file must be of one of :data:`FORMATS`, by its suffix and by its content, so
    that no other parser of Pillow's, nor Ghostscript, which it starts for EPS, ever sees it.

    Raises:
        UserError: naming all images that cannot be read, or, where nothing was said of ``resize``,
            the sizes that differ, before any pixel is decoded where the headers can tell.
    """
    items = {split: _items(source) for split, source in splits.items()}
    for split, source in splits.items():
        if not items[split]:
            folder = isinstance(source, Path)
            raise UserError(
                f"{source} holds no images ({_NAMED})" if folder else "the data set holds no images"
            )
    problems: dict[str, str] = {}
    if not resize:
        sizes = _each([i for found in items.values() for i in found], _sizes, problems)
        if sizes and not set(sizes[0]).intersection(*sizes):
            raise _differ({size[0] for size in sizes}, problems)
    shapes: set[tuple[int, ...]] = set()

    def decode(item: Item) -> np.ndarray:
        found = _pixels(item, resize, channels)
        shapes.add(found.shape[:2])
        if len(shapes) > 1:  # by a rotation tag that the header does not tell
            raise _differ(shapes, problems)
        return found

    pixels = {split: _each(found, decode, problems) for split, found in items.items()}
    if problems:
        raise UserError(_unreadable(problems))
    colour = any(p.ndim == 3 for found in pixels.values() for p in found)
    images = {split: torch.from_numpy(_stack(found, colour)) for split, found in pixels.items()}
    classes = {
        split: [_class(source, item) for _, item in items[split]]
        for split, source in splits.items()
    }
    names = sorted({c for found in classes.values() for c in found if c is not None})
    labelled = len(names) > 1 and all(c is not None for found in classes.values() for c in found)
    labels = (
        {s: torch.tensor([names.index(c) for c in found if c]) for s, found in classes.items()}
        if labelled
        else {}
    )
    return Read(images, labels)


def _items(source: Path | list[Image.Image]) -> list[tuple[str, Item]]:
    if isinstance(source, list):
        return [(f"image {i}", image) for i, image in enumerate(source)]
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    files = sorted(p for p in source.rglob("*") if p.suffix.lower() in known and p.is_file())
    hidden = [any(part.startswith(".") for part in p.relative_to(source).parts) for p in files]
    return [(str(p), p) for p, skip in zip(files, hidden, strict=True) if not skip]


def _class(source: Path | list[Image.Image], item: Item) -> str | None:
    inside = (
        isinstance(source, Path) and isinstance(item, Path) and item.relative_to(source).parts[:-1]
    )
    return inside[0] if inside else None


def _each(
    items: list[tuple[str, Item]], read: Callable[[Item], T], problems: dict[str, str]
) -> list[T]:
    """What ``read`` makes of each; those that cannot be read go to ``problems``, with the reason."""
    found = []
    for where, item in items:
        try:
            found.append(read(item))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
            problems[where] = " ".join(str(error).split()) or type(error).__name__
    return found


def _unreadable(problems: dict[str, str]) -> str:
    named = ", ".join(f"{where} ({reason})" for where, reason in problems.items())
    return f"{len(problems)} images cannot be read: {named}"


def _differ(sizes: set[tuple[int, ...]], problems: dict[str, str]) -> UserError:
    found = ", ".join(f"{h}x{w}" for h, w in sorted(sizes)[:5]) + (
        ", ..." if len(sizes) > 5 else ""
    )
    said = f"the images differ in size: {found}; resize=PIXELS brings them to one"
    return UserError(f"{_unreadable(problems)}; {said}" if problems else said)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image in a file, its pixels not decoded yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            opened = Image.open(path, formats=FORMATS)
        except UnidentifiedImageError as error:
            raise ValueError(f"none of {_NAMED}") from error
        with opened:
            yield opened


def _sizes(item: Item) -> list[tuple[int, int]]:
    """The (H, W) that an image can have, by its header alone, once its rotation tag is obeyed."""
    if isinstance(item, Image.Image):
        return [(item.height, item.width)]
    with _opened(item) as image:
        tag = Image.Image.getexif(image).get(
            ExifTags.Base.Orientation
        )  # a PNG's own getexif decodes its pixels
        upright, turned = (image.height, image.width), (image.width, image.height)
        if image.format == "TIFF" or (image.format == "PNG" and tag is None):
            return [
                upright,
                turned,
            ]  # some versions of Pillow turn a TIFF as they open it; a PNG's tag may come last
        return [turned if tag in (5, 6, 7, 8) else upright]


def _pixels(item: Item, resize: int | None, channels: int | None) -> np.ndarray:
    """Bytes (H, W) or (H, W, 3)."""
    if isinstance(item, Image.Image):
        image = item
    else:
        with _opened(item) as opened:
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
    image = image.convert(
        {1: "L", 3: "RGB"}.get(channels or 0, "L" if image.mode in GREY else "RGB")
    )
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
            raise UserError(
                f"data set {what!r}: of shape {array.shape}, {what_is} axis 1 or 3 could be the channels"
            )
        array = array if first else array.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(array))


def converted(images: Tensor, resize: int | None = None, channels: int | None = None) -> Tensor:
    """(N, C, H, W) bytes with the middle square brought to ``resize`` pixels (bicubic, antialiased)
    and ``channels``: 1 for grey (the luma of ITU-R 601), 3 for grey repeated. One image at a time,
    by the same steps as those of a folder.
    """
    same_size = resize is None or tuple(images.shape[2:]) == (resize, resize)
    same_channels = channels is None or images.shape[1] == channels
    if same_size and same_channels:
        return images
    found = [_pixels(_image(x), resize, channels) for x in images]
    return torch.from_numpy(_stack(found, (channels or images.shape[1]) == 3))


def _image(x: Tensor) -> Image.Image:
    return Image.fromarray(x[0].numpy() if len(x) == 1 else x.permute(1, 2, 0).contiguous().numpy())

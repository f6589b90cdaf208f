"""From files and arrays to bytes (N, C, H, W)."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..errors import UserError, one_line

#: The formats that are read, as Pillow names them.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_NAMED = ", ".join(FORMATS)
GREY = ("1", "L", "LA", "I;16", "I;16L", "I;16B", "I", "F")

Item: TypeAlias = Path | Image.Image

# What Pillow raises for a file that is damaged, too large, or no image.
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning)


@dataclass(frozen=True)
class Read:
    """Images (N, C, H, W) and labels (N,) of each split; no labels if no folders tell them."""

    images: dict[str, Tensor]
    labels: dict[str, Tensor]


@dataclass
class Picture:
    """One image on its way from a file, or from PIL, to bytes.

    Attributes:
        where: what messages call it.
        label: the name of the first folder on the way to it, or None.
        problem: why it cannot be read.
        pixels: bytes (H, W) or (H, W, 3), once decoded.
    """

    item: Item
    where: str
    label: str | None = None
    problem: str = ""
    pixels: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.uint8))


def read_images(
    splits: Mapping[str, Path | list[Image.Image]],
    resize: int | None = None,
    channels: int | None = None,
) -> Read:
    """Read every image, from folders or as PIL has them.

    The images are grey if all of them are, else all are colour. Transparency is laid on black, and
    rotation tags are obeyed. A file must be of one of :data:`FORMATS`, by its suffix and by its
    content. So no other parser of Pillow ever sees it, nor does Ghostscript, which Pillow starts
    for EPS.

    Raises:
        UserError: naming all images that cannot be read; or, without ``resize``, the sizes that
            differ. The sizes are compared before any pixel is decoded if the headers can tell.
    """
    found = {split: _pictures(source) for split, source in splits.items()}
    pictures = [picture for split in found.values() for picture in split]
    if not resize:
        _check_sizes(pictures)
    _decode(pictures, resize, channels)
    if any(picture.problem for picture in pictures):
        raise UserError(_unreadable(pictures))
    colour = any(picture.pixels.ndim == 3 for picture in pictures)
    images = {
        split: torch.from_numpy(_stack([picture.pixels for picture in those], colour))
        for split, those in found.items()
    }
    return Read(images, _labels(found))


def _pictures(source: Path | list[Image.Image]) -> list[Picture]:
    """The images of a list, or of a folder and all folders below it that are not hidden."""
    if isinstance(source, list):
        if not source:
            raise UserError("the data set holds no images")
        return [Picture(image, f"image {i}") for i, image in enumerate(source)]
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    pictures = []
    for path in sorted(p for p in source.rglob("*") if p.suffix.lower() in known and p.is_file()):
        parts = path.relative_to(source).parts
        if not any(part.startswith(".") for part in parts):
            pictures.append(Picture(path, str(path), parts[0] if len(parts) > 1 else None))
    if not pictures:
        raise UserError(f"{source} holds no images ({_NAMED})")
    return pictures


def _check_sizes(pictures: list[Picture]) -> None:
    """Raise if the headers tell that the images differ in size; note those that are unreadable."""
    sizes: list[list[tuple[int, int]]] = []
    first: dict[tuple[int, ...], str] = {}  # where each size was seen first
    for picture in pictures:
        try:
            sizes.append(_sizes(picture.item))
        except _UNREADABLE as error:
            picture.problem = one_line(error)
        else:
            first.setdefault(sizes[-1][0], picture.where)
    if sizes and not set(sizes[0]).intersection(*sizes):
        raise _differ(first, pictures)


def _decode(pictures: list[Picture], resize: int | None, channels: int | None) -> None:
    """Give every picture its pixels, or its problem."""
    first: dict[tuple[int, ...], str] = {}
    for picture in pictures:
        if picture.problem:
            continue
        try:
            picture.pixels = _pixels(picture.item, resize, channels)
        except _UNREADABLE as error:
            picture.problem = one_line(error)
            continue
        first.setdefault(picture.pixels.shape[:2], picture.where)
        if len(first) > 1:  # by a rotation tag that the header does not tell
            raise _differ(first, pictures)


def _labels(found: Mapping[str, list[Picture]]) -> dict[str, Tensor]:
    """The labels (N,) of each split, if every image lies in a folder and these are several."""
    named = {split: [picture.label for picture in those] for split, those in found.items()}
    every = {label for labels in named.values() for label in labels}
    if None in every or len(every) < 2:
        return {}
    index = {label: i for i, label in enumerate(sorted(filter(None, every)))}
    return {
        split: torch.tensor([index[label] for label in labels if label])
        for split, labels in named.items()
    }


def _unreadable(pictures: list[Picture]) -> str:
    found = [f"{p.where} ({p.problem})" for p in pictures if p.problem]
    return f"{len(found)} images cannot be read: {', '.join(found)}"


def _differ(first: dict[tuple[int, ...], str], pictures: list[Picture]) -> UserError:
    """The error for images of several sizes, each with the first image of that size."""
    shown = [f"{h}x{w} ({first[h, w]})" for h, w in sorted(first)[:5]]
    shown += ["..."] * (len(first) > 5)
    said = f"the images differ in size: {', '.join(shown)}; resize=PIXELS brings them to one size"
    unreadable = any(picture.problem for picture in pictures)
    return UserError(f"{_unreadable(pictures)}; {said}" if unreadable else said)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image in a file, before its pixels are decoded."""
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
        # Not image.getexif(): that of a PNG decodes its pixels.
        tag = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
        upright, turned = (image.height, image.width), (image.width, image.height)
        # Some versions of Pillow turn a TIFF as they open it, and the tag of a PNG may come last.
        if image.format == "TIFF" or (image.format == "PNG" and tag is None):
            return [upright, turned]
        return [turned if tag in (5, 6, 7, 8) else upright]


def _pixels(item: Item, resize: int | None, channels: int | None) -> np.ndarray:
    """Bytes (H, W) or (H, W, 3)."""
    image = _on_black(_in_bytes(_loaded(item)))
    own = "L" if image.mode in GREY else "RGB"
    image = image.convert({1: "L", 3: "RGB"}.get(channels or 0, own))
    if resize:
        image = ImageOps.fit(image, (resize, resize), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _loaded(item: Item) -> Image.Image:
    """The image with its pixels decoded, upright if it comes from a file."""
    if isinstance(item, Image.Image):
        return item
    with _opened(item) as opened:
        opened.load()
        return ImageOps.exif_transpose(opened)


def _in_bytes(image: Image.Image) -> Image.Image:
    """``image``, with 16 bits a channel brought to 8."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}: a channel must have 8 or 16 bits")
    return image


def _on_black(image: Image.Image) -> Image.Image:
    """``image``, laid on black if it is transparent anywhere."""
    transparent = image.mode in ("LA", "PA", "RGBA", "La", "RGBa")
    if not transparent and "transparency" not in image.info:
        return image
    grey = image.mode in ("LA", "La", "L")
    image = image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("L" if grey else "RGB")


def _stack(pixels: Sequence[np.ndarray], colour: bool) -> np.ndarray:
    """Bytes (N, C, H, W) of images (H, W) or (H, W, 3)."""
    if colour:
        pixels = [p if p.ndim == 3 else np.repeat(p[..., None], 3, axis=2) for p in pixels]
        return np.stack(pixels).transpose(0, 3, 1, 2).copy()
    return np.stack(pixels)[:, None]


def as_bytes(array: np.ndarray, what: str) -> Tensor:
    """An array of uint8 as a tensor (N, C, H, W), with C = 1 or 3.

    The array is (N, H, W), (N, H, W, C) or (N, C, H, W).

    Raises:
        UserError: naming the data set ``what``, if the array is of another type or shape.
    """
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise UserError(
            f"data set {what!r} must be of bytes (uint8, 0..255) and of shape (N, H, W), "
            f"(N, H, W, C) or (N, C, H, W), got {array.dtype} of shape {array.shape}"
        )
    if array.ndim == 3:
        array = array[:, None]
    else:
        first, last = array.shape[1] in (1, 3), array.shape[3] in (1, 3)
        if first == last:
            which = "both axis 1 and axis 3" if first else "neither axis 1 nor axis 3"
            raise UserError(
                f"data set {what!r}: of shape {array.shape}, {which} could be the channels"
            )
        array = array if first else array.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(array))


def converted(images: Tensor, resize: int | None = None, channels: int | None = None) -> Tensor:
    """Bytes (N, C, H, W) in another size or number of channels, as :func:`read_images` makes them.

    Arguments:
        resize: the middle square is brought to this many pixels a side (bicubic, antialiased).
        channels: 1 makes colour grey (the luma of ITU-R 601), 3 repeats grey three times.
    """
    same_size = resize is None or tuple(images.shape[2:]) == (resize, resize)
    same_channels = channels is None or images.shape[1] == channels
    if same_size and same_channels:
        return images
    found = [_pixels(_image(x), resize, channels) for x in images]
    return torch.from_numpy(_stack(found, (channels or images.shape[1]) == 3))


def _image(x: Tensor) -> Image.Image:
    """Bytes (C, H, W) as PIL has them."""
    return Image.fromarray(x[0].numpy() if len(x) == 1 else x.permute(1, 2, 0).contiguous().numpy())

"""The data set that a name stands for.

A name is that of a registered data set or of a class of torchvision, or it is the path of a folder
of images, of an ``.npz`` or of an ``.npy``.
"""

import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError, one_line, unknown
from ..plugin_manager import Registration, load_plugins
from .convert import as_bytes, converted, read_images
from .dataset import Dataset
from .from_torchvision import TORCHVISION, read_torchvision
from .options import COMMON, check_common, check_options, parameters
from .splits import HELD_OUT, SPLITS, by_content


def load_dataset(name: str, options: dict[str, Any] | None = None) -> Dataset:
    """The data set that ``name`` stands for.

    Arguments:
        name: a registered name; ``torchvision:CIFAR10`` or another class of
            ``torchvision.datasets``; the path of a folder of images; the path of an ``.npz`` or
            ``.npy`` file.
        options: every data set takes ``resize`` (the shorter side is brought to this many pixels,
            and the middle square is kept) and ``channels`` (1 or 3). Folders and files that are not
            split yet take ``validation`` and ``test``: shares or counts of images to hold out.
            Data sets of torchvision take these, ``root``, ``download`` and whatever else their
            class takes.

    Raises:
        UserError: naming all that is wrong with the name, the options or the images.
    """
    options = dict(options or {})
    common = {key: options.pop(key) for key in COMMON if key in options}
    check_common(name, common)
    path = Path(name).expanduser()
    registered = load_plugins().of_kind("dataset")
    if name in registered:
        dataset = _registered(registered[name], options, common)
    elif name.startswith(TORCHVISION):
        dataset = _torchvision(name, options, common)
    elif path.is_dir():
        dataset = _folder(path, name, options, common)
    elif path.is_file() and path.suffix in (".npz", ".npy"):
        dataset = _file(path, name, options, common)
    elif re.search(r"[/\\]|\.np[yz]$", name):
        raise UserError(
            f"data set {name!r}: there is no folder of images and no .npz or .npy file at that path"
        )
    else:
        raise unknown("data set", name, [*registered, f"{TORCHVISION}CLASS", "FOLDER", "FILE.npz"])
    asked = ",".join(f"{key}={value}" for key, value in sorted(common.items()))
    return replace(dataset, name=f"{dataset.name}[{asked}]") if asked else dataset


def _registered(entry: Registration, options: dict[str, Any], common: dict[str, Any]) -> Dataset:
    """The data set of a plugin."""
    factory = entry.load()
    check_options(entry.name, options, parameters(factory))
    dataset: Dataset = factory(**options)
    train, validation, test = (converted(getattr(dataset, s), **common) for s in SPLITS)
    return replace(dataset, train=train, validation=validation, test=test)


def _torchvision(name: str, options: dict[str, Any], common: dict[str, Any]) -> Dataset:
    """A class of torchvision: its own test split, and validation images of its training split."""
    held_out = {key: options.pop(key) for key in HELD_OUT if key in options}
    found = read_torchvision(name, options, common)
    return _split(name, found.images, found.labels, held_out)


def _folder(path: Path, name: str, options: dict[str, Any], common: dict[str, Any]) -> Dataset:
    """The images below ``path``; the first folder on the way to an image is its label.

    If there are ``path/train`` and ``path/test`` (and ``path/validation``), these are the splits.
    Else all images are split by their content.
    """
    check_options(name, options, tuple(HELD_OUT))
    parts = [split for split in SPLITS if (path / split).is_dir()]
    divided = {"train", "test"} <= set(parts)
    files = read_images(
        {split: path / split for split in parts} if divided else {"": path}, **common
    )
    return _split(name, files.images, files.labels, options)


def _file(path: Path, name: str, options: dict[str, Any], common: dict[str, Any]) -> Dataset:
    """The images of an ``.npy`` or ``.npz``, with the labels if the latter has some.

    An ``.npz`` holds ``images`` (and ``labels``), or the splits ``train`` and ``test`` (and
    ``validation``, ``train_labels``, ...).
    """
    check_options(name, options, tuple(HELD_OUT))
    arrays = _arrays(path, name)
    parts = [split for split in SPLITS if split in arrays]
    if {"train", "test"} <= set(parts):
        images = {
            split: converted(as_bytes(arrays[split], f"{name}[{split}]"), **common)
            for split in parts
        }
        labels = {
            split: _labels(arrays, f"{split}_labels", len(images[split]), name)
            for split in parts
            if f"{split}_labels" in arrays
        }
        return _split(name, images, labels if len(labels) == len(parts) else {}, options)
    key = "images" if "images" in arrays else next(iter(arrays)) if len(arrays) == 1 else None
    if key is None:
        raise UserError(
            f"data set {name!r} must hold the array 'images' (and 'labels'), or 'train' and "
            f"'test'; it holds {', '.join(sorted(arrays)) or 'nothing'}"
        )
    pixels = converted(as_bytes(arrays[key], name), **common)
    known = {"": _labels(arrays, "labels", len(pixels), name)} if "labels" in arrays else {}
    return _split(name, {"": pixels}, known, options)


def _arrays(path: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` by their names, or that of an ``.npy`` as ``images``."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"images": loaded}
        return {key: loaded[key] for key in loaded.files}
    except (OSError, ValueError, EOFError, MemoryError, BadZipFile, zlib.error) as error:
        raise UserError(f"data set {name!r} cannot be read: {one_line(error)}") from error


def _labels(arrays: dict[str, np.ndarray], key: str, n: int, name: str) -> Tensor:
    """The labels (n,) under ``key``."""
    labels = arrays[key].squeeze() if arrays[key].ndim > 1 else arrays[key]
    if labels.shape != (n,) or labels.dtype.kind not in "iu" or (n and labels.min() < 0):
        raise UserError(
            f"data set {name!r}: {key} must be {n} whole numbers from 0, "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    return torch.from_numpy(labels.astype(np.int64))


def _split(
    name: str, images: dict[str, Tensor], labels: dict[str, Tensor], held_out: dict[str, Any]
) -> Dataset:
    """A :class:`~priorbench.data.dataset.Dataset` of images that may be split already.

    Arguments:
        images: all under "", or those of ``train`` and ``test``, with or without ``validation``.
        labels: likewise; they are left out if a split has none.
        held_out: how many images to hold out for the splits that are missing.
    """
    sizes = {split: "x".join(map(str, x.shape[1:])) for split, x in images.items()}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{size} ({split})" for split, size in sizes.items())
        raise UserError(f"data set {name!r}: the splits have images of {found}")
    for split in held_out:
        if split in images:
            raise UserError(f"data set {name!r} has a split of its own for {split!r}")
    pool = "" if "" in images else "train"
    wanted = {s: held_out.get(s, share) for s, share in HELD_OUT.items() if s not in images}
    index = by_content(name, images[pool], wanted)
    source = dict.fromkeys(index, pool)
    for split in set(images) - {pool}:  # all of it, in the order of its content too
        index |= {split: by_content(name, images[split], {}, split)[split]}
        source[split] = split
    known = {}
    if set(labels) == set(images):
        known = {split: labels[source[split]][i] for split, i in index.items()}
    return Dataset(
        name, **{split: images[source[split]][i] for split, i in index.items()}, labels=known
    )

"""Images that users have: a folder, an ``.npz`` or ``.npy``, anything in torchvision; or a
registered data set.
"""

import inspect
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError, unknown
from ..plugin_manager import load_plugins
from .convert import as_bytes, converted, read_images
from .dataset import Dataset
from .splits import SPLITS, by_content

TORCHVISION = "torchvision:"
_COMMON = ("resize", "channels")  # every data set takes these


def load_dataset(name: str, options: dict[str, Any] | None = None) -> Dataset:
    """The data set that ``name`` stands for.

    Arguments:
        name: a registered name; ``torchvision:CIFAR10`` or another class of
            ``torchvision.datasets``; the path of a folder of images; the path of an ``.npz`` or
            ``.npy`` file.
        options: ``resize`` (the shorter side is brought to so many pixels, the middle square is
            kept) and ``channels`` (1 or 3) for any; ``validation`` and ``test`` (shares or counts
            to be held out) for folders and files that are not split yet; ``root``, ``download`` and
            whatever the class takes for torchvision.

    Raises:
        UserError: naming all that is wrong with the name, the options or the images.
    """
    options = dict(options or {})
    common = {key: options.pop(key) for key in _COMMON if key in options}
    _check_common(name, common)
    path = Path(name).expanduser()
    registered = load_plugins().of_kind("dataset")
    if name in registered:
        factory = registered[name].load()
        _check_options(name, options, factory)
        dataset = factory(**options)
        images = {split: converted(getattr(dataset, split), **common) for split in SPLITS}
        dataset = replace(dataset, **images)
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


def _check_common(name: str, common: dict[str, Any]) -> None:
    size, channels = common.get("resize", 1), common.get("channels", 1)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise UserError(f"data set {name!r}: resize must be a whole number of pixels, got {size!r}")
    if channels not in (1, 3):
        raise UserError(
            f"data set {name!r}: channels must be 1 (grey) or 3 (colour), got {channels!r}"
        )


def _check_options(name: str, options: dict[str, Any], takes: Any) -> None:
    """``takes``: the callable, or the names, that the options are for."""
    known = list(takes) if isinstance(takes, tuple | list) else _parameters(takes)
    for key in options:
        if key not in known:
            raise unknown("option", key, [*known, *_COMMON], of=f"data set {name!r}")


def _parameters(factory: Any) -> list[str]:
    return [p for p in inspect.signature(factory).parameters if not p.startswith("_")]


def _folder(path: Path, name: str, options: dict[str, Any], common: dict[str, Any]) -> Dataset:
    """``path/train`` and ``path/test`` (and ``path/validation``) where they are there, else all
    images below ``path``, split by their content. The first folder on the way to an image is its
    label.
    """
    _check_options(name, options, ("validation", "test"))
    parts = [split for split in SPLITS if (path / split).is_dir()]
    divided = {"train", "test"} <= set(parts)
    files = read_images(
        {split: path / split for split in parts} if divided else {"": path}, **common
    )
    return _split(name, files.images, files.labels, options)


def _file(path: Path, name: str, options: dict[str, Any], common: dict[str, Any]) -> Dataset:
    """An ``.npy`` of images; an ``.npz`` of ``images`` (and ``labels``), or of ``train`` and
    ``test`` (and ``validation``, ``train_labels``, ...).
    """
    _check_options(name, options, ("validation", "test"))
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = (
            {"images": loaded}
            if isinstance(loaded, np.ndarray)
            else {key: loaded[key] for key in loaded.files}
        )
    except (OSError, ValueError, EOFError, MemoryError, BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"data set {name!r} cannot be read: {reason}") from error
    parts = [split for split in SPLITS if split in arrays]
    if {"train", "test"} <= set(parts):
        images = {
            split: converted(as_bytes(arrays[split], f"{name}[{split}]"), **common)
            for split in parts
        }
        labels = {
            s: _labels(arrays, f"{s}_labels", len(images[s]), name)
            for s in parts
            if f"{s}_labels" in arrays
        }
        return _split(name, images, labels if len(labels) == len(parts) else {}, options)
    key = "images" if "images" in arrays else next(iter(arrays)) if len(arrays) == 1 else None
    if key is None:
        raise UserError(
            f"data set {name!r} must hold the array 'images' (and 'labels'), or 'train' and 'test'; "
            f"it holds {', '.join(sorted(arrays)) or 'nothing'}"
        )
    pixels = converted(as_bytes(arrays[key], name), **common)
    return _split(
        name,
        {"": pixels},
        {"": _labels(arrays, "labels", len(pixels), name)} if "labels" in arrays else {},
        options,
    )


def _labels(arrays: dict[str, np.ndarray], key: str, n: int, name: str) -> Tensor:
    labels = arrays[key].squeeze() if arrays[key].ndim > 1 else arrays[key]
    if labels.shape != (n,) or labels.dtype.kind not in "iu" or (n and labels.min() < 0):
        raise UserError(
            f"data set {name!r}: {key} must be {n} whole numbers from 0, got {labels.dtype} of shape {labels.shape}"
        )
    return torch.from_numpy(labels.astype(np.int64))


def _torchvision(name: str, options: dict[str, Any], common: dict[str, Any]) -> Dataset:
    """A class of ``torchvision.datasets``: its own test split, and validation images from its
    training split.
    """
    from torchvision import datasets

    class_name = name.removeprefix(TORCHVISION)
    classes = [
        n for n in datasets.__all__ if inspect.isclass(getattr(datasets, n)) and "Folder" not in n
    ]
    if class_name not in classes:
        raise unknown("data set of torchvision", class_name, classes)
    cls = getattr(datasets, class_name)
    ours: dict[str, Any] = {
        str(key): options.pop(key) for key in ("validation", "test") if key in options
    }
    options = {"root": "data"} | options if "root" in _parameters(cls) else options
    if "kwargs" not in _parameters(cls):  # EMNIST and ImageNet pass on to another class
        _check_options(
            name, options, [p for p in _parameters(cls) if p != "loader" and "transform" not in p]
        )

    def load(**split: Any) -> tuple[Tensor, Tensor | None]:
        try:
            found = cls(**options, **split)
            pairs = [(image, label) for image, label in (found[i][:2] for i in range(len(found)))]
        except Exception as error:  # each class of torchvision raises what it likes
            reason = " ".join(str(error).split()) or type(error).__name__
            hint = (
                ""
                if options.get("download")
                else "; download=true fetches it, root=FOLDER says where it is"
            )
            raise UserError(f"data set {name!r} cannot be had: {reason}{hint}") from error
        images = read_images({"": [image for image, _ in pairs]}, **common).images[""]
        labels = [label for _, label in pairs]
        return images, torch.tensor(labels) if all(
            isinstance(label, int) for label in labels
        ) else None

    takes = _parameters(cls)
    splits: dict[str, dict[str, Any]] = {
        "": {}
    }  # split -> the arguments that make the class load it
    if "train" in takes and "train" not in options:
        splits = {"train": {"train": True}, "test": {"train": False}}
    elif "split" in takes and "split" not in options:
        source = inspect.getsource(cls)
        train = next(
            (s for s in ("train", "trainval") if re.search(rf"[\"']{s}[\"']", source)), None
        )
        if train is None or not re.search(r"[\"']test[\"']", source):
            raise UserError(f"data set {name!r}: say which split to take, as split=NAME")
        splits = {"train": {"split": train}, "test": {"split": "test"}}
    loaded = {split: load(**arguments) for split, arguments in splits.items()}
    labels = {split: found for split, (_, found) in loaded.items() if found is not None}
    return _split(name, {split: images for split, (images, _) in loaded.items()}, labels, ours)


def _split(
    name: str, images: dict[str, Tensor], labels: dict[str, Tensor], options: dict[str, Any]
) -> Dataset:
    """A :class:`Dataset` of what is there: {"": all} or {"train": ..., "test": ...}, with or
    without validation.
    """
    sizes = {split: "x".join(map(str, x.shape[1:])) for split, x in images.items()}
    if len(set(sizes.values())) > 1:
        raise UserError(
            f"data set {name!r}: the splits have images of {', '.join(f'{v} ({k})' for k, v in sizes.items())}"
        )
    pool = "" if "" in images else "train"
    held_out = {
        s: options.pop(s, share)
        for s, share in (("validation", 0.1), ("test", 0.2))
        if s not in images
    }
    for key in options:
        raise UserError(f"data set {name!r} has a split of its own for {key!r}")
    index = by_content(name, images[pool], held_out)
    source = dict.fromkeys(index, pool)
    for split in set(images) - {pool}:  # a split of its own, in the same order: that of its content
        index |= {split: by_content(name, images[split], {}, split)[split]}
        source[split] = split
    known = (
        {split: labels[source[split]][i] for split, i in index.items()}
        if set(labels) == set(images)
        else {}
    )
    return Dataset(
        name, **{split: images[source[split]][i] for split, i in index.items()}, labels=known
    )

"""Splitting images into train, validation and test, the same way each time."""

import hashlib

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .dataset import Dataset

SPLITS = ("train", "validation", "test")
#: The share of the images that is held out for a split, unless the user says otherwise.
HELD_OUT = {"validation": 0.1, "test": 0.2}
LEAST = 8  # images in a split: the covariance of fewer says nothing


def stratified(
    name: str, images: np.ndarray, labels: np.ndarray, validation: int, test: int, digest: str
) -> Dataset:
    """A shipped data set of bytes (N, C, H, W), split at random with each label in proportion.

    Arguments:
        validation: how many images to hold out for the validation split.
        test: how many for the test split.
        digest: the :meth:`~priorbench.data.dataset.Dataset.digest` that the splits must have.

    Raises:
        UserError: if the splits are others than those of ``digest``.
    """
    from sklearn.model_selection import train_test_split

    rest, held_out = train_test_split(
        np.arange(len(labels)), test_size=test, stratify=labels, random_state=0
    )
    train, tuning = train_test_split(
        rest, test_size=validation, stratify=labels[rest], random_state=0
    )
    splits = {"train": train, "validation": tuning, "test": held_out}
    dataset = Dataset(
        name,
        **{split: torch.from_numpy(images[index]) for split, index in splits.items()},
        labels={split: torch.from_numpy(labels[index]).long() for split, index in splits.items()},
    )
    if dataset.digest() != digest:
        raise UserError(
            f"the installed scikit-learn splits {name} differently from the one that the shipped "
            "models were trained with"
        )
    return dataset


def by_content(
    name: str, images: Tensor, held_out: dict[str, float | int], rest: str = "train"
) -> dict[str, list[int]]:
    """The indices of ``images`` (N, C, H, W) in each split, in the order of their content.

    That order is by the sha256 of their bytes, which is as good as chance, and the first images are
    held out. So the split is the same whatever the names, order or file format of the images, and
    equal images are never in two splits.

    Arguments:
        held_out: how many images to hold out for each split, as a share (below 1) or a count.
        rest: the split that all other images are in.

    Raises:
        UserError: if a share or count makes no sense, or a split would have too few images.
    """
    keys = [hashlib.sha256(image.numpy().tobytes()).digest() for image in images]
    order = sorted(range(len(keys)), key=lambda i: (keys[i], i))
    chosen: dict[str, list[int]] = {}
    start = 0
    for split, wanted in held_out.items():
        end = min(start + _count(name, split, wanted, len(order)), len(order))
        while start < end < len(order) and keys[order[end]] == keys[order[end - 1]]:
            end += 1
        chosen[split] = order[start:end]
        start = end
    chosen[rest] = order[start:]
    for split, index in chosen.items():
        if len(index) < LEAST:
            raise UserError(
                f"data set {name!r} has {len(order)} images, which leaves {len(index)} for "
                f"{split}; at least {LEAST} are needed in each split"
            )
    return chosen


def _count(name: str, split: str, wanted: float | int, total: int) -> int:
    """How many of ``total`` images ``wanted`` means for ``split``."""
    number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
    if not number or wanted <= 0 or (wanted > 1 and wanted % 1):
        raise UserError(
            f"data set {name!r}: {split} must be a share (0.1) or a count (500), got {wanted!r}"
        )
    return round(wanted * total) if wanted < 1 else int(wanted)

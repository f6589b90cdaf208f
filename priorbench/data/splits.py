"""Splitting images, each time the same way, into train, validation and test."""

import hashlib

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .dataset import Dataset

SPLITS = ("train", "validation", "test")
LEAST = 8  # images in a split: fewer have no covariance worth a name


def stratified(
    name: str, images: np.ndarray, labels: np.ndarray, validation: int, test: int, digest: str
) -> Dataset:
    """A shipped data set of bytes (N, C, H, W), split at random with each label in proportion.

    Raises:
        UserError: if the splits are not those whose :meth:`Dataset.digest` is ``digest``.
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
            f"the installed scikit-learn splits {name} otherwise than the one that the shipped models were trained with"
        )
    return dataset


def by_content(
    name: str, images: Tensor, held_out: dict[str, float | int], rest: str = "train"
) -> dict[str, list[int]]:
    """Which of ``images`` (N, C, H, W) are for training and which are held out, in the order of
    their content.

    That is by the sha256 of their bytes, which is as good as chance, and the first ones are held
    out: so the split is the same whatever the images' names, order or file format, and equal images
    are never on two sides.

    Arguments:
        held_out: how many for each split, as a share (below 1) or a count.
        rest: the split that all others are in.

    Raises:
        UserError: if a split would have too few.
    """
    keys = [hashlib.sha256(image.numpy().tobytes()).digest() for image in images]
    order = sorted(range(len(keys)), key=lambda i: (keys[i], i))
    chosen: dict[str, list[int]] = {}
    start = 0
    for split, wanted in held_out.items():
        number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
        if not number or wanted <= 0 or (wanted > 1 and wanted % 1):
            raise UserError(
                f"data set {name!r}: {split} must be a share (0.1) or a count (500), got {wanted!r}"
            )
        end = min(start + (round(wanted * len(order)) if wanted < 1 else int(wanted)), len(order))
        while start < end < len(order) and keys[order[end]] == keys[order[end - 1]]:
            end += 1
        chosen[split] = order[start:end]
        start = end
    chosen[rest] = order[start:]
    for split, index in chosen.items():
        if len(index) < LEAST:
            raise UserError(
                f"data set {name!r} has {len(order)} images, which leaves {len(index)} for {split}; "
                f"at least {LEAST} are needed in each split"
            )
    return chosen

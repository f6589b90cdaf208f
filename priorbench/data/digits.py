"""scikit-learn's 1,797 handwritten digits, 8x8, grey: small enough to train every prior on two cores in minutes.

Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998), https://doi.org/10.24432/C50P49
"""

import numpy as np
import torch

from ..errors import UserError
from .dataset import Dataset

# The shipped backbone and extractor saw exactly this training split. A split that moved would leak test images to them.
DIGEST = "8662596594a310b4e5823dd824b62a4cfe31f8b25649e9a235bd800e6ae4d7f4"


def load() -> Dataset:
    """1,077 training, 360 validation and 360 test images, stratified by digit; grey values 0..16 scaled to 0..255."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    rest, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    train, validation = train_test_split(rest, test_size=360, stratify=labels[rest], random_state=0)
    splits = {"train": train, "validation": validation, "test": test}
    dataset = Dataset(
        "digits",
        **{name: torch.from_numpy(pixels[index]) for name, index in splits.items()},
        labels={name: torch.from_numpy(labels[index]).long() for name, index in splits.items()},
    )
    if dataset.digest() != DIGEST:
        raise UserError(
            "the installed scikit-learn splits digits otherwise than the one that the shipped models were trained with"
        )
    return dataset

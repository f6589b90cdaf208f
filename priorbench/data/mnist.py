"""10,000 of MNIST's handwritten digits, 28x28, grey; ``assets/mnist/README.md`` says which.

Reference: LeCun, Cortes and Burges, The MNIST database of handwritten digits (1998),
http://yann.lecun.com/exdb/mnist
"""

import numpy as np

from ..assets import folder
from .dataset import Dataset
from .splits import stratified

# As for digits: the shipped models were trained on exactly this training split.
DIGEST = "f39a890e1e2b5f53db89bd42cefea6117fc582d8027ce8e1a272bebd0ef0091e"


def load() -> Dataset:
    """7,000 training, 1,000 validation and 2,000 test images."""
    with np.load(folder("mnist") / "images.npz", allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    return stratified("mnist", images[:, None], labels, validation=1000, test=2000, digest=DIGEST)

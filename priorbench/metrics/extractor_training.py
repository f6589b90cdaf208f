"""Training a feature extractor: a classifier of the training split, judged on every split."""

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..data.dataset import Dataset, to_float
from ..data.splits import SPLITS
from ..diffusion.process import seeded
from ..errors import UserError
from ..files import make_folder, write_atomically
from .extractors import Classifier


def shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image of (N, C, H, W) moved by -1, 0 or 1 pixel along each axis, its border repeated."""
    height, width = x.shape[2:]
    dy, dx = torch.randint(0, 3, (2, len(x)), generator=generator)
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    index = (
        torch.arange(len(x))[:, None, None, None],
        torch.arange(x.shape[1])[None, :, None, None],
        (dy[:, None] + torch.arange(height))[:, None, :, None],
        (dx[:, None] + torch.arange(width))[:, None, None, :],
    )
    return padded[index]


def train_extractor(
    dataset: Dataset,
    output: Path,
    epochs: int = 60,
    features: int = 64,
    width: int = 32,
    seed: int = 0,
    progress: Callable[[int, int, float], None] = lambda step, total, loss: None,
) -> dict[str, Any]:
    """Train on ``dataset.train`` and write the folder of the extractor to ``output``.

    Arguments:
        features: the number of features, which are the activations before the last layer.
        width: the channels of the first convolution.
        progress: called with (epoch, epochs, loss of the last batch) after each epoch.

    Returns:
        What ``extractor.json`` says.

    Raises:
        UserError: if the data set has no labels, or ``output`` cannot be written to.
    """
    make_folder(output)
    if not dataset.labels:
        raise UserError(
            f"data set {dataset.name!r} has no labels, and an extractor is trained as a classifier"
        )
    started = time.monotonic()
    classes = int(dataset.labels["train"].max()) + 1
    with seeded(seed):
        model = Classifier(dataset.shape, classes, features, width)
        _fit(model, dataset, epochs, torch.Generator().manual_seed(seed), progress)
    accuracy = {split: _accuracy(model.eval(), dataset, split) for split in SPLITS}
    weights = save(model.state_dict())
    write_atomically(output / "model.safetensors", weights)
    stem = re.sub(r"[^A-Za-z0-9.]+", "-", Path(dataset.name).name).strip("-")
    about = {
        "name": f"lenet-{stem}-{features}",
        "shape": dataset.shape,
        "classes": classes,
        "features": features,
        "width": width,
        "accuracy": accuracy,
        "dataset": dataset.digest(),
        "epochs": epochs,
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_atomically(output / "extractor.json", json.dumps(about, indent=2).encode() + b"\n")
    return about


def _fit(
    model: Classifier,
    dataset: Dataset,
    epochs: int,
    generator: torch.Generator,
    progress: Callable[[int, int, float], None],
) -> None:
    """Train ``model`` by AdamW on shifted images, with smoothed labels."""
    images, labels = to_float(dataset.train), dataset.labels["train"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(64):
            logits = model(shifted(images[batch], generator))
            loss = nn.functional.cross_entropy(logits, labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        progress(epoch + 1, epochs, loss.item())


@torch.no_grad()
def _accuracy(model: Classifier, dataset: Dataset, split: str) -> float:
    """The share of the images of ``split`` that ``model`` classifies correctly."""
    answers = model(to_float(getattr(dataset, split))).argmax(1)
    return round(float((answers == dataset.labels[split]).double().mean()), 4)

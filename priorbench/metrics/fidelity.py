"""FID, KID, precision and recall: bytes -> features, by ``torch-fidelity`` -> metrics.

Everything is computed from the bytes that are saved, so a direct call of
``torch_fidelity.calculate_metrics`` on the saved images gives the same numbers. The features of
each set of images are computed only once.

torch-fidelity is imported where it is used, because it takes more than a second.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..diffusion.process import generator_for
from .reference import Reference

if TYPE_CHECKING:
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

#: The draws that the floor is the mean of.
FLOOR_DRAWS = 10


class Images(Dataset[Tensor]):
    """Bytes (N, C, H, W) as torch-fidelity takes them: in three channels, equal ones for grey."""

    def __init__(self, images: Tensor) -> None:
        self.images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def layer(extractor: "FeatureExtractorBase", metric: str = "fid") -> str:
    """The feature layer that ``extractor`` provides for ``metric``."""
    return str(extractor.get_default_feature_layer_for_metric(metric))


def features_of(images: Tensor, extractor: "FeatureExtractorBase", batch_size: int = 256) -> Tensor:
    """Features (N, F) of bytes (N, C, H, W), float32 on the CPU."""
    from torch_fidelity.utils import get_featuresdict_from_dataset

    accelerated = next(extractor.parameters()).device.type == "cuda"
    with torch.random.fork_rng(devices=[]):  # a DataLoader draws a seed from the global generator
        found = get_featuresdict_from_dataset(
            Images(images), extractor, batch_size, accelerated, save_cpu_ram=True, verbose=False
        )
    features: Tensor = found[layer(extractor)]
    return features


def fid_floor(train: Tensor, test: Tensor | Reference, n_samples: int) -> tuple[float, float]:
    """The FID of ``n_samples`` perfect samples: that of the same number of training images.

    FID falls with the number of samples, so a floor holds for one number alone.

    Arguments:
        train: features (N, F) of the training images.
        test: those of the test images, (M, F).

    Returns:
        The mean over :data:`FLOOR_DRAWS` draws without replacement, the same at every call, and its
        standard error. With no more than ``n_samples`` training images there is a single draw, of
        all of them, and the error is NaN.
    """
    draws = FLOOR_DRAWS if n_samples < len(train) else 1
    generator, real = generator_for(0, "floor"), _reference(test)
    chosen = [torch.randperm(len(train), generator=generator)[:n_samples] for _ in range(draws)]
    scores = torch.tensor([real.fid(train[index]) for index in chosen], dtype=torch.float64)
    return float(scores.mean()), float(scores.std() / draws**0.5) if draws > 1 else float("nan")


def fid(generated: Tensor, reference: Tensor | Reference) -> float:
    """FID of features (N, F) against (M, F), in squared units of the features."""
    return _reference(reference).fid(generated)


def fidelity(generated: Tensor, reference: Tensor | Reference) -> dict[str, float]:
    """fid, kid, precision and recall of features (N, F) against reference features (M, F).

    FID and KID are squared distances in units of the features; precision and recall are shares in
    0..1. See :class:`~priorbench.metrics.reference.Reference`.
    """
    real = _reference(reference)
    precision, recall = real.precision_recall(generated)
    return {
        "fid": real.fid(generated),
        "kid": real.kid(generated),
        "precision": precision,
        "recall": recall,
    }


def _reference(features: Tensor | Reference) -> Reference:
    return features if isinstance(features, Reference) else Reference(features)

"""FID, KID, precision and recall by ``torch-fidelity``: bytes -> features -> statistic -> metric.

Everything is computed from the bytes that are saved, so a direct call of
``torch_fidelity.calculate_metrics`` on the saved images gives the same numbers. Lower-level
functions of torch-fidelity are used here, to compute the features of each set of images only once.

torch-fidelity is imported where it is used, because it takes more than a second.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..diffusion.process import generator_for

if TYPE_CHECKING:
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

KID_SUBSET = 1000  # torch-fidelity's default; smaller sets are taken whole
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


def fid_floor(train: Tensor, test: Tensor, n_samples: int) -> tuple[float, float]:
    """The FID of ``n_samples`` perfect samples: that of the same number of training images.

    FID falls with the number of samples, so a floor holds for one number alone.

    Arguments:
        train: features (N, F) of the training images.
        test: features (M, F) of the test images.

    Returns:
        The mean over :data:`FLOOR_DRAWS` draws without replacement, the same at every call, and its
        standard error. With no more than ``n_samples`` training images there is a single draw, of
        all of them, and the error is NaN.
    """
    draws = FLOOR_DRAWS if n_samples < len(train) else 1
    generator = generator_for(0, "floor")
    chosen = [torch.randperm(len(train), generator=generator)[:n_samples] for _ in range(draws)]
    scores = torch.tensor([fid(train[index], test) for index in chosen], dtype=torch.float64)
    return float(scores.mean()), float(scores.std() / draws**0.5) if draws > 1 else float("nan")


def fid(generated: Tensor, reference: Tensor) -> float:
    """FID of features (N, F) against (M, F), in squared units of the features.

    Reference: Heusel et al. (2017), https://arxiv.org/abs/1706.08500
    """
    from torch_fidelity import metric_fid

    statistics = [metric_fid.fid_features_to_statistics(f) for f in (generated, reference)]
    return float(
        metric_fid.fid_statistics_to_metric(*statistics, verbose=False)[metric_fid.KEY_METRIC_FID]
    )


def fidelity(generated: Tensor, reference: Tensor) -> dict[str, float]:
    """fid, kid, precision and recall of features (N, F) against reference features (M, F).

    FID (Heusel et al., 2017) and KID (Bińkowski et al., 2018; the mean over 100 subsets of at most
    1,000 images) are squared distances in units of the features. Precision and recall (Kynkäänniemi
    et al., 2019; k = 3) are shares in 0..1.
    """
    from torch_fidelity import metric_kid, metric_prc

    size = min(KID_SUBSET, len(generated), len(reference))
    kid = metric_kid.kid_features_to_metric(
        generated, reference, kid_subset_size=size, verbose=False
    )
    prc = metric_prc.prc_features_to_metric(generated, reference, verbose=False)
    return {
        "fid": fid(generated, reference),
        "kid": kid[metric_kid.KEY_METRIC_KID_MEAN],
        "precision": prc[metric_prc.KEY_METRIC_PRECISION],
        "recall": prc[metric_prc.KEY_METRIC_RECALL],
    }

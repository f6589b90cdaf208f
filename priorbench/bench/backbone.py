"""What a frozen model is worth by itself: whether it fits a data set, and what it scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..data.dataset import Dataset, batch_sizes, to_bytes
from ..diffusion.frozen import FrozenDiffusion
from ..diffusion.process import generator_for, randn
from ..errors import UserError
from ..metrics.fidelity import features_of, fid_floor, fidelity
from ..task import check_fit

if TYPE_CHECKING:
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase


def misfit(data: Dataset, diffusion: FrozenDiffusion, backbone: str) -> str:
    """Why the model does not fit the data; empty if it does."""
    try:
        check_fit(data, diffusion, backbone)
    except UserError as error:
        return str(error)
    return ""


def drawn(
    diffusion: FrozenDiffusion,
    solver: str,
    steps: int,
    n_samples: int,
    batch_size: int,
    seed: int,
    progress: Callable[[int, int, float], None],
) -> torch.Tensor:
    """``n_samples`` draws of the full chain from pure noise, as bytes (N, C, H, W)."""
    noise, chain = generator_for(seed, "sample"), generator_for(seed, "denoise")
    batches: list[torch.Tensor] = []
    sizes = batch_sizes(n_samples, batch_size)
    for done, size in enumerate(sizes, start=1):
        x_T = randn((size, *diffusion.shape), noise, diffusion.device)
        batches.append(to_bytes(diffusion.denoise(x_T, diffusion.T, solver, steps, chain)))
        progress(done, len(sizes), float("nan"))
    return torch.cat(batches)


@dataclass(frozen=True)
class Score:
    """What draws of the full chain score against the test split.

    Attributes:
        test: how many test images there are.
        floor: FID of ``training`` images of the training split: what a perfect model would score.
    """

    extractor: str
    fid: float
    floor: float
    precision: float
    recall: float
    test: int
    training: int

    def in_words(self) -> dict[str, str]:
        """For a table: property -> value."""
        return {
            "extractor": self.extractor,
            f"FID against {self.test} test images": f"{self.fid:.2f}",
            f"FID of {self.training} training images (floor)": f"{self.floor:.2f}",
            "precision, recall": f"{self.precision:.3f}, {self.recall:.3f}",
        }


def score(images: torch.Tensor, data: Dataset, extractor: "FeatureExtractorBase") -> Score:
    """FID, precision and recall of draws of the full chain, bytes (N, C, H, W), against the test
    split.
    """
    test, n = features_of(data.test, extractor), len(images)
    made = fidelity(features_of(images, extractor), test)
    floor, _ = fid_floor(features_of(data.train, extractor), test, n)
    return Score(
        extractor.get_name(), made["fid"], float(floor), made["precision"], made["recall"],
        len(data.test), min(n, len(data.train)),
    )  # fmt: skip

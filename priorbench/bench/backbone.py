"""What a frozen model is worth by itself: whether it fits a data set, and what it scores."""

from collections.abc import Callable
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


def score(images: torch.Tensor, data: Dataset, extractor: "FeatureExtractorBase") -> dict[str, str]:
    """FID, precision and recall of draws of the full chain, bytes (N, C, H, W), against the test
    split.

    Returns:
        Names and figures, the floor among them.
    """
    test, n = features_of(data.test, extractor), len(images)
    made = fidelity(features_of(images, extractor), test)
    floor, _ = fid_floor(features_of(data.train, extractor), test, n)
    return {
        "extractor": extractor.get_name(),
        f"FID against {len(data.test)} test images": f"{made['fid']:.2f}",
        f"FID of {min(n, len(data.train))} training images (floor)": f"{floor:.2f}",
        "precision, recall": f"{made['precision']:.3f}, {made['recall']:.3f}",
    }

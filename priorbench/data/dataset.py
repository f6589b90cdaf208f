"""What a data set is: bytes in three splits, and their hash."""

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """Bytes 0..255 as float32 in [-1, 1], the scale of every x_0 in this project."""
    return images.to(torch.float32) / 127.5 - 1


def to_bytes(x_0: Tensor) -> Tensor:
    """x_0 as bytes, rounded and clipped to [-1, 1]: what is saved, shown and measured."""
    return ((x_0 + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def batch_sizes(count: int, batch_size: int) -> list[int]:
    """The sizes of the batches that ``count`` images make: the last one may be smaller."""
    return [min(batch_size, count - start) for start in range(0, count, batch_size)]


@dataclass(frozen=True)
class Dataset:
    """Images as bytes, (N, C, H, W) uint8 in each split, with their labels (N,) if these are known.

    Priors are fitted on ``train`` and may look at ``validation``; figures are reported on ``test``.

    Raises:
        ValueError: if a split is of another type, or of another (C, H, W) than ``train``.
    """

    name: str
    train: Tensor
    validation: Tensor
    test: Tensor
    labels: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split in ("train", "validation", "test"):
            images = getattr(self, split)
            of_bytes = images.dtype == torch.uint8 and images.ndim == 4
            if not of_bytes or images.shape[1:] != self.train.shape[1:]:
                raise ValueError(
                    f"data set {self.name!r}: {split} must be uint8 (N, C, H, W), with one "
                    f"(C, H, W) for all splits, got {images.dtype} {tuple(images.shape)}"
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.train.shape[1:]
        return channels, height, width

    def digest(self) -> str:
        """sha256 over the shapes and bytes of the splits."""
        sha = hashlib.sha256()
        for images in (self.train, self.validation, self.test):
            sha.update(repr(tuple(images.shape)).encode() + images.contiguous().numpy().tobytes())
        return sha.hexdigest()

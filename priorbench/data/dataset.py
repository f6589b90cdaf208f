"""What a data set is to the rest of the toolkit: bytes in three splits, and their hash."""

import hashlib
from dataclasses import dataclass, field

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """Bytes 0..255 to float32 in [-1, 1], the scale of every x_0 here."""
    return images.to(torch.float32) / 127.5 - 1


def to_bytes(x_0: Tensor) -> Tensor:
    """x_0 to bytes, rounded and cut off at [-1, 1]: what is saved, shown and measured."""
    return ((x_0 + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()


@dataclass(frozen=True)
class Dataset:
    """Images as bytes, (N, C, H, W) uint8 in each split, with the labels (N,) where they are known.

    Priors are fitted on ``train`` and may look at ``validation``; figures are reported on ``test``.
    """

    name: str
    train: Tensor
    validation: Tensor
    test: Tensor
    labels: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split in ("train", "validation", "test"):
            images = getattr(self, split)
            if (
                images.dtype != torch.uint8
                or images.ndim != 4
                or images.shape[1:] != self.train.shape[1:]
            ):
                raise ValueError(
                    f"data set {self.name!r}: {split} must be uint8 (N, C, H, W) with one (C, H, W) for all splits, "
                    f"got {images.dtype} {tuple(images.shape)}"
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.train.shape[1:]
        return channels, height, width

    def digest(self) -> str:
        """sha256 over the splits' shapes and bytes."""
        sha = hashlib.sha256()
        for images in (self.train, self.validation, self.test):
            sha.update(repr(tuple(images.shape)).encode() + images.contiguous().numpy().tobytes())
        return sha.hexdigest()

"""Feature extractors that are small classifiers, each kept in a folder.

They are registered with ``torch-fidelity`` like its own Inception. A folder holds
``extractor.json`` (architecture, sha256 of the weights, accuracy) and ``model.safetensors``. The
features are the activations before the last layer, as in the Fréchet LeNet distance of the
literature. FID values of different extractors are different quantities, so the table names the
extractor in a column.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch_fidelity import register_feature_extractor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from ..errors import UserError

LAYER = "penultimate"


class Classifier(nn.Module):
    """A LeNet-like classifier of (C, H, W), with ``features`` activations before its last layer."""

    def __init__(
        self, shape: tuple[int, int, int], classes: int, features: int = 64, width: int = 32
    ) -> None:
        super().__init__()
        channels, height, size = shape
        flat = 2 * width * math.ceil(height / 4) * math.ceil(size / 4)
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, stride=2), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, stride=2), nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(flat, features), nn.ReLU(),
        )  # fmt: skip
        self.last = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W) in [-1, 1]."""
        logits: Tensor = self.last(self.body(x))
        return logits


class OneLayer(FeatureExtractorBase):  # type: ignore[misc]  # torch-fidelity has no types
    """An extractor with one ``layer`` of features, the same for every metric."""

    layer: ClassVar[str]

    @classmethod
    def get_provided_features_list(cls) -> tuple[str, ...]:
        """The layers that there are."""
        return (cls.layer,)

    @classmethod
    def get_default_feature_layer_for_metric(cls, metric: str) -> str:
        """The layer for ``metric``."""
        return cls.layer

    @staticmethod
    def can_be_compiled() -> bool:
        """What is small gains nothing by that."""
        return False


class FolderExtractor(OneLayer):
    """The classifier of a folder, as ``torch-fidelity`` takes it: bytes in, features out.

    Arguments:
        name: what the ``extractor`` column says.
        features_list: the layers to return; there is one, ``penultimate``.
        folder: where ``extractor.json`` and ``model.safetensors`` are.

    Raises:
        UserError: if the folder holds no extractor.
    """

    layer = LAYER

    def __init__(self, name: str, features_list: list[str], folder: Path, **kwargs: Any) -> None:
        super().__init__(name, features_list)
        about, weights = read_folder(folder)
        self.digest = about["sha256"]
        self.channels, *self.size = about["shape"]
        with torch.random.fork_rng(devices=[]):  # layers initialise by the global generator
            self.classifier = Classifier(
                tuple(about["shape"]), about["classes"], about["features"], about["width"]
            )
        try:
            self.classifier.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(
                f"the weights in {folder} are not of the architecture that extractor.json states"
            ) from error
        self.eval().requires_grad_(False)

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        """Features ((N, F),) of bytes (N, C, H, W); grey images may have three equal channels."""
        if input.dtype != torch.uint8 or list(input.shape[2:]) != self.size:
            raise UserError(
                f"extractor {self.name!r} takes bytes of {self.size[0]}x{self.size[1]} pixels, "
                f"got {input.dtype} of {'x'.join(map(str, input.shape[2:]))}"
            )
        grey = self.channels == 1 and input.shape[1] == 3
        if input.shape[1] != self.channels and not (grey and bool((input == input[:, :1]).all())):
            raise UserError(
                f"extractor {self.name!r} takes {self.channels} channels (grey images may have "
                f"three equal ones), got {input.shape[1]}" + (" that differ" if grey else "")
            )
        x = input[:, :1] if grey else input
        return (self.classifier.body(x.to(torch.float32) / 127.5 - 1),)


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What ``extractor.json`` says, and the weights.

    Raises:
        UserError: if either cannot be read, or the weights have another sha256 than stated there.
    """
    try:
        about = json.loads((folder / "extractor.json").read_text())
        blob = (folder / "model.safetensors").read_bytes()
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no extractor that can be read: {error}") from error
    stated = set(about if isinstance(about, dict) else ())
    missing = {"name", "shape", "classes", "features", "width", "sha256"} - stated
    if missing:
        raise UserError(f"{folder / 'extractor.json'} does not state {', '.join(sorted(missing))}")
    if hashlib.sha256(blob).hexdigest() != about["sha256"]:
        raise UserError(
            f"{folder / 'model.safetensors'} is not the file whose sha256 extractor.json states"
        )
    try:
        return about, load(blob)
    except SafetensorError as error:
        raise UserError(f"{folder / 'model.safetensors'} cannot be read: {error}") from error


def from_folder(folder: Path, shipped: bool = True) -> FolderExtractor:
    """The extractor of ``folder``, registered with torch-fidelity by its name.

    The name is the one in ``extractor.json``. If the extractor is not ``shipped``, the beginning of
    the sha256 of its weights follows. For another training of the same classifier gives other
    features, whose FID values cannot be compared.

    Raises:
        UserError: if the folder holds no extractor, or the name is that of another extractor.
    """
    about, _ = read_folder(folder)
    name = about["name"] if shipped else f"{about['name']}@{about['sha256'][:8]}"

    class Registered(FolderExtractor):
        sha256 = about["sha256"]

        def __init__(self, name: str, features_list: list[str], **kwargs: Any) -> None:
            super().__init__(name, features_list, folder=folder)

    known = FEATURE_EXTRACTORS_REGISTRY.get(name)
    if known is not None and getattr(known, "sha256", None) != about["sha256"]:
        raise UserError(
            f"another extractor is already known as {name!r}; give the one in {folder} another name"
        )
    if known is None:
        register_feature_extractor(name, Registered)
    return FolderExtractor(name, [LAYER], folder=folder)

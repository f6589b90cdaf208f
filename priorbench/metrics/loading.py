"""The extractor that a name stands for: a registered one, one of torch-fidelity's own, or a folder.

Weights are never taken from elsewhere in silence: what is not the file that its authors published
is named by its hash.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file
from torch import nn
from torch_fidelity import feature_extractor_clip, feature_extractor_inceptionv3
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from ..assets import folder
from ..errors import UserError, unknown
from ..plugin_manager import load_plugins
from .extractors import FolderExtractor, from_folder

INCEPTION = "inception-v3-compat"
INCEPTION_SHA256 = "6726825d"  # how the published file's hash begins: its name says so
OWN = (
    "inception-v3",
    "clip-",
    "dinov2-",
)  # of torch-fidelity's extractors, those that FID is computed in


def load_extractor(name: str, options: dict[str, Any] | None = None) -> FeatureExtractorBase:
    """The feature extractor ``name``: registered, of torch-fidelity, or the path of a trained one's
    folder.

    Arguments:
        options: ``weights``, the path of the weights of one of torch-fidelity's; without it they
            are downloaded.

    Raises:
        UserError: if it does not exist, or its weights cannot be had. Nothing is ever used in its
            place.
    """
    options = dict(options or {})
    registered = load_plugins().of_kind("extractor")
    own = [n for n in FEATURE_EXTRACTORS_REGISTRY if n.startswith(OWN)]
    path = Path(name).expanduser()
    takes = ["weights"] if name in own else []
    for key in options:
        if key not in takes:
            raise unknown("option", key, takes, of=f"extractor {name!r}")
    if name in registered:
        found: FeatureExtractorBase = registered[name].load()()
        return found
    if name in own:
        return _of_torch_fidelity(name, options.get("weights"))
    if path.is_dir():
        return from_folder(path, shipped=False)
    raise unknown("extractor", name, [*registered, *own, "FOLDER"])


def weights_digest(extractor: nn.Module) -> str:
    """sha256 over the weights, whatever file they came from."""
    sha = hashlib.sha256()
    for key, tensor in sorted(extractor.state_dict().items()):
        sha.update(key.encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def _of_torch_fidelity(name: str, weights: str | None) -> FeatureExtractorBase:
    cls = FEATURE_EXTRACTORS_REGISTRY[name]
    layer = cls.get_default_feature_layer_for_metric("fid")
    path = None if weights is None else Path(weights).expanduser()
    if path is not None and not path.is_file():
        raise UserError(f"extractor {name!r}: there is no file of weights at {weights}")
    if path is not None and name.startswith("dinov2"):
        raise UserError(
            f"extractor {name!r}: torch-fidelity takes DINOv2's weights from torch.hub alone, not from a path"
        )
    published = _published(name)
    try:
        with _read_safely(name, path), torch.random.fork_rng(devices=[]):
            extractor: FeatureExtractorBase = cls(
                name,
                [layer],
                feature_extractor_weights_path=str(path)
                if path is not None and name.startswith("clip")
                else None,
            )
    except UserError:
        raise
    except (
        Exception
    ) as error:  # a download fails in many ways, and so does a file of something else
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = (
            ""
            if weights is not None or name.startswith("dinov2")
            else "; weights=PATH takes a file of one's own"
        )
        raise UserError(f"extractor {name!r}: its weights cannot be had: {reason}{hint}") from error
    if path is not None and not hashlib.sha256(path.read_bytes()).hexdigest().startswith(published):
        extractor.name = f"{name}@{weights_digest(extractor)[:8]}"
    return extractor


def _published(name: str) -> str:
    """How the sha256 of the published weights begins; what no hash begins with, where it is not
    known.
    """
    clip = feature_extractor_clip.MODEL_METADATA.get(name, {}).get("hash", "unknown")
    return INCEPTION_SHA256 if name == INCEPTION else clip


@contextmanager
def _read_safely(name: str, path: Path | None) -> Iterator[None]:
    """Inside, torch-fidelity's Inception is given its weights: by itself it would unpickle them,
    and unchecked.
    """
    if name != INCEPTION:
        yield
        return

    def load(url: str, **_: Any) -> dict[str, Any]:
        file = path or _downloaded(url)
        if file.suffix == ".safetensors":
            return load_file(file)
        # The published file is a .pth: torch's weights-only reader takes tensors from it and calls
        # nothing.
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        return state

    loader: Callable[..., Any] = load
    with patch.object(feature_extractor_inceptionv3, "load_state_dict_from_url", loader):
        yield


def _downloaded(url: str) -> Path:
    """Where torch-hub keeps the file of ``url``, fetched and checked against its hash if it is not
    there yet.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=INCEPTION_SHA256, progress=False)
    return file


def digits() -> FolderExtractor:
    """64 features of a classifier trained on the training split of digits."""
    return from_folder(folder("digits/extractor"))


def mnist() -> FolderExtractor:
    """64 features of a classifier trained on the training split of mnist."""
    return from_folder(folder("mnist/extractor"))

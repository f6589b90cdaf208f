"""The feature extractor that a name stands for.

A name is that of a registered extractor or of one of torch-fidelity's, or it is the path of a
folder. No weights are ever replaced in silence: those that are not the file that the authors of the
extractor published have their hash in the extractor's name.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch_fidelity import feature_extractor_clip
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from ..assets import folder
from ..errors import UserError, first_line, unknown
from ..isolation import weights_digest
from ..plugin_manager import load_plugins
from . import imagenet
from .extractors import FolderExtractor, from_folder

INCEPTION = "inception-v3-compat"
INCEPTION_SHA256 = "6726825d"  # the beginning of the published file's hash: its name states it
# The beginnings of the names of those extractors of torch-fidelity that FID is computed in.
OWN = ("inception-v3", "clip-", "dinov2-")


def load_extractor(name: str, options: dict[str, Any] | None = None) -> FeatureExtractorBase:
    """The feature extractor ``name``.

    Arguments:
        name: a registered name, that of an extractor of torch-fidelity, or the path of the folder
            of a trained one.
        options: ``weights``, the path of the weights, for an extractor of torch-fidelity. Without
            it they are downloaded.

    Raises:
        UserError: if the extractor does not exist, or its weights cannot be loaded. No other
            extractor is ever used in its place.
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


def extractor_of_colour() -> str:
    """The extractor for colour images that have none of their own; empty if there is none here.

    It is that of the literature if its weights are on this machine. Nobody who did not ask for it
    should wait for a download, so it is ``efficientnet-lite0`` otherwise, if it is installed.
    """
    if _kept(URL_INCEPTION_V3).exists():
        return INCEPTION
    return imagenet.NAME if imagenet.installed() else ""


def _of_torch_fidelity(name: str, weights: str | None) -> FeatureExtractorBase:
    """One of torch-fidelity's extractors, with its published weights or those at a path."""
    path = None if weights is None else Path(weights).expanduser()
    if path is not None and not path.is_file():
        raise UserError(f"extractor {name!r}: there is no file of weights at {weights}")
    if path is not None and name.startswith("dinov2"):
        raise UserError(
            f"extractor {name!r}: torch-fidelity loads the weights of DINOv2 from torch.hub alone, "
            "not from a path"
        )
    try:
        extractor = _made(name, path)
    except Exception as error:  # a download fails in many ways, and so does a file of another kind
        takes_path = weights is None and not name.startswith("dinov2")
        hint = "; weights=PATH takes a file that you have" if takes_path else ""
        raise UserError(
            f"extractor {name!r}: its weights cannot be loaded: {first_line(error)}{hint}"
        ) from error
    if path is not None and not _is_published(name, path):
        extractor.name = f"{name}@{weights_digest(extractor)[:8]}"
    return extractor


def _made(name: str, path: Path | None) -> FeatureExtractorBase:
    """The extractor ``name`` with the weights at ``path``, or those that it downloads."""
    cls = FEATURE_EXTRACTORS_REGISTRY[name]
    weights: io.BytesIO | str | None = None
    if name == INCEPTION:
        weights = _inception_weights(path)
    elif name.startswith("clip") and path is not None:
        weights = str(path)
    layers = [cls.get_default_feature_layer_for_metric("fid")]
    with torch.random.fork_rng(devices=[]):  # layers initialise by the global generator
        return cls(name, layers, feature_extractor_weights_path=weights)


def _inception_weights(path: Path | None) -> io.BytesIO:
    """The weights of torch-fidelity's Inception, as a file that is safe to unpickle.

    torch-fidelity unpickles the file that it is given, and does not check the one that it
    downloads. So the tensors are read here, by a reader that calls no code of the file, and handed
    over as a file in memory that holds them alone.
    """
    file = path or _downloaded(URL_INCEPTION_V3)
    if file.suffix == ".safetensors":
        state = load_file(file)
    else:  # the published file is a .pth
        state = torch.load(file, map_location="cpu", weights_only=True)
    memory = io.BytesIO()
    torch.save(state, memory)
    memory.seek(0)
    return memory


def _kept(url: str) -> Path:
    """Where torch.hub keeps the file of ``url``, once it has been downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _downloaded(url: str) -> Path:
    """The file of ``url``; if it is missing, it is fetched and checked."""
    file = _kept(url)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(file), hash_prefix=INCEPTION_SHA256, progress=False)
    return file


def _is_published(name: str, path: Path) -> bool:
    """Whether the file at ``path`` is the one that the authors published, so far as that is known.

    What is known is how the sha256 of the file begins.
    """
    known = {INCEPTION: INCEPTION_SHA256} | {
        clip: about["hash"] for clip, about in feature_extractor_clip.MODEL_METADATA.items()
    }
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return name in known and sha256.startswith(known[name])


def digits() -> FolderExtractor:
    """64 features of a classifier trained on the training split of digits."""
    return from_folder(folder("digits/extractor"))


def mnist() -> FolderExtractor:
    """64 features of a classifier trained on the training split of mnist."""
    return from_folder(folder("mnist/extractor"))

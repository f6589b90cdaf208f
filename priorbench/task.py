"""What all cells of a run share: the data set, the frozen model, the extractor, and the features of
the splits. Each process loads them once.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .data.dataset import Dataset, to_float
from .data.loading import load_dataset
from .data.splits import SPLITS
from .diffusion.frozen import FrozenDiffusion
from .diffusion.process import generator_for
from .errors import UserError
from .isolation import AsMade, weights_digest
from .marginal import TruncatedMarginal
from .metrics.fidelity import features_of, fid_floor
from .metrics.leakage import NoiseLevel, Stored, quiet_directions
from .metrics.memorisation import authenticity, neighbour_ratio
from .metrics.neighbours import neighbour_distances
from .metrics.reference import Reference
from .metrics.wasserstein import Cloud
from .plugin_manager import load_plugins

if TYPE_CHECKING:
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

# How many of the measured samples, at most, are looked up among the images of every split; and how
# many draws of x_t they are compared with.
JUDGED = 2000


@dataclass(frozen=True)
class Source:
    """A data set or extractor by name, with its options. It can be hashed, to key a cache."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, eq=False)  # compared by identity: a task keys what it caches
class Task:
    """The data, the models, and what is computed from them once.

    Attributes:
        dataset: images of the three splits.
        diffusion: the frozen model.
        extractor: the network whose features FID is computed from.
        dataset_digest, backbone_digest, extractor_digest: hashes of what was loaded.
        layers: of the frozen model, as they were loaded.
        reader: the mode and hooks of the extractor, as they were loaded.
        known: the features of each split and their hash, once they are computed.
    """

    dataset: Dataset
    diffusion: FrozenDiffusion
    extractor: "FeatureExtractorBase"
    dataset_digest: str
    backbone_digest: str
    extractor_digest: str
    layers: str
    reader: AsMade
    known: dict[str, tuple[Tensor, str]] = field(default_factory=dict)

    def put_back(self) -> list[str]:
        """Undo whatever a plugin can change of the models besides weights; say what it was."""
        return [
            *(f"the frozen model's {what}" for what in self.diffusion.refreeze()),
            *(f"the extractor's {what}" for what in self.reader.restore()),
        ]

    def changed(self) -> list[str]:
        """What is no longer as it was loaded, in words.

        Every cell relies on all of it, and no plugin may write to it.
        """
        features = self.known.values()
        as_loaded = {
            "the frozen model's weights": self.diffusion.digest() == self.backbone_digest,
            "the frozen model's layers": self.diffusion.layers() == self.layers,
            "the images of the data set": self.dataset.digest() == self.dataset_digest,
            "the extractor's weights": weights_digest(self.extractor) == self.extractor_digest,
            "the features of the data set": all(_digest(x) == digest for x, digest in features),
        }
        return [what for what, same in as_loaded.items() if not same]

    def images(self, split: str) -> Tensor:
        """The images of a split, (N, C, H, W) in [-1, 1]."""
        return to_float(getattr(self.dataset, split))

    def marginal(self, t_trunc: int) -> TruncatedMarginal:
        """What a prior is fitted to: training and validation images, never the test split."""
        train, validation = self.images("train"), self.images("validation")
        return TruncatedMarginal(train, self.diffusion, t_trunc, validation)

    def held_out(self, t_trunc: int) -> TruncatedMarginal:
        """The marginal of the test split, which priors are measured against."""
        return TruncatedMarginal(self.images("test"), self.diffusion, t_trunc)

    def features(self, split: str) -> Tensor:
        """Features (N, F) of the images of a split."""
        if split not in self.known:
            found = features_of(getattr(self.dataset, split), self.extractor)
            self.known[split] = found, _digest(found)
        return self.known[split][0]

    @lru_cache(maxsize=4)  # noqa: B019 - tasks live as long as the process
    def reference(self, split: str) -> Reference:
        """The features of a split, to measure samples against."""
        return Reference(self.features(split))

    @cached_property
    def test_cloud(self) -> Cloud:
        """The images of the test split, to measure distances to."""
        return Cloud(self.images("test"))

    @cached_property
    def train_neighbours(self) -> Tensor:
        """How far each training image is from its nearest neighbour, (N,), in feature space."""
        return neighbour_distances(self.features("train"))

    @lru_cache(maxsize=8)  # noqa: B019
    def floor(self, n_samples: int) -> dict[str, float]:
        """What images that no prior made score.

        The FID of as many training images, and the authenticity of the test images.
        """
        train, test = self.features("train"), self.features("test")
        floor, floor_error = fid_floor(train, self.reference("test"), n_samples)
        return {
            "fid_floor": floor,
            "fid_floor_se": floor_error,
            "authenticity_test": authenticity(test, train, self.train_neighbours),
        }

    @cached_property
    def held_out_ratio(self) -> tuple[float, float]:
        """The neighbour ratio of the validation images, and its standard error."""
        validation, train, test = map(self.features, ("validation", "train", "test"))
        return neighbour_ratio(validation, train, test)

    @cached_property
    def _clean(self) -> dict[str, Tensor]:
        """The images of each split; no plugin is ever given these tensors."""
        return {split: self.images(split) for split in SPLITS}

    @lru_cache(maxsize=64)  # noqa: B019
    def emitted(self, t_trunc: int | None) -> Stored:
        """The judge of what a prior emits: x_{t_trunc}, or clean images if ``t_trunc`` is None."""
        if t_trunc is None:
            draws = {split: images[:JUDGED] for split, images in self._clean.items()}
            return Stored(self._clean, draws)
        signal = float(self.diffusion.process.alpha_bar[t_trunc]) ** 0.5
        draws = {split: self._draws(t_trunc, split) for split in SPLITS}
        return Stored(self._clean, draws, signal)

    @lru_cache(maxsize=64)  # noqa: B019
    def noise_level(self, t_trunc: int) -> NoiseLevel:
        """The judge of the noise in x_{t_trunc}."""
        return NoiseLevel(self.quiet_directions, self._draws(t_trunc, "test"))

    @cached_property
    def quiet_directions(self) -> Tensor:
        """Directions in which clean images hardly vary."""
        return quiet_directions(self._clean["train"])

    def _draws(self, t_trunc: int, split: str) -> Tensor:
        marginal = TruncatedMarginal(self.images(split), self.diffusion, t_trunc)
        return marginal.draw(JUDGED, generator_for(0, f"judged {split}")).cpu()

    def warning(self, n_samples: int) -> str:
        """What to know before believing a row of ``n_samples``; usually empty."""
        features = self.features("test").shape[1]
        few = {"samples": n_samples, "test images": len(self.dataset.test)}
        found = [
            f"{n} {what} for {features} features: their covariance is singular and FID far too high"
            for what, n in few.items()
            if n <= features
        ]
        return "; ".join(filter(None, [*found, self.diffusion.warning]))


def _digest(x: Tensor) -> str:
    return hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()


def default_for(kind: str, dataset: str, channels: int = 1) -> str:
    """The backbone or extractor that is registered under the name of the data set.

    Images of three ``channels`` have a default extractor without one: see
    :func:`priorbench.metrics.loading.extractor_of_colour`.

    Raises:
        UserError: if there is none, saying how to choose or make one.
    """
    if dataset in load_plugins().of_kind(kind):
        return dataset
    options = {
        "backbone": "--backbone takes a diffusers folder or a hub name",
        "extractor": "--extractor takes inception-v3-compat and others of torch-fidelity",
    }
    if kind == "extractor" and channels == 3:
        from .metrics.loading import extractor_of_colour  # takes a second

        found = extractor_of_colour()
        if found:
            return found
        options["extractor"] += ", pip install 'priorbench[imagenet]' brings a default"
    raise UserError(
        f"there is no {kind} for data set {dataset!r} of the same name: {options[kind]}, or train "
        f"one with 'priorbench {kind} train'"
    )


@lru_cache(maxsize=2)
def load_data(dataset: Source) -> Dataset:
    """The data set that ``dataset`` names, read once per process."""
    return load_dataset(dataset.name, dict(dataset.options))


@lru_cache(maxsize=2)
def load_task(
    dataset: Source,
    backbone: str,
    extractor: Source,
    device: str = "auto",
    precision: str = "fp32",
    compile: bool = False,
) -> Task:
    """Load the data set, the frozen model and the extractor, once per process.

    Raises:
        UserError: if one of them cannot be loaded, or they do not fit together.
    """
    from .metrics.loading import load_extractor  # takes a second

    data = load_data(dataset)
    diffusion = FrozenDiffusion.from_pretrained(backbone, device, precision, compile)
    check_fit(data, diffusion, backbone)
    reader = load_extractor(extractor.name, dict(extractor.options))
    if diffusion.device.type == "cuda":  # torch-fidelity runs on CUDA or the CPU
        reader = reader.to(diffusion.device)
    features_of(data.test[:1], reader)  # fails now if the extractor cannot read these images
    return Task(
        data,
        diffusion,
        reader,
        dataset_digest=data.digest(),
        backbone_digest=diffusion.digest(),
        extractor_digest=weights_digest(reader),
        layers=diffusion.layers(),
        reader=AsMade(reader),
    )


def forget() -> None:
    """Load data and models again when they are next needed, because something wrote to them."""
    load_data.cache_clear()
    load_task.cache_clear()


def forget_changed(*paths: str) -> None:
    """Load data and models again if files at these paths have changed since they were last seen.

    A notebook may train a model, run, train it again under the same path, and run again.
    """
    existing = [path for path in filter(None, paths) if Path(path).expanduser().exists()]
    found = {path: _newest(Path(path).expanduser()) for path in existing}
    if any(_SEEN.get(path, stamp) != stamp for path, stamp in found.items()):
        forget()
    _SEEN.update(found)


_SEEN: dict[str, int] = {}


def _newest(path: Path) -> int:
    """When the file, or the folder or a file in it, was last written or replaced: by an older one
    too.
    """
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    stats = [file.stat() for file in files if file.exists()]  # not so: a link to nothing
    return max(max(stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats)


def check_fit(data: Dataset, diffusion: FrozenDiffusion, backbone: str | Path) -> None:
    """Check that the model makes images of the data set's shape.

    Raises:
        UserError: if it does not, with the options of the data set that would mend it.
    """
    if diffusion.shape == data.shape:
        return
    have, want = ("x".join(map(str, shape)) for shape in (data.shape, diffusion.shape))
    (channels, *size), options = diffusion.shape, []
    if data.shape[0] != channels:
        options.append(f"channels={channels}")
    if list(data.shape[1:]) != size and size[0] == size[1]:
        options.append(f"resize={size[0]}")
    hint = f"; the data set's option {','.join(options)} makes them fit" if options else ""
    raise UserError(
        f"data set {data.name!r} has images of {have}, "
        f"backbone {str(backbone)!r} makes {want}{hint}"
    )

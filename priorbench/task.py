"""What the cells of a run share: data, frozen model, extractor, and the features of the splits.
Loaded once a process.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from .data.dataset import Dataset, to_float
from .data.loading import load_dataset
from .diffusion.frozen import FrozenDiffusion
from .diffusion.loading import load_backbone
from .diffusion.process import generator_for
from .errors import UserError
from .isolation import AsMade
from .marginal import TruncatedMarginal
from .metrics.fidelity import features_of, fid_floor
from .metrics.leakage import NoiseLevel, Stored, quiet_directions
from .metrics.loading import load_extractor, weights_digest
from .metrics.memorisation import authenticity, neighbour_ratio
from .metrics.neighbours import neighbour_distances
from .plugin_manager import load_plugins

JUDGED = 2000  # of the measured samples, at most, that are looked up among the images of every split, and as many draws


@dataclass(frozen=True)
class Source:
    """A data set or extractor by name, with its options; hashable, so that it can name a cached
    one.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, eq=False)  # known by identity: it names what it caches
class Task:
    dataset: Dataset
    diffusion: FrozenDiffusion
    extractor: FeatureExtractorBase
    dataset_digest: str
    backbone_digest: str
    extractor_digest: str
    layers: str  # of the frozen model
    reader: AsMade  # the extractor's mode and hooks
    known: dict[str, tuple[Tensor, str]] = field(
        default_factory=dict
    )  # features of the splits, and their digests

    def put_back(self) -> list[str]:
        """Undo what a plugin can have done to the models besides their weights: what it was, in
        words.
        """
        return [
            *(f"the frozen model's {what}" for what in self.diffusion.refreeze()),
            *(f"the extractor's {what}" for what in self.reader.restore()),
        ]

    def changed(self) -> list[str]:
        """What is no longer as it was loaded, in words: every cell relies on it, and no plugin may
        write to it.
        """
        now = {
            "the frozen model's weights": self.diffusion.digest() == self.backbone_digest,
            "the frozen model's layers": self.diffusion.layers() == self.layers,
            "the images of the data set": self.dataset.digest() == self.dataset_digest,
            "the extractor's weights": weights_digest(self.extractor) == self.extractor_digest,
            "the features of the data set": all(
                _digest(x) == digest for x, digest in self.known.values()
            ),
        }
        return [what for what, same in now.items() if not same]

    def marginal(self, t_trunc: int) -> TruncatedMarginal:
        """What a prior is fitted to: it is given training and validation images, never the test
        split.
        """
        train, validation = to_float(self.dataset.train), to_float(self.dataset.validation)
        return TruncatedMarginal(train, self.diffusion, t_trunc, validation)

    def held_out(self, t_trunc: int) -> TruncatedMarginal:
        """The same law over the test split, for measuring."""
        return TruncatedMarginal(to_float(self.dataset.test), self.diffusion, t_trunc)

    def features(self, split: str) -> Tensor:
        """Features (N, F) of the images of a split."""
        if split not in self.known:
            found = features_of(getattr(self.dataset, split), self.extractor)
            self.known[split] = found, _digest(found)
        return self.known[split][0]

    @cached_property
    def train_neighbours(self) -> Tensor:
        return neighbour_distances(self.features("train"))

    @lru_cache(maxsize=8)  # noqa: B019 - contexts live as long as the process
    def floor(self, n_samples: int) -> dict[str, float]:
        """What images that no prior made score: FID of as many training images, and how far
        held-out images are from being copies.
        """
        train, test = self.features("train"), self.features("test")
        floor, floor_error = fid_floor(train, test, n_samples)
        return {
            "fid_floor": floor,
            "fid_floor_se": floor_error,
            "authenticity_test": authenticity(test, train, self.train_neighbours),
        }

    @cached_property
    def held_out_ratio(self) -> tuple[float, float]:
        """:func:`neighbour_ratio` of the validation images, and its standard error."""
        return neighbour_ratio(*(self.features(split) for split in ("validation", "train", "test")))

    @lru_cache(maxsize=4)  # noqa: B019
    def emitted(self, t_trunc: int | None) -> Stored:
        """The judge of what is emitted: x_{t_trunc}, or clean images where that is None."""
        clean = {
            split: to_float(getattr(self.dataset, split))
            for split in ("train", "validation", "test")
        }
        if t_trunc is None:
            return Stored(clean, {split: images[:JUDGED] for split, images in clean.items()})
        signal = float(self.diffusion.process.alpha_bar[t_trunc]) ** 0.5
        draws = {split: self._draws(images, t_trunc, split) for split, images in clean.items()}
        return Stored({split: signal * images for split, images in clean.items()}, draws)

    @lru_cache(maxsize=4)  # noqa: B019
    def noise_level(self, t_trunc: int) -> NoiseLevel:
        """The judge of the noise in x_{t_trunc}."""
        return NoiseLevel(
            self.quiet_directions, self._draws(to_float(self.dataset.test), t_trunc, "test")
        )

    @cached_property
    def quiet_directions(self) -> Tensor:
        return quiet_directions(to_float(self.dataset.train))

    def _draws(self, images: Tensor, t_trunc: int, split: str) -> Tensor:
        marginal = TruncatedMarginal(images, self.diffusion, t_trunc)
        return marginal.draw(JUDGED, generator_for(0, f"judged {split}")).cpu()

    def warning(self, n_samples: int) -> str:
        """What a reader of a row of ``n_samples`` should know before believing it; mostly nothing."""
        features = self.features("test").shape[1]
        few = {"samples": n_samples, "test images": len(self.dataset.test)}
        said = [
            f"{n} {what} for {features} features: their covariance is singular and FID far too high"
            for what, n in few.items()
            if n <= features
        ]
        return "; ".join([*said, *([self.diffusion.warning] if self.diffusion.warning else [])])


def _digest(x: Tensor) -> str:
    return hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()


def default_for(kind: str, dataset: str) -> str:
    """The backbone or extractor that is registered under the data set's own name, or an error that
    says what to do.
    """
    if dataset in load_plugins().of_kind(kind):
        return dataset
    trained = f"train one with 'priorbench {kind} train'"
    others = {
        "backbone": f"--backbone takes a diffusers folder or a hub name, or {trained}",
        "extractor": f"--extractor takes inception-v3-compat and others of torch-fidelity, or {trained}",
    }
    raise UserError(f"there is no {kind} for data set {dataset!r} of the same name: {others[kind]}")


def forget_changed(*paths: str) -> None:
    """Have data and models loaded anew if files at these paths changed: a notebook may train one
    and run again.
    """
    found = {
        path: _newest(Path(path).expanduser())
        for path in filter(None, paths)
        if Path(path).expanduser().exists()
    }
    if any(_SEEN.get(path, stamp) != stamp for path, stamp in found.items()):
        forget()
    _SEEN.update(found)


_SEEN: dict[str, int] = {}


def _newest(path: Path) -> int:
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return max(file.stat().st_mtime_ns for file in files)


@lru_cache(maxsize=2)
def load_data(dataset: Source) -> Dataset:
    """The data set of ``dataset``, read once a process."""
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
    """Load what a run is about, and see that it fits together."""
    data = load_data(dataset)
    diffusion = load_backbone(backbone, device=device, precision=precision, compile=compile)
    check_fit(data, diffusion, backbone)
    reader = load_extractor(extractor.name, dict(extractor.options))
    if diffusion.device.type == "cuda":  # torch-fidelity runs on CUDA or the CPU
        reader = reader.to(diffusion.device)
    features_of(
        data.test[:1], reader
    )  # one that cannot read these images says so before anything is computed
    return Task(
        data, diffusion, reader, data.digest(), diffusion.digest(), weights_digest(reader), diffusion.layers(),
        AsMade(reader),
    )  # fmt: skip


def forget() -> None:
    """Have data and models loaded anew by whoever needs them next: somebody wrote to those that are
    here.
    """
    load_data.cache_clear()
    load_task.cache_clear()


def check_fit(data: Dataset, diffusion: FrozenDiffusion, backbone: str | Path) -> None:
    """Raise :class:`UserError` if the model does not make images of the data set's kind."""
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
        f"data set {data.name!r} has images of {have}, backbone {str(backbone)!r} makes {want}{hint}"
    )

"""What the cells of a run share: data, frozen model, extractor, and the features of the splits. Loaded once
a process.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from ..data.dataset import Dataset, to_float
from ..diffusion.frozen import FrozenDiffusion
from ..errors import UserError
from ..marginal import TruncatedMarginal
from ..metrics.fidelity import features_of, fidelity
from ..metrics.memorisation import authenticity
from ..plugin_manager import load_plugins


@dataclass(frozen=True)
class Context:
    dataset: Dataset
    diffusion: FrozenDiffusion
    extractor: FeatureExtractorBase
    backbone_digest: str

    def marginal(self, t_trunc: int) -> TruncatedMarginal:
        """What a prior is fitted to: it is given training and validation images, never the test split."""
        train, validation = to_float(self.dataset.train), to_float(self.dataset.validation)
        return TruncatedMarginal(train, self.diffusion, t_trunc, validation)

    def held_out(self, t_trunc: int) -> TruncatedMarginal:
        """The same law over the test split, for measuring."""
        return TruncatedMarginal(to_float(self.dataset.test), self.diffusion, t_trunc)

    @cached_property
    def train_features(self) -> Tensor:
        return features_of(self.dataset.train, self.extractor)

    @cached_property
    def test_features(self) -> Tensor:
        return features_of(self.dataset.test, self.extractor)

    @cached_property
    def floor(self) -> dict[str, float]:
        """fid of the training against the test split, and the authenticity of the test images themselves."""
        return {
            "fid_floor": fidelity(self.train_features, self.test_features)["fid"],
            "authenticity_test": authenticity(self.test_features, self.train_features),
        }


@lru_cache(maxsize=2)
def load_context(
    dataset: str,
    backbone: str,
    extractor: str,
    device: str = "auto",
    precision: str = "fp32",
    compile: bool = False,
) -> Context:
    """Load by registered name; a backbone may be the path of a ``diffusers`` folder too."""
    plugins = load_plugins()
    data: Dataset = plugins.find("dataset", dataset).load()()
    if Path(backbone).is_dir():
        source: str | Path = backbone
    else:
        source = plugins.find("backbone", backbone).load()()
    diffusion = FrozenDiffusion.from_pretrained(source, device=device, precision=precision, compile=compile)
    if diffusion.shape != data.shape:
        sizes = ["x".join(map(str, shape)) for shape in (data.shape, diffusion.shape)]
        raise UserError(f"data set {dataset!r} has images of {sizes[0]}, backbone {backbone!r} makes {sizes[1]}")
    reader: FeatureExtractorBase = plugins.find("extractor", extractor).load()()
    if diffusion.device.type == "cuda":  # torch-fidelity runs on CUDA or the CPU
        reader = reader.to(diffusion.device)
    return Context(data, diffusion, reader, diffusion.digest())

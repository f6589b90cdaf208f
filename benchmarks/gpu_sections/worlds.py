"""The networks that are measured: random weights, no downloads."""

from typing import Any

from diffusers import UNet2DModel

from priorbench.diffusion.process import seeded

SHAPE = (3, 32, 32)


def cifar_unet() -> UNet2DModel:
    """The configuration of google/ddpm-cifar10-32, 35.7 M parameters, with random weights."""
    return _unet(
        layers_per_block=2,
        block_out_channels=(128, 256, 256, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None,
        norm_eps=1e-6,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
    )


def small_unet() -> UNet2DModel:
    """A small network, with 3.3 M parameters."""
    return _levels((48, 96, 128), 16)


def tiny_unet() -> UNet2DModel:
    """A network that a CPU evaluates in milliseconds, and compiles in seconds."""
    return _levels((8,), 4, add_attention=False)


def _levels(channels: tuple[int, ...], groups: int, **others: Any) -> UNet2DModel:
    return _unet(
        layers_per_block=1,
        block_out_channels=channels,
        down_block_types=("DownBlock2D",) * len(channels),
        up_block_types=("UpBlock2D",) * len(channels),
        norm_num_groups=groups,
        **others,
    )


def _unet(**configuration: Any) -> UNet2DModel:
    with seeded(0):
        return UNet2DModel(sample_size=32, in_channels=3, out_channels=3, **configuration)

"""Shared by all tests: a small frozen diffusion, saved as anybody's would be, and quick settings of every prior."""

import os

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from priorbench import FrozenDiffusion, TruncatedMarginal

torch.set_num_threads(min(2, int(os.environ.get("OMP_NUM_THREADS") or 2), os.cpu_count() or 1))

# Every registered prior in a setting that fits in a second or two.
QUICK = {
    "gaussian": {},
    "ot": {"iterations": 40, "batch_size": 64, "projections": 32, "width": 64, "slices": "pixels"},
    "sinf": {"iterations": 12, "particles": 500, "directions": 8, "ascent": 2},
    "vae": {"iterations": 60, "batch_size": 64, "width": 64},
    "gan": {"iterations": 40, "batch_size": 64, "width": 64},
    "noise": {},
    "oracle": {},
    "memoriser": {},
}


def tiny_unet(shape, **changes):
    """A U-Net with random weights for (C, H, W), seeded."""
    channels, height, width = shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DModel(
            **{
                "sample_size": (height, width), "in_channels": channels, "out_channels": channels,
                "layers_per_block": 1, "block_out_channels": (8, 16), "norm_num_groups": 4,
                "down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D"),
                "attention_head_dim": 8,
            }
            | changes
        )  # fmt: skip


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory):
    """Save a pipeline made on the spot, for (shape, scheduler settings); returns its folder."""

    def save(shape=(1, 8, 8), **settings):
        folder = tmp_path_factory.mktemp("pipeline")
        DDPMPipeline(tiny_unet(shape), DDPMScheduler(**settings)).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def tiny():
    """A frozen diffusion of 8x8 grey images, T = 100, random weights."""
    scheduler = DDPMScheduler(num_train_timesteps=100, beta_start=1e-3, beta_end=0.2)
    return FrozenDiffusion(tiny_unet((1, 8, 8)), scheduler, device="cpu")


@pytest.fixture
def marginal(tiny):
    """A marginal at t_trunc = 20 over 200 Gaussian images of 8x8, with 50 validation images."""
    generator = torch.Generator().manual_seed(0)
    images = 0.3 * torch.randn(250, 1, 8, 8, generator=generator) + torch.linspace(-0.5, 0.5, 64).view(1, 8, 8)
    return TruncatedMarginal(images[:200], tiny, 20, images[200:])

"""Shared by all tests: a small frozen diffusion, saved as anybody's would be, and quick settings of
every prior.
"""

import os

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from helpers.models import tiny_unet

from priorbench import FrozenDiffusion, TruncatedMarginal

torch.set_num_threads(min(2, int(os.environ.get("OMP_NUM_THREADS") or 2), os.cpu_count() or 1))


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
    images = 0.3 * torch.randn(250, 1, 8, 8, generator=generator) + torch.linspace(
        -0.5, 0.5, 64
    ).view(1, 8, 8)
    return TruncatedMarginal(images[:200], tiny, 20, images[200:])

"""A small network with random weights, and settings of every prior that fit in a second or two."""

import torch
from diffusers import UNet2DModel

# Every registered prior in a setting that fits in a second or two.
QUICK = {
    "gaussian": {},
    "mixture": {},
    "ot": {"iterations": 40, "batch_size": 64, "width": 64},
    "sinf": {"iterations": 12, "particles": 500, "directions": 8, "ascent": 2},
    "vae": {"iterations": 60, "batch_size": 64, "width": 64, "components": 4},
    "gan": {"iterations": 40, "batch_size": 64, "width": 64},
    "distil": {"iterations": 3, "batch_size": 8, "steps": 3},
    "noise": {},
    "oracle": {},
    "memoriser": {},
}

# What more it takes to come near a Gaussian law.
LONGER = {
    "vae": {"iterations": 500, "latent": 32},
    "gan": {"iterations": 600, "width": 256},
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
                "down_block_types": ("DownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "UpBlock2D"), "attention_head_dim": 8,
            }
            | changes
        )  # fmt: skip

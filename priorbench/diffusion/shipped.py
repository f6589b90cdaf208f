"""The diffusion models that come with priorbench."""

from pathlib import Path

from ..assets import folder


def digits() -> Path:
    """A U-Net trained on the training split of digits, T = 1000, linear schedule, epsilon prediction."""
    return folder("digits/backbone")


def mnist() -> Path:
    """A U-Net trained on the training split of mnist, T = 1000, linear schedule, epsilon prediction."""
    return folder("mnist/backbone")

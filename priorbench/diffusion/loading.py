"""The frozen model that a name stands for: a registered one, a ``diffusers`` folder, or a hub name."""

import re
from pathlib import Path

from ..assets import folder
from ..errors import UserError, unknown
from ..plugin_manager import load_plugins
from .frozen import FrozenDiffusion


def load_backbone(
    name: str, device: str = "auto", precision: str = "fp32", compile: bool = False
) -> FrozenDiffusion:
    """Load ``name``; a folder goes before a registered name of the same spelling only if it is
    written as a path.
    """
    registered = load_plugins().of_kind("backbone")
    path = Path(name).expanduser()
    if name in registered:
        source: str | Path = registered[name].load()()
    elif path.is_dir():
        source = path
    elif re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name):
        source = name
    elif "/" in name:
        raise UserError(f"backbone {name!r}: there is no such folder")
    else:
        raise unknown("backbone", name, [*registered, "FOLDER", "OWNER/NAME on the hub"])
    return FrozenDiffusion.from_pretrained(
        source, device=device, precision=precision, compile=compile
    )


def digits() -> Path:
    """A U-Net trained on the training split of digits, T = 1000, linear schedule, epsilon
    prediction.
    """
    return folder("digits/backbone")


def mnist() -> Path:
    """A U-Net trained on the training split of mnist, T = 1000, linear schedule, epsilon
    prediction.
    """
    return folder("mnist/backbone")

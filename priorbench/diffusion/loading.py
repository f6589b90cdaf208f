"""The frozen model that a name stands for.

A name is that of a registered model, the path of a ``diffusers`` folder, or a name on the hub.
"""

import re
from pathlib import Path

from ..assets import folder
from ..errors import UserError, unknown
from ..plugin_manager import load_plugins
from .frozen import FrozenDiffusion


def load_backbone(
    name: str, device: str = "auto", precision: str = "fp32", compile: bool = False
) -> FrozenDiffusion:
    """The frozen model ``name``. A registered name comes before a folder of the same name.

    Arguments:
        device: where to run; ``auto`` takes the accelerator if there is one.
        precision: ``fp32``, or ``bf16``/``fp16`` for mixed precision in the network alone.
        compile: run the network through ``torch.compile``.

    Raises:
        UserError: if there is no such model, or it is none that can be truncated.
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
    """A U-Net trained on digits' training split: T = 1000, linear schedule, predicts epsilon."""
    return folder("digits/backbone")


def mnist() -> Path:
    """A U-Net trained on mnist's training split: T = 1000, linear schedule, predicts epsilon."""
    return folder("mnist/backbone")

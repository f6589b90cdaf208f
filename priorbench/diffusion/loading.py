"""What a frozen model is called: a registered name, the path of a ``diffusers`` folder, or a name
on the hub.
"""

import re
from pathlib import Path

from ..assets import folder
from ..errors import UserError, unknown
from ..plugin_manager import load_plugins


def source_of(name: str | Path) -> str | Path:
    """The folder, or the name on the hub, that ``name`` stands for.

    A registered name comes before a folder of the same name, and a word is never looked up on the
    hub, whose names have an owner.

    Raises:
        UserError: if there is no such model.
    """
    registered = load_plugins().of_kind("backbone")
    path = Path(name).expanduser()
    if isinstance(name, str) and name in registered:
        found: str | Path = registered[name].load()()
        return found
    if path.is_dir():
        return path
    if on_hub(name):
        return name
    if isinstance(name, Path) or "/" in name:
        raise UserError(f"backbone {str(name)!r}: there is no such folder")
    raise unknown("backbone", name, [*registered, "FOLDER", "OWNER/NAME on the hub"])


def on_hub(name: str | Path) -> bool:
    """Whether ``name`` is the form of names on the hub, OWNER/NAME."""
    return isinstance(name, str) and bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name))


def digits() -> Path:
    """A U-Net trained on digits' training split: T = 1000, linear schedule, predicts epsilon."""
    return folder("digits/backbone")


def mnist() -> Path:
    """A U-Net trained on mnist's training split: T = 1000, linear schedule, predicts epsilon."""
    return folder("mnist/backbone")


def cifar10_small() -> Path:
    """A U-Net trained on CIFAR-10's training split: T = 1000, cosine schedule, predicts v."""
    return folder("cifar10-small/backbone")

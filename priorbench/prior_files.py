"""The files of a fitted prior: its weights in ``prior.safetensors``, all else in ``prior.json``."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from .files import write_atomically

WEIGHTS = "prior.safetensors"
ABOUT = "prior.json"


def write_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Write the ``state_dict`` of a prior.

    Raises:
        CannotWrite: if the folder cannot be written to.
    """
    blob = save({name: tensor.contiguous().cpu() for name, tensor in weights.items()})
    write_atomically(folder / WEIGHTS, blob)


def share_weights(source: Path, folder: Path) -> None:
    """Have the weights of ``source`` in ``folder`` too: the same file, or else a copy of it.

    Raises:
        CannotWrite: if the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS).unlink(missing_ok=True)
        os.link(source / WEIGHTS, folder / WEIGHTS)
    except OSError:  # a file system without links
        write_atomically(folder / WEIGHTS, (source / WEIGHTS).read_bytes())


def weights_sha256(folder: Path) -> str:
    """sha256 of the file of weights."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def write_about(folder: Path, about: Mapping[str, Any]) -> None:
    """Write ``prior.json``, last of all: if it is there, everything is there.

    Raises:
        CannotWrite: if the folder cannot be written to.
    """
    write_atomically(folder / ABOUT, json.dumps(about, indent=2).encode() + b"\n")


def read_about(folder: Path) -> dict[str, Any]:
    """What ``prior.json`` says.

    Raises:
        OSError: if there is no such file.
        ValueError: if it holds no JSON object.
    """
    about = json.loads((folder / ABOUT).read_text())
    if not isinstance(about, dict):
        raise ValueError(f"{ABOUT} holds no JSON object")
    return about

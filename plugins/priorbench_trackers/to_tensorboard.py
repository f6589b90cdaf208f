"""A run as event files of TensorBoard."""

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from PIL import Image

from priorbench import UserError

from .told import Figure, config_of, errors_of, figures_of, pictures_in, settings_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_UNSAFE = re.compile(r"[^A-Za-z0-9._=-]+")  # in the name of a folder


class TensorBoard:
    """Event files: a folder for the run, in it one for each cell, with its figures over
    evaluations, the curve of its fit and its hyperparameters, and ``run`` with the config and the
    pictures of samples.

    Options:
        logdir: where that folder goes; by default ``tensorboard`` in the results folder.
    """

    def __init__(self, plan: Any, folder: Path, run: str | None, *, logdir: str = "") -> None:
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            said = "it needs TensorBoard: pip install 'priorbench[tensorboard]'"
            raise UserError(said) from error
        above = Path(logdir) if logdir else folder / "tensorboard"
        there = run is not None and (above / run).is_dir()
        name = f"{plan.config.name}-{datetime.now():%Y%m%d-%H%M%S}-{uuid4().hex[:4]}"
        self.run = run if run and there else name
        self.folder, self.logdir = folder, above / self.run
        with self._writer("run") as writer:
            lines = (f"| {key} | {value} |" for key, value in config_of(plan).items())
            writer.add_text("config", "\n".join(["| key | value |", "|---|---|", *lines]))

    def _writer(self, name: str) -> "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.logdir / _UNSAFE.sub("-", name)))

    def cell_finished(self, result: Any) -> None:
        figures, error = list(figures_of(result)), errors_of(result)
        with self._writer(result.spec.title) as writer:
            for name, value, step in figures:
                writer.add_scalar(name, value, step)
            if error:
                writer.add_text("error", error)
            else:
                writer.add_hparams(settings_of(result.spec), _least(figures), run_name=".")

    def run_finished(self, comparison: Any) -> None:
        with self._writer("run") as writer:
            for path in pictures_in(self.folder):
                with Image.open(path) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
                writer.add_image(path.stem, pixels, dataformats="HWC")

    def close(self, status: str) -> None:
        """Nothing is open between two cells."""


def _least(figures: list[Figure]) -> dict[str, float]:
    """The least FID of a cell by each solver, for the table of hyperparameters."""
    found: dict[str, float] = {}
    for name, value, _ in figures:
        if name.startswith("test/") and name.endswith("/fid"):
            found[f"least/{name}"] = min(value, found.get(f"least/{name}", value))
    return found

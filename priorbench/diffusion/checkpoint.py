"""What an interrupted training needs to resume: one safetensors file, replaced atomically."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import UserError, first_line
from ..files import write_atomically

if TYPE_CHECKING:
    from diffusers.training_utils import EMAModel

# What reading a file can raise if it is no checkpoint, or that of another network.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)


@dataclass
class State:
    """How far a training has come.

    Attributes:
        step: the steps taken.
        seconds: the time that they took, over all processes that the training has had.
        best_loss: the lowest validation loss, reached at ``best_step``.
        best: the averaged weights of ``best_step``.
        history: (step, training loss, validation loss) of each evaluation. The training loss is the
            mean over the steps since the evaluation before.
        running: the losses of the steps since the last evaluation, each () on its device, so that
            no step waits for the device.
    """

    step: int = 0
    seconds: float = 0.0
    best_loss: float = float("inf")
    best_step: int = 0
    best: list[Tensor] = field(default_factory=list)
    history: list[tuple[int, float, float]] = field(default_factory=list)
    running: list[Tensor] = field(default_factory=list)

    def record(
        self, step: int, validation: float, weights: Iterable[Tensor], seconds: float
    ) -> None:
        """Take in an evaluation of ``weights`` at ``step``, with its ``validation`` loss."""
        self.step, self.seconds = step, seconds
        training = round(float(torch.stack(self.running).cpu().double().mean()), 6)
        self.history.append((step, training, round(validation, 6)))
        self.running = []
        if validation < self.best_loss or not self.best:
            self.best_loss, self.best_step = round(validation, 6), step
            self.best = [w.detach().clone() for w in weights]


@dataclass
class Learner:
    """The five objects that a step of the optimiser changes."""

    network: nn.Module
    averaged: "EMAModel"
    optimizer: torch.optim.Optimizer
    cosine: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler | None

    def tensors(self) -> dict[str, Tensor]:
        """The weights, their average and the optimiser's moments, by the names in the file."""
        found = {f"network/{k}": v for k, v in self.network.state_dict().items()}
        shadow = self.averaged.state_dict()["shadow_params"]
        found |= {f"averaged/{i:05}": v for i, v in enumerate(shadow)}
        for index, moments in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer/{index}/{k}": torch.as_tensor(v) for k, v in moments.items()}
        return found

    def settings(self) -> dict[str, Any]:
        """The state that is no tensor, as JSON takes it."""
        groups = self.optimizer.state_dict()["param_groups"]
        return {
            "optimizer": [{k: v for k, v in group.items() if k != "params"} for group in groups],
            "cosine": self.cosine.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }

    def restore(self, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Take back, in place, what :meth:`tensors` and :meth:`settings` gave."""
        self.network.load_state_dict(_part(tensors, "network"))
        parameters = list(self.network.parameters())
        shadow = [
            _laid_out(value, parameter)
            for value, parameter in zip(
                _part(tensors, "averaged").values(), parameters, strict=True
            )
        ]
        self.averaged.load_state_dict({"shadow_params": shadow, "optimization_step": about["step"]})
        known = self.optimizer.state_dict()
        known["state"] = _nested(_part(tensors, "optimizer"))
        known["param_groups"] = [
            now | saved
            for now, saved in zip(known["param_groups"], about["optimizer"], strict=True)
        ]
        self.optimizer.load_state_dict(known)
        for parameter, moments in self.optimizer.state.items():
            for key, value in moments.items():
                if key != "step":
                    moments[key] = _laid_out(value, parameter)
        self.cosine.load_state_dict(about["cosine"])
        if self.scaler is not None and about["scaler"]:
            self.scaler.load_state_dict(about["scaler"])


class Checkpoint:
    """The checkpoint of a training in ``folder``; ``identity`` is all that determines it."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder, self.identity = folder, identity
        self.path = folder / "checkpoint.safetensors"

    def finished(self, fresh: bool = False) -> dict[str, Any] | None:
        """What ``training.json`` says, if this very training is done.

        Raises:
            UserError: if the folder holds another training or another model.
        """
        if fresh or self.path.exists():
            return None
        if (self.folder / "training.json").exists():
            try:
                about: dict[str, Any] = json.loads((self.folder / "training.json").read_text())
                self._same(about["settings"])
            except (OSError, ValueError, KeyError, TypeError):
                raise self._foreign() from None
            return about
        if (self.folder / "model_index.json").exists():
            raise self._foreign()
        return None

    def _foreign(self) -> UserError:
        return UserError(
            f"{self.folder} holds a model that was not trained here; choose another folder"
        )

    def _same(self, known: dict[str, Any]) -> None:
        for name, value in self.identity.items():
            if known.get(name) != value:
                raise UserError(
                    f"{self.folder} holds a training with {name} = {known.get(name)!r}, "
                    f"not {value!r}; choose another folder, or start over (--fresh)"
                )

    def restore(self, learner: Learner, fresh: bool = False) -> State:
        """Put ``learner`` back, in place, to where the checkpoint was written.

        Returns:
            The state there, or that of the start if there is no checkpoint or ``fresh`` is set.

        Raises:
            UserError: if the checkpoint cannot be read, or is that of another training.
        """
        if fresh or not self.path.exists():
            return State()
        try:
            with safe_open(self.path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["about"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is no mapping
            self._same(about["identity"])
            learner.restore(tensors, about)
            best = list(_part(tensors, "best").values())
        except _UNREADABLE as error:
            raise UserError(
                f"cannot resume from {self.path} ({first_line(error)}); --fresh starts over"
            ) from error
        history = [tuple(row) for row in about["history"]]
        return State(
            about["step"], about["seconds"], about["best_loss"], about["best_step"], best, history
        )

    def save(self, state: State, learner: Learner) -> None:
        """Write the checkpoint, and the losses to ``loss.csv`` beside it."""
        about = {
            "identity": self.identity,
            "step": state.step,
            "seconds": state.seconds,
            "best_loss": state.best_loss,
            "best_step": state.best_step,
            "history": state.history,
            **learner.settings(),
        }
        tensors = learner.tensors() | {f"best/{i:05}": v for i, v in enumerate(state.best)}
        tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        write_atomically(self.path, save(tensors, {"about": json.dumps(about)}))
        header = "step,training_loss,validation_loss"
        rows = [header, *(",".join(map(str, row)) for row in state.history)]
        write_atomically(self.folder / "loss.csv", ("\n".join(rows) + "\n").encode())


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors ``name/...``, in the order of their names, under what follows the slash."""
    return {
        k.partition("/")[2]: v for k, v in sorted(tensors.items()) if k.partition("/")[0] == name
    }


def _laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """``value`` on the device and with the strides of ``parameter``, which fused kernels need."""
    return torch.empty_like(parameter).copy_(value)


def _nested(moments: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """``index/key -> tensor`` as ``index -> key -> tensor``."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in moments.items():
        index, _, key = name.partition("/")
        found.setdefault(int(index), {})[key] = tensor
    return found

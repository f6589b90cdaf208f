"""What a training needs to go on after it was killed: one safetensors file, replaced atomically."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import UserError
from ..files import write_atomically


@dataclass
class State:
    """How far a training has come.

    ``history`` has (step, training loss, validation loss) of each evaluation, the training loss
    being the mean since the one before; ``best`` are the averaged weights of the lowest validation
    loss; ``running`` the losses of the steps since the last evaluation.
    """

    step: int = 0
    seconds: float = 0.0
    best_loss: float = float("inf")
    best_step: int = 0
    best: list[Tensor] = field(default_factory=list)
    history: list[tuple[int, float, float]] = field(default_factory=list)
    running: list[float] = field(default_factory=list)

    def record(
        self, step: int, validation: float, weights: Iterable[Tensor], seconds: float
    ) -> None:
        self.step, self.seconds = step, seconds
        self.history.append(
            (step, round(sum(self.running) / len(self.running), 6), round(validation, 6))
        )
        self.running = []
        if validation < self.best_loss or not self.best:
            self.best_loss, self.best_step = round(validation, 6), step
            self.best = [w.detach().clone() for w in weights]


class Checkpoint:
    """The checkpoint of a training in ``folder``; ``identity`` is all that determines it."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder, self.identity = folder, identity
        self.path = folder / "checkpoint.safetensors"

    def finished(self, fresh: bool = False) -> dict[str, Any] | None:
        """What ``training.json`` says, if this very training is done."""
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
                    f"{self.folder} holds a training with {name} = {known.get(name)!r}, not {value!r}; "
                    "choose another folder, or start over (--fresh)"
                )

    def restore(
        self,
        network: nn.Module,
        averaged: Any,
        optimizer: Any,
        cosine: Any,
        scaler: Any,
        fresh: bool = False,
    ) -> State:
        """Put everything back as it was, in place; the start, where there is no checkpoint or none
        is wanted.
        """
        if fresh or not self.path.exists():
            return State()
        try:
            with safe_open(self.path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["about"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            self._same(about["identity"])
            network.load_state_dict(_part(tensors, "network"))
            shadow = list(_part(tensors, "averaged").values())
            averaged.load_state_dict({"shadow_params": shadow, "optimization_step": about["step"]})
            averaged.to(next(network.parameters()).device)
            known = optimizer.state_dict()
            known["state"] = _nested(_part(tensors, "optimizer"))
            known["param_groups"] = [
                a | b for a, b in zip(known["param_groups"], about["optimizer"], strict=True)
            ]
            optimizer.load_state_dict(known)
            cosine.load_state_dict(about["cosine"])
            if scaler is not None and about["scaler"]:
                scaler.load_state_dict(about["scaler"])
            best = list(_part(tensors, "best").values())
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{self.path} cannot be gone on from ({reason}); --fresh starts over"
            ) from error
        history = [tuple(row) for row in about["history"]]
        return State(
            about["step"], about["seconds"], about["best_loss"], about["best_step"], best, history
        )

    def save(
        self,
        state: State,
        network: nn.Module,
        averaged: Any,
        optimizer: Any,
        cosine: Any,
        scaler: Any,
    ) -> None:
        """Write everything, and ``loss.csv`` beside it."""
        known = optimizer.state_dict()
        about = {
            "identity": self.identity,
            "step": state.step,
            "seconds": state.seconds,
            "best_loss": state.best_loss,
            "best_step": state.best_step,
            "history": state.history,
            "optimizer": [
                {k: v for k, v in group.items() if k != "params"} for group in known["param_groups"]
            ],
            "cosine": cosine.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        tensors = {f"network/{k}": v for k, v in network.state_dict().items()}
        tensors |= {
            f"averaged/{i:05}": v for i, v in enumerate(averaged.state_dict()["shadow_params"])
        }
        tensors |= {f"best/{i:05}": v for i, v in enumerate(state.best)}
        for index, moments in known["state"].items():
            tensors |= {f"optimizer/{index}/{k}": torch.as_tensor(v) for k, v in moments.items()}
        tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        write_atomically(self.path, save(tensors, {"about": json.dumps(about)}))
        rows = [
            "step,training_loss,validation_loss",
            *(",".join(map(str, row)) for row in state.history),
        ]
        write_atomically(self.folder / "loss.csv", ("\n".join(rows) + "\n").encode())


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {
        k.partition("/")[2]: v for k, v in sorted(tensors.items()) if k.partition("/")[0] == name
    }


def _nested(moments: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in moments.items():
        index, _, key = name.partition("/")
        found.setdefault(int(index), {})[key] = tensor
    return found

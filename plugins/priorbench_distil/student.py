"""A trainable copy of the frozen network, and one step of DDIM by it."""

import json
from typing import Any

import torch
from torch import Tensor, nn


def describe(network: nn.Module, prediction_type: str) -> Tensor:
    """What :func:`rebuild` needs: the class of a network of ``diffusers``, its configuration, and
    what it predicts, as the bytes of a JSON text.

    Raises:
        ValueError: if the network is none of ``diffusers``.
    """
    every: Any = getattr(network, "config", {})
    config = {k: v for k, v in dict(every).items() if not k.startswith("_")}
    name = _class_of(type(network).__name__).__name__
    text = json.dumps({"class": name, "config": config, "predicts": prediction_type})
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def rebuild(description: Tensor) -> tuple[nn.Module, str]:
    """The network that was described, with random weights, and what it predicts."""
    known = json.loads(bytes(description.tolist()))
    with torch.random.fork_rng(devices=[]):  # layers initialise by the global generator
        network: nn.Module = _class_of(known["class"]).from_config(known["config"])
    return network.eval(), known["predicts"]


def _class_of(name: str) -> Any:
    import diffusers

    found = getattr(diffusers, name, None)
    if not (isinstance(found, type) and issubclass(found, diffusers.ModelMixin)):
        raise ValueError(f"distil copies networks of diffusers, and {name} is none")
    return found


def one_step(output: Tensor, kind: str, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A step of DDIM from alpha_bar = ``a`` to ``b``, of ``x`` and the prediction of a network.

    Arguments:
        output: the prediction (N, C, H, W), or with a learned variance as further channels.
        kind: ``epsilon``, ``v_prediction`` or ``sample``.
    """
    output, signal, sigma = output[:, : x.shape[1]], a.sqrt(), (1 - a).sqrt()
    if kind == "epsilon":
        x_0, noise = (x - sigma * output) / signal, output
    elif kind == "v_prediction":
        x_0, noise = signal * x - sigma * output, sigma * x + signal * output
    else:
        x_0, noise = output, (x - signal * output) / sigma
    return b.sqrt() * x_0 + (1 - b).sqrt() * noise

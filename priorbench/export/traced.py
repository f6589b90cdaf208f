"""The prior of an exported folder whose own code cannot leave: its map f of latents z, traced.

``torch.export`` gives the operations of f as Python code. That code is written, and the tensors go
to safetensors like all others: the file that ``torch.export.save`` writes would be unpickled.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.export.graph_signature import InputKind

from ..diffusion.process import randn
from ..errors import first_line
from ..prior import HasLatents, TruncPrior, seed_from
from .bundle import CannotBundle


class TracedPrior(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A map f of standard normal latents, in a model of diffusers: (n, generator) -> f(z).

    Arguments:
        shape: (C, H, W) of the images.
        emits: what the images are: ``x_t``, at t_trunc, or ``x_0``, clean guesses.
        latent: the shape of one z.
        sizes: of all tensors, by name: the name of their dtype, then their shape.
    """

    inputs: tuple[str, ...] = ()  # the tensors that f takes before z, set below
    images: Any = None  # f, set below

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self, shape: list[int], emits: str, latent: list[int], sizes: dict[str, list[Any]]
    ) -> None:
        super().__init__()
        for name, (dtype, *size) in sizes.items():
            module: nn.Module = self
            *owners, leaf = name.split(".")
            for owner in owners:
                if not hasattr(module, owner):
                    module.add_module(owner, nn.Module())
                module = getattr(module, owner)
            module.register_buffer(leaf, torch.empty(size, dtype=getattr(torch, dtype)))

    def forward(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` draws."""
        seed_from(generator)  # as before every ``sample``: the same seed is to draw the same z
        z = randn((n, *self.config.latent), generator, self.device)
        images: Tensor = self.images(*(self.get_buffer(name) for name in self.inputs), z)
        return images


class _Map(nn.Module):
    """f alone: ``torch.export`` takes a module."""

    def __init__(self, prior: Any) -> None:
        super().__init__()
        self.inner = prior

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.inner.from_latents(z)
        return images


@dataclass(frozen=True)
class Traced:
    """The map of a prior.

    Attributes:
        code: the text of the methods and fields that a subclass of :class:`TracedPrior` needs.
        tensors: its tensors, by name.
        latent: the shape of one z.
    """

    code: str
    tensors: dict[str, Tensor]
    latent: list[int]


def traced(prior: TruncPrior) -> Traced:
    """The map of a prior as operations of torch.

    Raises:
        CannotBundle: if it cannot be traced, or its latents are not standard normal.
    """
    latent = _latent(prior)
    program = _program(prior, latent)
    others = [name for name, _ in program.graph_module.named_children()]
    if others:
        raise CannotBundle(f"its map of latents has parts that are no plain code: {others[0]}")
    named = {spec.arg.name: _name(spec) for spec in program.graph_signature.input_specs}
    *inputs, _ = named.values()  # z is the last
    tensors = {f"inner.{name}": tensor for name, tensor in prior.state_dict().items()}
    tensors |= {f"constants.{name}": tensor for name, tensor in program.constants.items()}
    if missing := [name for name in inputs if name not in tensors]:
        raise CannotBundle(f"its state_dict does not hold {missing[0].removeprefix('inner.')}")
    code = program.graph_module.graph.python_code("self").src
    return Traced(_body(inputs, code), tensors, latent)


def _latent(prior: TruncPrior) -> list[int]:
    assert isinstance(prior, HasLatents)
    z = prior.latents(3, torch.Generator().manual_seed(0))
    wanted = randn(z.shape, torch.Generator().manual_seed(0), z.device)
    if not torch.equal(z, wanted):
        raise CannotBundle("its latents are not the standard normal draws of priorbench.randn")
    return list(z.shape[1:])


def _program(prior: TruncPrior, latent: list[int]) -> Any:
    z = torch.zeros(4, *latent, device=prior.device)
    try:
        with torch.no_grad():
            # AUTO takes code that asks for the size of the batch: the U-Nets of diffusers lay out
            # 64 images and more anew. A size that is a constant shows when the model is checked.
            shapes = ({0: torch.export.Dim.AUTO},)
            # Without strict, len(z) would be a constant.
            made = torch.export.export(_Map(prior).eval(), (z,), dynamic_shapes=shapes, strict=True)
            return made.run_decompositions({})
    except Exception as error:  # dozens of kinds
        raise CannotBundle(f"torch.export of its map of latents: {first_line(error)}") from error


def _name(spec: Any) -> str:
    """The tensor that an input of the program stands for."""
    if spec.kind == InputKind.CONSTANT_TENSOR:
        return f"constants.{spec.target}"
    return str(spec.target)  # _Map calls the prior inner, as we do


def _body(inputs: list[str], code: str) -> str:
    """The body of the class, for whatever device it will be on."""
    head, body = code.strip().split("\n", 1)
    head = head.replace("def forward(", "def images(")
    body = re.sub(r"\bdevice\(type='\w+'(, index=\d+)?\)", "at", body)
    body = re.sub(r"return \((\w+),\)", r"return \1", body).rstrip()
    names = '    at, inf, nan = z.device, float("inf"), float("nan")'
    return "\n".join([f"inputs = {tuple(inputs)}", "", head, names, body])

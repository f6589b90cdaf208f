"""The prior of an exported folder: its own code, in a model that ``diffusers`` can load."""

import hashlib
import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from ..diffusion.process import seeded
from ..errors import one_line
from ..plugin_manager import load_plugins
from ..prior import HasLatents, TruncPrior
from .bundle import CannotBundle, bundle
from .traced import TracedPrior, traced

DRAWN = 8, 100  # batches that are compared: code may depend on how large they are


class ExportedPrior(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A prior in a model of diffusers: (n, generator) -> n images, (n, C, H, W).

    Arguments:
        shape: (C, H, W) of the images.
        emits: what the images are: ``x_t``, at t_trunc, or ``x_0``, clean guesses.
        params: the hyperparameters of the prior.
        sizes: of the buffers that a fit makes, by name: the name of their dtype, then their shape.
    """

    make: Any = None  # the class of the prior, set below

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        shape: list[int],
        emits: str,
        params: dict[str, Any],
        sizes: dict[str, list[Any]],
    ) -> None:
        super().__init__()
        self.inner = self.make(**params)
        with seeded(0):
            self.inner.build(tuple(shape))
        for name, (dtype, *size) in sizes.items():
            owner, _, leaf = name.rpartition(".")
            empty = torch.empty(size, dtype=getattr(torch, dtype))
            setattr(self.inner.get_submodule(owner), leaf, empty)

    def forward(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` draws."""
        images: Tensor = self.inner.sample(n, generator).as_subclass(Tensor)
        return images


@dataclass(frozen=True)
class Exported:
    """A prior that can leave.

    Attributes:
        model: the name of its class, and of the module that the class is to be saved in. It carries
            a hash of the code: two modules of one name share a place in the cache of diffusers.
        code: the text of the module.
        made: the model, with its weights.
    """

    model: str
    code: str
    made: Any


def exported(prior: TruncPrior, name: str, shape: tuple[int, int, int]) -> Exported:
    """The model of a fitted prior: by its own code, or if that cannot leave, by its traced map.

    Raises:
        CannotBundle: if neither draws what the prior draws with torch and numpy alone.
    """
    try:
        return _by_code(prior, name, shape)
    except CannotBundle as error:
        reason = str(error)
    if not isinstance(prior, HasLatents):
        raise CannotBundle(f"{reason}, and it shows no latents, whose map could be traced")
    try:
        return _by_trace(prior, name, shape)
    except CannotBundle as error:
        raise CannotBundle(f"{reason}; {error}") from None


def _by_code(prior: TruncPrior, name: str, shape: tuple[int, int, int]) -> Exported:
    code = bundle([ExportedPrior, type(prior)], ["build", "sample"], _own(type(prior)))
    body = f"make = {type(prior).__name__}"
    config = {"params": prior.params(), "sizes": _sizes(prior, shape)}
    tensors = {f"inner.{name}": tensor for name, tensor in prior.state_dict().items()}
    return _checked(prior, name, shape, (code, ExportedPrior, body), config, tensors)


def _by_trace(prior: TruncPrior, name: str, shape: tuple[int, int, int]) -> Exported:
    found = traced(prior)
    code = bundle([TracedPrior], ["forward"], {"priorbench"})
    sizes = {name: _size(tensor) for name, tensor in found.tensors.items()}
    config = {"latent": found.latent, "sizes": sizes}
    return _checked(prior, name, shape, (code, TracedPrior, found.code), config, found.tensors)


def _checked(
    prior: TruncPrior,
    name: str,
    shape: tuple[int, int, int],
    parts: tuple[str, type, str],
    config: dict[str, Any],
    tensors: dict[str, Tensor],
) -> Exported:
    """The model, once it is known to draw what ``prior`` draws.

    Arguments:
        parts: the code of the base class, that class, and the body of its subclass.
        config: of the model, besides what both kinds have.

    Raises:
        CannotBundle: if it draws something else.
    """
    base_code, base, body = parts
    digest = hashlib.sha256("".join((base_code, body)).encode()).hexdigest()[:8]
    model = "".join(part.capitalize() for part in name.split("-")) + f"Prior_{digest}"
    code = f"{base_code}\n\nclass {model}({base.__name__}):\n{indent(body, ' ' * 4)}\n"
    try:
        made = _model(code, model)(shape=list(shape), emits=prior.emits, **config)
        made.load_state_dict(tensors)
        made = made.to(prior.device).eval()
        draws = made, lambda n, generator: prior.sample(n, generator).as_subclass(Tensor)
        with torch.no_grad():
            same = all(
                torch.equal(*(draw(n, torch.Generator().manual_seed(0)) for draw in draws))
                for n in DRAWN
            )
    except Exception as error:  # a prior's own code, outside of its home
        raise CannotBundle(one_line(error, named=True)) from error
    if not same:
        raise CannotBundle("made of its code and weights alone it draws other samples")
    return Exported(model, code, made)


def _own(cls: type) -> set[str]:
    """The packages whose code may leave: ours, that of the prior, and those of other plugins."""
    priors = load_plugins().of_kind("prior").values()
    factories = {registered.factory.split(".")[0].split(":")[0] for registered in priors}
    return {"priorbench", cls.__module__.split(".")[0], *factories}


def _sizes(prior: TruncPrior, shape: tuple[int, int, int]) -> dict[str, list[Any]]:
    """The tensors that ``build`` leaves empty."""
    fresh = type(prior)(**prior.params())
    with seeded(0):
        fresh.build(shape)
    found = prior.state_dict()
    return {
        name: _size(found[name])
        for name, tensor in fresh.state_dict().items()
        if tensor.numel() == 0 and name in found
    }


def _size(tensor: Tensor) -> list[Any]:
    return [str(tensor.dtype).removeprefix("torch."), *tensor.shape]


def _model(code: str, model: str) -> Any:
    """The class in a module of ``code``; the module is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{model}.py"
        path.write_text(code)
        spec = importlib.util.spec_from_file_location(model, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return getattr(module, model)

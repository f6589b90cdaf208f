"""The prior of an exported folder: its own code, in a model that ``diffusers`` can load."""

import hashlib
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from ..diffusion.process import seeded
from ..errors import one_line
from ..plugin_manager import load_plugins
from ..prior import TruncPrior
from .bundle import CannotBundle, bundle


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


def prior_code(prior: TruncPrior, name: str) -> tuple[str, str]:
    """The module of a fitted prior's model, and the name of the model's class.

    Both the class and whoever saves the module under the same name carry a hash of the code: two
    modules of one name share a place in diffusers' cache.

    Raises:
        CannotBundle: if the prior needs more than its own code, torch and numpy.
    """
    code = bundle([ExportedPrior, type(prior)], ["build", "sample"], _own(type(prior)))
    stem = "".join(part.capitalize() for part in name.split("-"))
    model = f"{stem}Prior_{hashlib.sha256(code.encode()).hexdigest()[:8]}"
    code += f"\n\nclass {model}(ExportedPrior):\n    make = {type(prior).__name__}\n"
    return code, model


def _own(cls: type) -> set[str]:
    """The packages whose code may leave: ours, that of the prior, and those of other plugins."""
    priors = load_plugins().of_kind("prior").values()
    factories = {registered.factory.split(".")[0].split(":")[0] for registered in priors}
    return {"priorbench", cls.__module__.split(".")[0], *factories}


def exported(prior: TruncPrior, shape: tuple[int, int, int], code: str, model: str) -> Any:
    """The model in ``code`` with the weights of ``prior``, once it is known to draw the same.

    Raises:
        CannotBundle: if it does not.
    """
    try:
        made = _model(code, model)(
            shape=list(shape), emits=prior.emits, params=prior.params(), sizes=_sizes(prior, shape)
        )
        made.inner.load_state_dict(prior.state_dict())
        made = made.to(prior.device).eval()
        one, other = (draw(8, torch.Generator().manual_seed(0)) for draw in (made, prior.sample))
    except Exception as error:  # a prior's own code, outside of its home
        raise CannotBundle(one_line(error, named=True)) from error
    if not torch.equal(one, other.as_subclass(Tensor)):
        raise CannotBundle("made of its code and weights alone it draws other samples")
    return made


def _sizes(prior: TruncPrior, shape: tuple[int, int, int]) -> dict[str, list[Any]]:
    """The tensors that ``build`` leaves empty."""
    fresh = type(prior)(**prior.params())
    with seeded(0):
        fresh.build(shape)
    found = prior.state_dict()
    return {
        name: [str(found[name].dtype).removeprefix("torch."), *found[name].shape]
        for name, tensor in fresh.state_dict().items()
        if tensor.numel() == 0 and name in found
    }


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

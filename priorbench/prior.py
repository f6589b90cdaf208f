"""The prior interface: a generator of x_{t_trunc}, fitted to the marginal and then sampled."""

import inspect
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .diffusion.process import seeded
from .errors import UserError
from .marginal import TruncatedMarginal


@dataclass
class FitRun:
    """What a fit is given besides the marginal.

    Attributes:
        generator: the source of every random draw of the fit.
        deadline: a :func:`time.monotonic` reading by which ``fit`` should have returned, or None.
        progress: called with (step, total, loss); ``total`` steps are what the fit means to take.
        log: takes a line for the run's log.
        budget: how many steps to take in place of the prior's own number, or None.
        taken: how many :meth:`steps` have begun.
        total: how many there will be, so far as that can be told.
        share: how much of the fit is over, 0..1, by steps or by the clock: what schedules should go
            by.
    """

    generator: torch.Generator
    deadline: float | None = None
    progress: Callable[[int, int, float], None] = lambda step, total, loss: None
    log: Callable[[str], None] = field(default=lambda line: None)
    budget: int | None = None
    taken: int = 0
    total: int = 0
    share: float = 0.0

    def out_of_time(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def steps(self, own: int) -> Iterator[int]:
        """0, 1, 2, ...: as many as the budget says, else until the deadline, else ``own``.

        A budget of steps or seconds is for every prior the same, so it takes the place of ``own``
        whichever is more.
        """
        started = time.monotonic()
        count = self.budget or (own if self.deadline is None else None)
        self.taken, self.share = 0, 0.0
        while count is None or self.taken < count:
            if self.out_of_time():
                self.log(
                    f"deadline reached after {self.taken} steps" + (f" of {count}" if count else "")
                )
                break
            if self.deadline is not None:
                self.share = min(
                    1.0, (time.monotonic() - started) / max(self.deadline - started, 1e-9)
                )
            if count is not None:
                self.share = max(self.share, self.taken / count)
            self.total = count or max(
                self.taken + 1, round(self.taken / self.share) if self.share > 0 else own
            )
            yield self.taken
            self.taken += 1
        self.share = 1.0


class TruncPrior(nn.Module, ABC):
    """A generator of x_{t_trunc}.

    A subclass has keyword-only hyperparameters, stored as given under their own names (as
    scikit-learn does), and three methods. The base class sees to the rest: ``fit`` starts from a
    fresh ``build`` (so that fitting again starts afresh), with initialisation and dropout seeded
    from ``run.generator``; ``sample`` runs in eval mode without gradients and raises where ``fit``
    did not come first. Draw every random number of your own from the generator that you are given,
    with :func:`priorbench.randn` for instance.
    """

    #: What ``sample`` returns: x_{t_trunc} itself, or a clean guess x_0 that the harness diffuses
    #: to t_trunc.
    emits: Literal["x_t", "x_0"] = "x_t"
    #: The split that settings of this prior are chosen on; ``train`` for a control that stores the
    #: validation images.
    chosen_on: ClassVar[Literal["validation", "train"]] = "validation"
    #: Checks of :mod:`priorbench.testing` that this prior cannot be expected to pass, and why.
    expected_failures: ClassVar[dict[str, str]] = {}
    fitted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "fit" in cls.__dict__:
            cls.fit = _fits_afresh(cls.__dict__["fit"])  # type: ignore[method-assign]
        if "sample" in cls.__dict__:
            cls.sample = _samples_once_fitted(cls.__dict__["sample"])  # type: ignore[method-assign]

    def build(self, shape: tuple[int, int, int]) -> None:
        """Make the modules and buffers for images of ``shape`` (C, H, W); called before ``fit`` and
        before loading.

        A buffer whose size depends on the data is registered empty (``torch.empty(0)``) and takes
        the saved one's shape.
        """

    @abstractmethod
    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        """Fit to q(x_{t_trunc}), on ``marginal.device``, within ``run.deadline``."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` draws, (n, C, H, W) float32: of x_{t_trunc} or x_0, as ``emits`` says."""

    def params(self) -> dict[str, Any]:
        """The hyperparameters, by the names of ``__init__``."""
        return {name: getattr(self, name) for name in parameter_defaults(type(self))}

    @property
    def device(self) -> torch.device:
        return self.fitted.device

    def save(self, folder: str | Path, **about: Any) -> None:
        """Weights to ``prior.safetensors``; class, parameters, shape (and ``about``) to
        ``prior.json``.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {k: v.contiguous() for k, v in self.state_dict().items()}, folder / "prior.safetensors"
        )
        (folder / "prior.json").write_text(
            json.dumps({"params": self.params(), "emits": self.emits, **about}, indent=2) + "\n"
        )

    def load_weights(self, path: Path) -> None:
        """Take the tensors of a safetensors file; call ``build`` first."""
        tensors = load_file(path)
        for name, buffer in list(self.named_buffers()):
            if buffer.numel() == 0 and name in tensors:
                owner, _, leaf = name.rpartition(".")
                setattr(self.get_submodule(owner), leaf, torch.empty_like(tensors[name]))
        self.load_state_dict(tensors)


@runtime_checkable
class HasLatents(Protocol):
    """What a prior may offer besides, where it is a map of latents, so that z can be shown beside
    f(z).
    """

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` draws of z, (n, ...)."""

    def from_latents(self, z: Tensor) -> Tensor:
        """f(z): what ``sample`` returns for these z, (n, C, H, W)."""


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def _fits_afresh(fit: Callable[..., None]) -> Callable[..., None]:
    @wraps(fit)
    def wrapped(self: TruncPrior, marginal: TruncatedMarginal, run: FitRun) -> None:
        with seeded(_seed(run.generator), marginal.device):
            self.build(marginal.shape)
            self.to(marginal.device).train()
            fit(self, marginal, run)
        for tensor in (*self.parameters(), *self.buffers()):
            tensor.data = (
                tensor.data.contiguous()
            )  # as they will be when loaded: other strides round otherwise
        self.to(marginal.device).eval()
        self.fitted.fill_(True)

    return wrapped


def _samples_once_fitted(sample: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(sample)
    def wrapped(self: TruncPrior, n: int, generator: torch.Generator) -> Tensor:
        if not bool(self.fitted):
            raise RuntimeError(f"{type(self).__name__}.sample was called before fit")
        with torch.no_grad(), seeded(_seed(generator), self.device):
            return sample(self, n, generator)

    return wrapped


def parameter_defaults(cls: type[TruncPrior]) -> dict[str, Any]:
    """name -> default of each hyperparameter of a prior class."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def make_prior(cls: type[TruncPrior], name: str, params: dict[str, Any]) -> TruncPrior:
    """An unbuilt prior; a hyperparameter that it refuses is the user's error."""
    try:
        return cls(**params)
    except (TypeError, ValueError) as error:
        raise UserError(f"prior {name!r}: {error}") from error


def load_prior(folder: str | Path, device: str | torch.device = "auto") -> TruncPrior:
    """A fitted prior from the folder that a run wrote (``results/<name>/priors/...``), ready to
    ``sample``.
    """
    from .diffusion.frozen import resolve_device
    from .plugin_manager import load_plugins

    folder = Path(folder)
    try:
        about = json.loads((folder / "prior.json").read_text())
        registration = load_plugins().find("prior", about["prior"])
        prior = make_prior(registration.load(), about["prior"], about["params"])
        with seeded(0):
            prior.build(tuple(about["shape"]))
        prior.load_weights(folder / "prior.safetensors")
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} holds no fitted prior that can be read: {error}") from error
    return prior.to(resolve_device(device)).eval()

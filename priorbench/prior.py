"""The prior interface: a generator of x_{t_trunc}, fitted to the marginal and then sampled."""

import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .diffusion.process import CleanGuess, seeded
from .errors import UserError, one_line
from .marginal import TruncatedMarginal
from .prior_files import WEIGHTS, read_about, weights_sha256, write_about, write_weights

if TYPE_CHECKING:
    from .plugin_manager import Registration


@dataclass
class FitRun:
    """What a fit is given besides the marginal.

    Attributes:
        generator: the source of every random draw of the fit.
        deadline: a :func:`time.monotonic` reading by which ``fit`` should have returned, or None.
        progress: called with (step, total, loss), where the fit means to take ``total`` steps.
        log: takes a line for the log of the run.
        budget: the number of steps to take in place of the prior's own number, or None.
        own_share: the share of the prior's own number of steps to take.
        taken: the number of :meth:`steps` that have been completed.
        total: the number of steps that there will be, so far as it can be told.
        share: how much of the fit is over, 0..1, by steps or by the clock. Schedules should follow
            it.
        watch: the harness's own: it is called before each step with this object and ``finish``, and
            returns whether it looked at the fit.
        paused: the seconds that this has taken, which are not the fit's.
    """

    generator: torch.Generator
    deadline: float | None = None
    progress: Callable[[int, int, float], None] = lambda step, total, loss: None
    log: Callable[[str], None] = field(default=lambda line: None)
    budget: int | None = None
    own_share: float = 1.0
    taken: int = 0
    total: int = 0
    share: float = 0.0
    watch: "Callable[[FitRun, Callable[[], None] | None], bool] | None" = None
    paused: float = 0.0

    def out_of_time(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def steps(
        self, own: int, finish: Callable[[], None] | None = None, reserve: float = 0.0
    ) -> Iterator[int]:
        """The steps 0, 1, 2, ...: up to the budget, else until the deadline, else ``own`` of them.

        A budget of steps or seconds is the same for every prior, so it takes the place of ``own``
        even if it is larger.

        Arguments:
            finish: makes the prior what it would be if the fit ended here, for instance by copying
                averaged weights. It is called after the last step; and before the harness looks at
                the unfinished fit, which then puts all tensors back.
            reserve: the seconds before the deadline that ``finish`` needs.
        """
        started = time.monotonic()
        own = round(own * self.own_share) or min(own, 1)
        count = self.budget or (own if self.deadline is None else None)
        self.taken, self.share = 0, 0.0
        while count is None or self.taken < count:
            now = time.monotonic()
            end = None if self.deadline is None else self.deadline - reserve
            if end is not None and now >= end:
                self.log(
                    f"deadline reached after {self.taken} steps" + (f" of {count}" if count else "")
                )
                break
            if end is not None:
                self.share = min(1.0, (now - started) / max(end - started, 1e-9))
            if count is not None:
                self.share = max(self.share, self.taken / count)
            self.total = count or max(
                self.taken + 1, round(self.taken / self.share) if self.share > 0 else own
            )
            if self.watch is not None and self.watch(self, finish):
                started += self._put_off(time.monotonic() - now)
            yield self.taken
            self.taken += 1
        self.share = 1.0
        if finish:
            finish()

    def _put_off(self, seconds: float) -> float:
        """Put off the deadline by the ``seconds`` that a look at the fit took; returns them."""
        self.paused += seconds
        if self.deadline is not None:
            self.deadline += seconds
        return seconds


class TruncPrior(nn.Module, ABC):
    """A generator of x_{t_trunc}.

    A subclass has keyword-only hyperparameters, stored as given under their own names (as in
    scikit-learn), and three methods: :meth:`build`, :meth:`fit` and :meth:`sample`. The base class
    does the rest:

    - ``fit`` begins with ``build``, so a second fit starts afresh. Initialisation and dropout are
      seeded from ``run.generator``.
    - ``sample`` runs in eval mode, without gradients; before ``fit`` it raises
      :class:`RuntimeError`. Where it emits x_0, users get a :class:`CleanGuess`.

    Draw every other random number from the generator that you are given, for instance with
    ``priorbench.randn``.
    """

    #: What ``sample`` returns: x_{t_trunc} itself, or a clean guess x_0, which the harness diffuses
    #: to t_trunc.
    emits: Literal["x_t", "x_0"] = "x_t"
    #: The split that settings of this prior are chosen on: ``train`` for a control that stores the
    #: validation images.
    chosen_on: ClassVar[Literal["validation", "train"]] = "validation"
    #: Whether ``fit`` takes what a budget gives it. A closed form does not: it is fitted once, and
    #: its rows stand beside every budget of a run.
    takes_budget: ClassVar[bool] = True
    #: The checks of :mod:`priorbench.testing` that this prior cannot be expected to pass -> why.
    expected_failures: ClassVar[dict[str, str]] = {}
    #: Whether ``fit`` has run; a buffer, so that it is saved with the weights.
    fitted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        #: Of a prior of :func:`load_prior`: what its ``prior.json`` says, such as ``t_trunc``,
        #: ``backbone``, ``seed``, ``fit_budget`` and ``fit_seconds``. Otherwise empty.
        self.about: dict[str, Any] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "fit" in cls.__dict__:
            cls.fit = _fits_afresh(cls.__dict__["fit"])  # type: ignore[method-assign]
        if "sample" in cls.__dict__:
            cls.sample = _samples_once_fitted(cls.__dict__["sample"])  # type: ignore[method-assign]

    def build(self, shape: tuple[int, int, int]) -> None:
        """Make the modules and buffers for images of ``shape`` (C, H, W).

        It is called before ``fit`` and before weights are loaded. A buffer whose size depends on
        the data is registered empty (``torch.empty(0)``), and takes the shape of the saved one when
        it is loaded.
        """

    @abstractmethod
    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        """Fit to q(x_{t_trunc}), on ``marginal.device``, within ``run.deadline``."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` draws of x_{t_trunc} or x_0, as ``emits`` says: (n, C, H, W) float32.

        What users get of x_0 is a :class:`CleanGuess`, which no chain takes for x_{t_trunc}.
        """

    def times(self, t_trunc: int, steps: int) -> Sequence[int] | None:
        """The times t_1 < ... < t_K = ``t_trunc`` of a chain of K = ``steps`` steps from here.

        It is called once the prior is fitted. None, as here, stands for uniform spacing.
        """
        return None

    def params(self) -> dict[str, Any]:
        """The hyperparameters, by the names of ``__init__``."""
        return {name: getattr(self, name) for name in parameter_defaults(type(self))}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.fitted.device

    def save(self, folder: str | Path, **about: Any) -> None:
        """Write the weights to ``prior.safetensors``, the hyperparameters to ``prior.json``.

        :func:`load_prior` reads them if ``about`` gives the registered name as ``prior`` and the
        ``shape`` (C, H, W).
        """
        folder = Path(folder)
        write_weights(folder, self.state_dict())
        write_about(folder, {"params": self.params(), "emits": self.emits, **about})

    def load_weights(self, path: Path) -> None:
        """Take the tensors of a safetensors file; call ``build`` first."""
        self.load_tensors(load_file(path))

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take the tensors of another prior's ``state_dict``; call ``build`` first."""
        for name, buffer in list(self.named_buffers()):
            if buffer.numel() == 0 and name in tensors:
                owner, _, leaf = name.rpartition(".")
                setattr(self.get_submodule(owner), leaf, torch.empty_like(tensors[name]))
        self.load_state_dict(tensors)


@runtime_checkable
class HasLatents(Protocol):
    """A prior that is a map f of latents z, and so can show z beside f(z)."""

    def latents(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` draws of z, (n, ...)."""

    def from_latents(self, z: Tensor) -> Tensor:
        """f(z): what ``sample`` returns for these z, (n, C, H, W)."""


@runtime_checkable
class HasSource(HasLatents, Protocol):
    """A map of latents that says which points of image space it moves.

    Latents of as many numbers as an image has are these points themselves, and need no method.
    """

    def source(self, z: Tensor) -> Tensor:
        """The points that f moves to f(z), (n, C, H, W): standard normal over draws of z."""


def seed_from(generator: torch.Generator) -> int:
    """A seed for the global generators, drawn from ``generator``."""
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def _fits_afresh(fit: Callable[..., None]) -> Callable[..., None]:
    """``fit``, begun with ``build``, seeded, and ended with ``fitted`` set."""

    @wraps(fit)
    def wrapped(self: TruncPrior, marginal: TruncatedMarginal, run: FitRun) -> None:
        with seeded(seed_from(run.generator), marginal.device):
            self.build(marginal.shape)
            self.to(marginal.device).train()
            fit(self, marginal, run)
        # Loaded weights are contiguous, and other strides would round differently.
        for tensor in (*self.parameters(), *self.buffers()):
            tensor.data = tensor.data.contiguous()
        self.to(marginal.device).eval()
        self.fitted.fill_(True)

    return wrapped


def _samples_once_fitted(sample: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``sample``, refused before ``fit``, seeded, without gradients, and its clean guesses named
    as such.
    """

    @wraps(sample)
    def wrapped(self: TruncPrior, n: int, generator: torch.Generator) -> Tensor:
        if not bool(self.fitted):
            raise RuntimeError(f"{type(self).__name__}.sample was called before fit")
        with torch.no_grad(), seeded(seed_from(generator), self.device):
            found = sample(self, n, generator)
        guessed = self.emits == "x_0" and isinstance(found, Tensor)
        return found.as_subclass(CleanGuess) if guessed else found

    return wrapped


def parameter_defaults(cls: type[TruncPrior]) -> dict[str, Any]:
    """The hyperparameters of a prior class: name -> default."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def make_prior(cls: type[TruncPrior], name: str, params: dict[str, Any]) -> TruncPrior:
    """A prior before ``build``; ``name`` is what errors call it.

    Raises:
        UserError: if it refuses a hyperparameter.
    """
    try:
        return cls(**params)
    except (TypeError, ValueError) as error:
        raise UserError(f"prior {name!r}: {error}") from error


def rebuild_prior(prior: TruncPrior, folder: Path, shape: tuple[int, int, int]) -> TruncPrior:
    """``prior``, built for images of ``shape`` (C, H, W), with the weights in ``folder``.

    Raises:
        OSError, RuntimeError, SafetensorError: if the weights cannot be read, or are of another
            prior. The ``build`` of a plugin may raise anything else.
    """
    return reloaded(prior, shape, load_file(folder / WEIGHTS))


def reloaded(
    prior: TruncPrior, shape: tuple[int, int, int], tensors: dict[str, Tensor]
) -> TruncPrior:
    """``prior``, built for images of ``shape`` (C, H, W), with the given tensors."""
    with seeded(0):
        prior.build(shape)
    prior.load_tensors(tensors)
    return prior.eval()


def registered(name: str) -> "Registration":
    """What registers the prior ``name``, which was fitted once.

    Raises:
        UserError: if nothing does: it is of a plugin that is not there.
    """
    from .plugin_manager import load_plugins

    try:
        return load_plugins().find("prior", name)
    except UserError as error:
        raise UserError(
            f"{error}. A prior of a plugin needs its plugin: --plugin FILE, or "
            "priorbench.add_plugin(FILE)"
        ) from None


def load_prior(folder: str | Path, device: str | torch.device = "auto") -> TruncPrior:
    """A fitted prior, ready to ``sample``.

    Arguments:
        folder: a folder that a run wrote (``results/<name>/priors/...``).
        device: where to put it; ``auto`` is the accelerator if there is one.

    Raises:
        UserError: if the folder holds no fitted prior, or that of a plugin that is not installed.
    """
    from .diffusion.frozen import resolve_device

    folder = Path(folder)
    try:
        about = read_about(folder)
        if about.get("sha256", "") not in ("", weights_sha256(folder)):
            raise ValueError("its weights are not those that were written")
        prior = make_prior(registered(about["prior"]).load(), about["prior"], about["params"])
        prior = rebuild_prior(prior, folder, tuple(about["shape"]))
        prior.about = about
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{folder} holds no fitted prior that can be read: {one_line(error)}"
        ) from error
    return prior.to(resolve_device(device))

r"""Images in a few evaluations: a prior supplies x_{t_trunc}, and a solver takes it to x_0.

.. math:: x_{t_\text{trunc}} \sim \text{prior}, \qquad
          x_0 = \text{solver}(x_{t_\text{trunc}}; t_K = t_\text{trunc} > \dots > t_1)

A run draws its samples by the same code, and takes them through the chain of this very object. The
random streams are those of a run too: one for the prior, one for the noise that diffuses a clean
guess, one for the noise of the solver. So with the seed and the batch size of a run, whole batches
are what the run measured.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .data.dataset import batch_sizes, to_bytes
from .diffusion.frozen import FrozenDiffusion, resolve_device
from .diffusion.loading import on_hub
from .diffusion.process import generator_for, seeded
from .diffusion.solvers import chain_times, solver_class
from .errors import UserError, first_line, one_line, unknown
from .isolation import weights_digest
from .pictures import as_pil
from .prior import TruncPrior, make_prior, registered, reloaded

OUTPUTS = ("tensor", "uint8", "pil")


class BadSample(UserError):
    """A prior returned something other than n finite images, or than the times of a chain."""


@dataclass(frozen=True)
class Streams:
    """The random streams of one draw of samples.

    Attributes:
        sample: of the prior.
        diffuse: of the noise that takes clean guesses to t_trunc.
        denoise: of the noise of a stochastic solver.
    """

    sample: torch.Generator
    diffuse: torch.Generator
    denoise: torch.Generator

    @classmethod
    def of(cls, seed: int, split: str = "") -> "Streams":
        """Those of ``seed``; samples that settings are chosen by have others, named by a split."""
        purposes = (f"{purpose} {split}".rstrip() for purpose in ("sample", "diffuse", "denoise"))
        return cls(*(generator_for(seed, purpose) for purpose in purposes))


class TruncatedSampler:
    """A fitted prior, a frozen model and a solver, from t_trunc down to images.

    Arguments:
        prior: fitted for ``diffusion`` at ``t_trunc``. It is moved to the model's device.
        diffusion: the frozen model.
        t_trunc: where the chain starts; by default where a prior that was loaded was fitted.
        solver: a key of :data:`priorbench.diffusion.solvers.SOLVERS`, or the name of a class of
            schedulers of ``diffusers``.
        steps: of the chain, over the prior's own times if it has some. None takes every timestep.
        batch_size: the number of images that are made at once.

    Raises:
        UserError: if t_trunc, the solver or the steps cannot be used.
        BadSample: if the prior's times are those of no such chain.
    """

    def __init__(
        self,
        prior: TruncPrior,
        diffusion: FrozenDiffusion,
        t_trunc: int | None = None,
        solver: str = "dpm++sde",
        steps: int | None = None,
        batch_size: int = 250,
    ) -> None:
        for value, kind in ((prior, TruncPrior), (diffusion, FrozenDiffusion)):
            if not isinstance(value, kind):
                raise UserError(f"a {kind.__name__} is needed, got {value!r}")
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, got {batch_size}")
        solver_class(solver)
        self.prior = prior.to(diffusion.device)
        self.diffusion = diffusion
        self.t_trunc = diffusion.process.check(_t_trunc(prior, t_trunc), "t_trunc")
        self.solver = solver
        self.steps = steps
        self.batch_size = batch_size
        #: The times t_1 < ... < t_K = t_trunc of the chain.
        self.times = times_of(prior, self.t_trunc, steps)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str | torch.device = "auto",
        precision: str | None = None,
        compile: bool = False,
    ) -> "TruncatedSampler":
        """The sampler in a folder that :func:`priorbench.save_pipeline` wrote.

        None of the code in the folder is run: the prior is that of the installed plugin.

        Arguments:
            folder: the folder, or the name of one on the hub, with its owner.
            precision: of the frozen model; by default as it was saved.

        Raises:
            UserError: if it is no such folder, or its prior's plugin is not installed.
        """
        import diffusers

        folder = _local(folder)
        try:
            about = json.loads((folder / "priorbench.json").read_text())
            index = json.loads((folder / "model_index.json").read_text())
            prior = _exported_prior(folder / "prior", about).to(resolve_device(device))
            with seeded(0):  # layers initialise by the global generator
                network, scheduler = (
                    getattr(diffusers, index[part][1]).from_pretrained(folder / part, **options)
                    for part, options in (("unet", {"use_safetensors": True}), ("scheduler", {}))
                )
            diffusion = FrozenDiffusion(
                network, scheduler, device, precision or about["precision"], compile, folder
            )
            found = weights_digest(prior), model_digest(diffusion)
            if found != (about["weights"], about["model"]):
                raise ValueError("its weights are not those that were written")
            chain = (about["t_trunc"], about["solver"], about["steps"], about["batch_size"])
            return cls(prior, diffusion, *chain)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
            raise UserError(
                f"{folder} holds no exported sampler that can be read: {one_line(error)}"
            ) from error

    def __repr__(self) -> str:
        steps = "every timestep" if self.steps is None else f"{self.steps} steps"
        return (
            f"{type(self).__name__}({type(self.prior).__name__} at t_trunc {self.t_trunc}, "
            f"{steps} of {self.solver})"
        )

    def __call__(
        self,
        n: int,
        seed: int = 0,
        output: str = "tensor",
        progress: Callable[[int, int], None] = lambda done, n: None,
    ) -> Any:
        """``n`` images.

        Arguments:
            output: ``tensor`` for (n, C, H, W) float32 in [-1, 1], on the model's device; ``uint8``
                for the same as bytes on the CPU, as a run measures them; ``pil`` for a list of
                ``PIL.Image.Image``.
            progress: called with (done, n) after each batch.

        Raises:
            UserError: if ``n`` or ``output`` cannot be used.
            BadSample: if the prior returns anything but finite images.
        """
        if output not in OUTPUTS:
            raise unknown("output", output, OUTPUTS)
        images, done = list[Tensor](), 0
        for x_0 in self.batches(n, seed):
            images.append(x_0 if output == "tensor" else to_bytes(x_0))
            done += len(x_0)
            progress(done, n)
        found = torch.cat(images)
        return as_pil(found) if output == "pil" else found

    def batches(self, n: int, seed: int = 0) -> Iterator[Tensor]:
        """``n`` images in batches (N, C, H, W), float32 in [-1, 1], each made when it is asked for.

        Raises:
            UserError: if ``n`` is less than 1.
        """
        if n < 1:
            raise UserError(f"n must be at least 1, got {n}")
        streams = Streams.of(seed)
        for size in batch_sizes(n, self.batch_size):
            x_t = self.x_t(size, streams.sample, streams.diffuse)
            yield self.denoise(x_t, streams.denoise).clamp(-1, 1)

    def x_t(
        self, n: int, generator: torch.Generator, noise: torch.Generator | None = None
    ) -> Tensor:
        """``n`` draws of x_{t_trunc}, (n, C, H, W), whatever the prior emits.

        Arguments:
            generator: of the prior.
            noise: of the noise that diffuses clean guesses; by default ``generator`` too.
        """
        return draw(self.prior, self.diffusion, self.t_trunc, n, generator, noise or generator)[1]

    def denoise(self, x_t: Tensor, generator: torch.Generator) -> Tensor:
        """x_{t_trunc} -> x_0, both (N, C, H, W)."""
        return self.diffusion.denoise(
            x_t, self.t_trunc, self.solver, self.steps, generator, self.times
        )


def _t_trunc(prior: TruncPrior, given: int | None) -> int:
    known: Any = prior.about.get("t_trunc")
    if given is None and known is None:
        raise UserError("t_trunc must be given: only a prior of load_prior knows its own")
    if None not in (given, known) and given != known:
        raise UserError(f"t_trunc must be {known}, where the prior was fitted, got {given}")
    return known if given is None else given


def draw(
    prior: TruncPrior,
    diffusion: FrozenDiffusion,
    t_trunc: int,
    n: int,
    generator: torch.Generator,
    noise: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """What ``sample(n)`` of a prior returns, and the same at t_trunc; both (n, C, H, W).

    Arguments:
        generator: of the prior.
        noise: of the noise that diffuses clean guesses.

    Raises:
        BadSample: if the prior returns anything but finite images.
    """
    emitted = _sound(prior.sample(n, generator), n, diffusion)
    x_t = emitted if prior.emits == "x_t" else diffusion.diffuse(emitted, t_trunc, noise)
    return emitted, x_t


def _local(name: str | Path) -> Path:
    """The folder ``name``, or a copy of the one that has this name on the hub."""
    folder = Path(name).expanduser()
    if folder.is_dir() or not on_hub(name):
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name)))
    except Exception as error:  # a dozen kinds, none of which needs its traceback
        raise UserError(f"{name} cannot be read from the hub: {first_line(error)}") from error


def model_digest(diffusion: FrozenDiffusion) -> str:
    """sha256 of what an exported folder keeps of a frozen model: weights, schedule and settings.

    Saving changes the other keys of a configuration, which begin with an underscore.
    """
    settings = sorted((k, str(v)) for k, v in diffusion.config.items() if not k.startswith("_"))
    schedule = diffusion.process.alpha_bar.numpy().tobytes()
    return weights_digest(diffusion.network, repr(settings).encode() + schedule)


def _exported_prior(folder: Path, about: dict[str, Any]) -> TruncPrior:
    prior = make_prior(registered(about["prior"]).load(), about["prior"], about["params"])
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    inner = {name.removeprefix("inner."): tensor for name, tensor in tensors.items()}
    prior = reloaded(prior, tuple(about["shape"]), inner)
    prior.about = about
    return prior


def times_of(prior: TruncPrior, t_trunc: int, steps: int | None) -> list[int]:
    """The times of a chain of ``steps`` steps: the prior's own, or uniform.

    With every timestep there is nothing to choose, and the prior is not asked.

    Raises:
        BadSample: if the prior's own are no times of such a chain.
        UserError: if there is no such chain.
    """
    uniform = chain_times(t_trunc, steps, None)
    own = None if steps is None else prior.times(t_trunc, steps)
    if own is None:
        return uniform
    try:
        return chain_times(t_trunc, steps, own)
    except UserError as error:
        raise BadSample(f"times({t_trunc}, {steps}): {error}") from None


def _sound(x: Any, n: int, diffusion: FrozenDiffusion) -> Tensor:
    """A copy of what ``sample(n)`` returned, once it is known to be n finite images.

    It is a copy because a prior may fill the same tensor at every call.

    Raises:
        BadSample: if it is anything else.
    """
    wanted = (n, *diffusion.shape)
    if not isinstance(x, Tensor) or tuple(x.shape) != wanted:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise BadSample(f"sample({n}) must return a tensor of shape {wanted}, got {got}")
    plain: Tensor = x.as_subclass(Tensor)
    if not bool(plain.isfinite().all()):
        raise BadSample(f"sample({n}) returned values that are not finite")
    return plain.to(diffusion.device, torch.float32, copy=True)

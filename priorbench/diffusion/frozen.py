"""The frozen diffusion model: a ``diffusers`` network and its noise schedule, never trained."""

import hashlib
import inspect
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError, first_line, unknown
from ..isolation import AsMade, weights_digest
from .loading import source_of
from .process import CleanGuess, scheduler_index
from .solvers import Chain, chain_times, evaluate, process_of, respace

PRECISIONS = ("fp32", "bf16", "fp16")


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """The device of that name; ``auto`` is the accelerator that torch finds, else the CPU.

    Raises:
        UserError: if the device cannot be used.
    """
    if str(device) != "auto":
        try:
            found = torch.device(device)
            torch.empty(0, device=found)
        except (RuntimeError, AssertionError) as error:
            reason = first_line(error)
            raise UserError(f"device {str(device)!r} cannot be used: {reason}") from None
        return found
    accelerator = (
        torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    )
    return accelerator or torch.device("cpu")


def _unfit(pipeline: Any) -> str:
    """Why ``pipeline`` is no unconditional diffusion over pixels, or nothing."""
    network = getattr(pipeline, "unet", None)
    if network is None:
        return "has no 'unet'"
    if any(hasattr(pipeline, part) for part in ("vae", "vqvae", "movq")):
        return "works on latents, not on pixels"
    config = network.config
    needed = [
        p.name
        for p in inspect.signature(network.forward).parameters.values()
        if p.default is p.empty
    ]
    if len(needed) > 2 or config.get("class_embed_type") or config.get("num_class_embeds"):
        return "needs a condition (a prompt or a class) to sample"
    if config.get("sample_size") is None:
        return "does not state the size of its images (unet/config.json: sample_size)"
    if config["out_channels"] not in (config["in_channels"], 2 * config["in_channels"]):
        return f"makes {config['out_channels']} channels out of {config['in_channels']}"
    kind = pipeline.scheduler.config.get("prediction_type", "epsilon")
    if kind not in ("epsilon", "sample", "v_prediction"):
        return f"predicts {kind!r}, not epsilon, sample or v_prediction"
    return ""


def _check_noisy(x_t: Tensor) -> None:
    if isinstance(x_t, CleanGuess):
        raise UserError(
            "this is a clean guess x_0 of a prior, and the chain starts from x_{t_trunc}: "
            "diffuse(x_0, t_trunc, generator) makes one, and a TruncatedSampler does both"
        )


class _Reached(Exception):
    """Ends a forward pass once the last wanted feature has been read."""


@dataclass
class Evaluations:
    """Counts the calls of the network that it is a hook of, and the images in them."""

    calls: int = 0
    images: int = 0

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook, called with keyword arguments."""
        if not torch.compiler.is_compiling():  # a compiled network is counted where it is called
            self.add(args[0] if args else kwargs["sample"])

    def add(self, x: Tensor) -> None:
        """Count a call on the batch ``x``."""
        self.calls += 1
        self.images += len(x)


class FrozenDiffusion:
    """A trained denoiser with its forward process.

    Arguments:
        network: a ``diffusers`` model, called as ``network(x, timestep).sample`` with x of shape
            (N, C, H, W).
        scheduler: the ``diffusers`` scheduler that it was trained with. It gives the betas, the
            prediction type and the clipping.
        device: where to run; ``auto`` takes the accelerator if there is one.
        precision: ``fp32``, or ``bf16``/``fp16`` for mixed precision in the network alone.
        compile: run the network through ``torch.compile``; or the mode of it, ``reduce-overhead``
            for CUDA graphs.
        source: the folder that they were loaded from, or a name on the hub; for a model card.

    Raises:
        UserError: if the diffusion is not variance-preserving, there is no such precision, or the
            device cannot be used.
    """

    def __init__(
        self,
        network: nn.Module,
        scheduler: Any,
        device: str | torch.device = "auto",
        precision: str = "fp32",
        compile: bool | str = False,
        source: str | Path = "",
    ) -> None:
        if not hasattr(scheduler, "alphas_cumprod"):
            raise UserError(
                f"{type(scheduler).__name__} has no alphas_cumprod: "
                "only variance-preserving diffusions can be truncated"
            )
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        self.device = resolve_device(device)
        network = network.to(self.device)
        if self.device.type == "cpu":  # this layout is up to an eighth faster there, by processor;
            network = network.to(memory_format=torch.channels_last)  # on a GPU a fifth slower
        self.network = network.eval().requires_grad_(False)
        self.config: dict[str, Any] = dict(scheduler.config)
        self.scheduler = scheduler
        self.source = source
        self.process = process_of(scheduler)
        self.precision = precision
        self.compiled = bool(compile)
        self._overwrites = compile in ("reduce-overhead", "max-autotune")
        self._counted = Evaluations()
        self.network.register_forward_pre_hook(self._counted, with_kwargs=True)
        mode = compile if isinstance(compile, str) else None
        self._call = torch.compile(self.network, mode=mode) if compile else self.network
        self._as_made = AsMade(self.network)
        self._attributes = dict(vars(self))

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device = "auto",
        precision: str = "fp32",
        compile: bool = False,
    ) -> "FrozenDiffusion":
        """The model of an unconditional ``diffusers`` pipeline, with weights in safetensors.

        Arguments:
            name: a registered name such as ``digits``, the folder of the pipeline, or its name on
                the hub, with its owner.

        Raises:
            UserError: if there is no such pipeline, if it cannot be loaded, or if its model cannot
                be truncated.
        """
        from diffusers import DiffusionPipeline
        from diffusers.utils import logging

        source = source_of(name)
        verbosity = logging.get_verbosity()
        logging.disable_progress_bar()
        logging.set_verbosity_error()  # errors are raised, and the user does not need the rest
        try:
            with torch.random.fork_rng(devices=[]):  # layers initialise by the global generator
                pipeline = DiffusionPipeline.from_pretrained(str(source), use_safetensors=True)
        except Exception as error:  # a dozen kinds; each means that diffusers cannot read it
            raise UserError(
                f"backbone {str(name)!r} is not a diffusers pipeline that can be loaded: "
                f"{first_line(error)}"
            ) from error
        finally:
            logging.enable_progress_bar()
            logging.set_verbosity(verbosity)
        reason = _unfit(pipeline)
        if reason:
            raise UserError(f"backbone {str(name)!r} is a {type(pipeline).__name__} that {reason}")
        return cls(pipeline.unet, pipeline.scheduler, device, precision, compile, source)

    @property
    def evaluations(self) -> int:
        """Calls of the network so far, by whomever: one for each batch, whatever its size."""
        return self._counted.calls

    @property
    def evaluated_images(self) -> int:
        """The number of images in all these calls together."""
        return self._counted.images

    @property
    def T(self) -> int:
        """The number of noising steps."""
        return self.process.T

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        config: Any = self.network.config
        size = config["sample_size"]
        height, width = (size, size) if isinstance(size, int) else tuple(size)
        return int(config["in_channels"]), int(height), int(width)

    def digest(self) -> str:
        """sha256 over weights and schedule: equal digests mean equal models."""
        schedule = repr(sorted((k, str(v)) for k, v in self.config.items())).encode()
        schedule += self.process.alpha_bar.numpy().tobytes()
        return weights_digest(self.network, schedule)

    def refreeze(self) -> list[str]:
        """Undo what a plugin can have done to the model, its weights excepted.

        Whether the weights have changed, :meth:`digest` tells.

        Returns:
            What was undone, in words: training mode, gradients of parameters, hooks, attributes of
            this object.
        """
        undone = []
        if vars(self).keys() - {"_attributes"} != self._attributes.keys() or any(
            vars(self)[name] is not value for name, value in self._attributes.items()
        ):
            undone.append("other attributes")
            kept = self._attributes
            vars(self).clear()
            vars(self).update(kept, _attributes=kept)
        return undone + self._as_made.restore()

    def layers(self) -> str:
        """The layers of the network, with dropout rates and activations, and its precision."""
        return f"{self.network!r} in {self.precision}"

    def architecture(self) -> str:
        """sha256 over the configuration of the network, which its weights do not determine."""
        every: Any = self.network.config
        config = {k: v for k, v in dict(every).items() if not k.startswith("_")}
        known = json.dumps([type(self.network).__name__, config], sort_keys=True, default=str)
        return hashlib.sha256(known.encode()).hexdigest()

    @property
    def warning(self) -> str:
        """What is wrong with the model itself, in a sentence; empty if nothing is."""
        kind = self.config.get("prediction_type", "epsilon")
        if kind != "epsilon" or self.process.alpha_bar[-1] > 0:
            return ""
        return (
            f"alpha_bar_T is 0 and the model predicts epsilon: at t = T = {self.T} its prediction "
            "says nothing of x_0, so chains from pure noise are undefined"
        )

    def describe(self) -> dict[str, str]:
        """The model in words and figures, for a table: property -> value."""
        config, alpha_bar = self.config, self.process.alpha_bar
        limit = "not clipped"
        if config.get("thresholding"):
            ratio = config.get("dynamic_thresholding_ratio", 0.995)
            limit = f"dynamic thresholding at the {ratio} quantile"
        elif config.get("clip_sample"):
            limit = f"clipped to +-{config.get('clip_sample_range', 1.0):g}"
        return {
            "network": type(self.network).__name__,
            "parameters": f"{sum(p.numel() for p in self.network.parameters()):,}",
            "images": "x".join(map(str, self.shape)),
            "predicts": str(config.get("prediction_type", "epsilon")),
            "T": str(self.T),
            "betas": f"{config.get('beta_schedule', 'given')}, {1 - float(alpha_bar[1]):.2g} to "
            f"{1 - float(alpha_bar[-1] / alpha_bar[-2]):.2g}",
            "alpha_bar_T": f"{float(alpha_bar[-1]):.2g}",
            "x_0": limit,
            "variance": str(config.get("variance_type") or "of each solver"),
            "sha256": self.digest()[:16],
        } | ({"warning": self.warning} if self.warning else {})

    def diffuse(self, x_0: Tensor, t: int, generator: torch.Generator) -> Tensor:
        """A draw of q(x_t | x_0); see :class:`~priorbench.diffusion.process.ForwardProcess`."""
        return self.process.diffuse(x_0, self.process.check(t), generator)

    def predict(self, x: Tensor, index: float) -> Tensor:
        """The raw output of the network for ``x`` (N, C, H, W), in the dtype of ``x``.

        It counts as an evaluation.

        Arguments:
            index: the index of the scheduler, t - 1; between times at half steps of a solver.
        """
        if self.compiled:
            self._counted.add(x)
        output = evaluate(self._call, x, index, self.precision)
        # A CUDA graph writes each output where the last one was, and solvers keep several.
        return output.clone() if self._overwrites else output

    @torch.no_grad()
    def denoise(
        self,
        x_t: Tensor,
        t_trunc: int,
        solver: str = "dpm++sde",
        steps: int | None = None,
        generator: torch.Generator | None = None,
        times: Sequence[int] | None = None,
    ) -> Tensor:
        """x_{t_trunc} -> x_0, both (N, C, H, W).

        Arguments:
            solver: a key of :data:`priorbench.diffusion.solvers.SOLVERS`, or the name of a class of
                schedulers of ``diffusers``.
            steps: the number of steps. None takes every timestep, x_{t_trunc} -> x_{t_trunc - 1}
                -> ... -> x_0.
            generator: the noise of stochastic solvers; by default one with seed 0.
            times: the times t_1 < ... < t_K = t_trunc of the chain, of which ``steps`` is the
                number or None; by default they are spaced uniformly.

        Raises:
            UserError: if ``t_trunc``, ``solver``, ``steps`` or ``times`` cannot be used, or if
                ``x_t`` is a :class:`~priorbench.CleanGuess`.
        """
        _check_noisy(x_t)
        chosen = chain_times(self.process.check(t_trunc, "t_trunc"), steps, times)
        generator = generator or torch.Generator().manual_seed(0)
        return Chain(solver, self.process, chosen, self.config).run(
            self.predict, x_t.to(self.device), generator
        )

    @torch.no_grad()
    def carry(
        self, x_t: Tensor, t: int, down_to: int, solver: str = "dpm++", steps: int = 10
    ) -> Tensor:
        """x_t -> x_{down_to}, both (N, C, H, W), along the chain of a solver without noise.

        With t = T this is the chain's own map from pure noise to x_{t_trunc}.

        Arguments:
            solver: as in :meth:`denoise`; one that draws noise is given a seed of 0.
            steps: the number of steps, evenly spaced; with ``down_to`` = 0 as in :meth:`denoise`.

        Raises:
            UserError: as :meth:`denoise`, or unless 0 <= ``down_to`` < t.
        """
        if not down_to:
            return self.denoise(x_t, t, solver, steps)
        _check_noisy(x_t)
        self.process.check(down_to, "down_to")
        above = respace(self.process.check(t) - down_to, steps)
        chain = Chain(solver, self.process, [down_to + s for s in [0, *above]], self.config)
        end = scheduler_index(down_to)
        found: list[Tensor] = []

        def predict(x: Tensor, index: float) -> Tensor:
            if index == end:
                found.append(x)
                raise _Reached
            return self.predict(x, index)

        with suppress(_Reached):
            chain.run(predict, x_t.to(self.device), torch.Generator().manual_seed(0))
        return found[0]

    @torch.no_grad()
    def trajectory(
        self,
        x_t: Tensor,
        t_trunc: int,
        solver: str,
        steps: int | None,
        generator: torch.Generator,
        between: int = 3,
        times: Sequence[int] | None = None,
    ) -> dict[int, Tensor]:
        """The states that :meth:`denoise` passes through: t -> x_t, each (N, C, H, W).

        They are those at t_trunc, at up to ``between`` times below it, and at 0. Each is x_t as the
        network sees it, whatever units the solver keeps it in.
        """
        _check_noisy(x_t)
        chosen = chain_times(self.process.check(t_trunc, "t_trunc"), steps, times)
        wanted = {chosen[round(i * len(chosen) / (between + 1)) - 1] for i in range(1, between + 1)}
        seen = {t_trunc: x_t.to(self.device)}

        def predict(x: Tensor, index: float) -> Tensor:
            t = round(index) + 1
            if t in wanted:
                seen.setdefault(t, x.clone())
            return self.predict(x, index)

        chain = Chain(solver, self.process, chosen, self.config)
        x_0 = chain.run(predict, seen[t_trunc], generator)
        return seen | {0: x_0}

    def features(self, x_t: Tensor, t: int) -> list[Tensor]:
        """The outputs of the down blocks and of the middle block for ``x_t`` at ``t``.

        They are (N, C_i, H_i, W_i) and differentiable in ``x_t``. The up blocks are not run, but it
        counts as an evaluation.

        Raises:
            UserError: if the network has no such blocks.
        """
        self.process.check(t)
        down = getattr(self.network, "down_blocks", [])
        blocks = [b for b in (*down, getattr(self.network, "mid_block", None)) if b is not None]
        if not blocks:
            raise UserError(
                f"{type(self.network).__name__} has no down or middle blocks to read features from"
            )
        found: list[Tensor] = []

        def read(module: nn.Module, _: Any, output: Any) -> None:
            found.append(output[0] if isinstance(output, tuple) else output)
            if module is blocks[-1]:
                raise _Reached

        handles = [block.register_forward_hook(read) for block in blocks]
        try:
            self.network(x_t, torch.full((len(x_t),), scheduler_index(t), device=x_t.device))
        except _Reached:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return found

r"""From x_{t_trunc} to x_0 in any number of steps, by any ``diffusers`` scheduler.

The scheduler must be of the variance-preserving kind. The truncated and respaced chain
t_trunc = t_K > ... > t_1 > t_0 = 0 is a diffusion of its own, with K steps and

.. math:: \bar\alpha'_k = \bar\alpha_{t_k}, \qquad
          \beta'_k = 1 - \bar\alpha_{t_k} / \bar\alpha_{t_{k-1}}

(Nichol and Dhariwal, 2021, https://arxiv.org/abs/2102.09672, section 4). So a class of schedulers
is rebuilt over these K betas and runs its *full* chain; only the network is told the original
times. Every scheduler then works unchanged from any t_trunc, whether or not it takes timesteps from
its caller, and none depends on its own timestep arithmetic. (DDIM and PNDM, for example, step by
``T // steps``. If steps does not divide T they miss their own grid and can stop short of x_0.)
With K = t_trunc this is the scheduler over ``betas[:t_trunc]``. If K divides t_trunc, the times are
those of diffusers' "trailing" spacing (Lin et al., 2024, https://arxiv.org/abs/2305.08891).

Whatever the network predicts is turned into

.. math:: \hat x_0 = (x_t - \sqrt{1 - \bar\alpha_t} \, \hat\epsilon) / \sqrt{\bar\alpha_t}
                   = \sqrt{\bar\alpha_t} \, x_t - \sqrt{1 - \bar\alpha_t} \, \hat v

here, clipped or thresholded as the model's folder says, and only then handed to the scheduler. So
the same limits hold for all solvers, even for those whose classes have no such option.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError, unknown
from .process import ForwardProcess, scheduler_index

#: Name -> (class of ``diffusers``, settings that make it this solver).
SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddpm": ("DDPMScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpm++sde": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "solver_order": 2},
    ),
    "unipc": ("UniPCMultistepScheduler", {}),
}

# The predictions that those schedulers are handed that cannot be handed x_0. PNDM extrapolates
# epsilon over the steps. The others work on x / sqrt(alpha_bar), where x_0 is the difference of two
# large numbers if it is computed from epsilon, but not if it is computed from v.
HANDED = {
    "PNDMScheduler": "epsilon",
    "EulerAncestralDiscreteScheduler": "v_prediction",
    "KDPM2DiscreteScheduler": "v_prediction",
    "KDPM2AncestralDiscreteScheduler": "v_prediction",
}

# The model's settings that a scheduler obeys by itself. DDIM steps by the limited x_0 and by the
# epsilon of the unlimited x_0. No single prediction stands for both, so DDIM gets the unlimited x_0
# and the limits.
LIMITS = (
    "clip_sample",
    "clip_sample_range",
    "thresholding",
    "dynamic_thresholding_ratio",
    "sample_max_value",
)
OBEYED = {
    "DDIMScheduler": LIMITS,
    "DDIMParallelScheduler": LIMITS,
    "DDPMScheduler": ("variance_type",),
    "DDPMParallelScheduler": ("variance_type",),
}

# Settings that make a rebuilt chain begin at its last timestep and end in x_0.
CHAIN_SETTINGS = {
    "timestep_spacing": "trailing",
    "steps_offset": 0,
    "set_alpha_to_one": True,
    "final_sigmas_type": "zero",
    "lower_order_final": True,
    "skip_prk_steps": True,
    "rescale_betas_zero_snr": False,
    "clip_sample": False,
}

# The last sigma for schedulers that take its logarithm: far below a grey level.
SMALLEST_SIGMA = 1e-4

# The value to which diffusers lifts alpha_bar_T = 0, since schedulers take its logarithm.
SMALLEST_ALPHA_BAR = 2.0**-24

# The float32 below 1. A beta of 1 would give a scheduler alpha_bar = 0 before it is handed the true
# alpha_bar.
LARGEST_BETA = 1 - 2.0**-24


def respace(t_trunc: int, steps: int | None) -> list[int]:
    """The times t_1 < ... < t_K = t_trunc of a chain of ``steps`` steps.

    With None for ``steps`` these are all times 1..t_trunc.

    Raises:
        UserError: if ``steps`` is no whole number in 1..t_trunc.
    """
    if steps is None:
        return list(range(1, t_trunc + 1))
    if isinstance(steps, bool) or int(steps) != steps or not 1 <= steps <= t_trunc:
        raise UserError(f"steps must be a whole number from 1 to t_trunc = {t_trunc}, got {steps}")
    return [round(t_trunc * k / steps) for k in range(1, steps + 1)]


def chain_times(t_trunc: int, steps: int | None, times: Sequence[int] | None) -> list[int]:
    """``times`` once they are known to be those of a chain; with None, those of :func:`respace`.

    Raises:
        UserError: if ``times`` are not whole numbers 1 <= t_1 < ... < t_K = t_trunc, or are not as
            many as ``steps`` says.
    """
    uniform = respace(t_trunc, steps)
    if times is None:
        return uniform
    with suppress(TypeError, ValueError, OverflowError):
        found = [int(t) for t in times]
        rising = all(t < later for t, later in pairwise([0, *found]))
        enough = len(found) == (steps or len(found))
        if rising and enough and found == list(times) and found[-1:] == [t_trunc]:
            return found
    count = "" if steps is None else f"{steps} "
    raise UserError(
        f"times must be {count}whole numbers that rise from at least 1 to t_trunc = {t_trunc}, "
        f"got {str(times)[:60]}"
    )


def solver_class(name: str) -> tuple[type, dict[str, Any]]:
    """The scheduler class and the settings that ``name`` stands for.

    Arguments:
        name: a key of :data:`SOLVERS`, or the name of a class of ``diffusers``.

    Raises:
        UserError: if there is no such class, or if it cannot run a truncated chain.
    """
    import diffusers

    class_name, settings = SOLVERS.get(name, (name, {}))
    cls = getattr(diffusers, class_name, None) if class_name.endswith("Scheduler") else None
    if cls is None:
        every = [n for n in dir(diffusers) if n.endswith("Scheduler") and not n.startswith("Flax")]
        spelled = name.lower().replace("pp", "++")  # as diffusers spells it
        if spelled in SOLVERS:
            raise UserError(f"there is no solver {name!r}; did you mean {spelled!r}?")
        raise unknown("solver", name, [*SOLVERS, *every])
    try:
        reason = _unfit(cls)
    except ImportError as error:  # diffusers' stand-in for a class whose dependency is missing
        raise UserError(
            f"solver {name!r} needs a package that is not installed: {error}"
        ) from error
    if reason:
        raise UserError(f"solver {name!r} {reason}")
    return cls, settings


@cache  # it makes a scheduler, which takes KDPM2 a fifth of a second
def _unfit(cls: type) -> str:
    """Why a scheduler class cannot run a truncated chain, or nothing."""
    step = getattr(cls, "step", None) or (lambda: None)
    needed = [p for p in inspect.signature(step).parameters.values() if p.default is p.empty]
    if "trained_betas" not in inspect.signature(cls).parameters:
        return "does not run over a given noise schedule (it takes no trained_betas)"
    if cls.__name__.startswith(("LCM", "TCD")):
        return "is for distilled consistency models"
    if "Inverse" in cls.__name__:
        return "runs from x_0 to noise, not back"
    if len(needed) != 4:  # self, model_output, timestep, sample
        return f"needs more than a prediction to step: {', '.join(p.name for p in needed[1:])}"
    if not hasattr(cls(), "alphas_cumprod"):
        return "is not of the variance-preserving kind (it has no alphas_cumprod)"
    return ""


def respaced_alpha_bar(process: ForwardProcess, times: Sequence[int]) -> Tensor:
    """alpha_bar at 0 and at ``times``, shape (K + 1,), float64, positive and falling.

    A 0 at the end (zero terminal SNR) is lifted as in diffusers, but stays below the value before.
    """
    alpha_bar = process.alpha_bar[[0, *times]]
    if alpha_bar[-1] <= 0:
        alpha_bar[-1] = min(SMALLEST_ALPHA_BAR, float(alpha_bar[-2]) / 2)
    return alpha_bar


def truncated_scheduler(
    solver: str, process: ForwardProcess, times: list[int], config: dict[str, Any]
) -> Any:
    """The scheduler of ``solver``, rebuilt over the chain ``times`` and ready to step.

    It takes predictions of the type that its own config names.

    Arguments:
        times: those of :func:`chain_times`.
        config: that of the scheduler that the model was trained with.

    Raises:
        UserError: if the solver cannot run this chain.
    """
    cls, settings = solver_class(solver)
    alpha_bar = respaced_alpha_bar(process, times)
    wanted = {
        **CHAIN_SETTINGS,
        **{k: config[k] for k in OBEYED.get(cls.__name__, ()) if k in config},
        **settings,
        "prediction_type": HANDED.get(cls.__name__, "sample"),
        "num_train_timesteps": len(times),
        "trained_betas": (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=LARGEST_BETA).numpy(),
    }
    accepted = inspect.signature(cls).parameters
    scheduler = cls(**{k: v for k, v in wanted.items() if k in accepted})
    scheduler.alphas_cumprod = alpha_bar[1:].to(torch.float32)  # undoes the rounding of 1 - beta
    _set_timesteps(scheduler, len(times))
    if not bool(scheduler.timesteps.isfinite().all()):  # KDPM2Ancestral subtracts squares of sigmas
        raise UserError(
            f"solver {solver!r} is not precise enough to start from alpha_bar = "
            f"{float(alpha_bar[-1]):.2g} with {len(times)} steps: take more steps, or "
            "another solver"
        )
    return scheduler


def _set_timesteps(scheduler: Any, steps: int) -> None:
    """Make ``scheduler`` take all steps of its chain of ``steps`` steps, down to x_0."""
    scheduler.set_timesteps(steps)
    every = list(range(steps))[::-1]
    if not set(every) <= set(scheduler.timesteps.tolist()):
        scheduler.set_timesteps(timesteps=every)  # DPMSolverSinglestep has a spacing of its own
    if not hasattr(scheduler, "sigmas"):
        return
    # In float32, sigma**2 + 1 loses the 1 when sigma is 20,000. UniPC moves its sigmas to the
    # device, and not every device has float64.
    if type(scheduler).__name__ != "UniPCMultistepScheduler":
        scheduler.sigmas = scheduler.sigmas.to(torch.float64)
    # DEIS and SASolver repeat the last sigma, and would stop at x_{t_1}.
    if len(scheduler.sigmas) == steps + 1 and scheduler.sigmas[-1] > 0:
        scheduler.sigmas[-1] = SMALLEST_SIGMA


def process_of(scheduler: Any) -> ForwardProcess:
    """The forward process of a scheduler that a model was trained with.

    Raises:
        UserError: if alpha_bar does not fall at every step.
    """
    alpha_bar = scheduler.alphas_cumprod.clone()
    # Some schedulers lift this 0 for their own use, even above the value before it.
    if scheduler.config.get("rescale_betas_zero_snr") and alpha_bar[-1] == SMALLEST_ALPHA_BAR:
        alpha_bar[-1] = 0
    return ForwardProcess(alpha_bar)


def evaluate(network: Callable[..., Any], x: Tensor, index: float, precision: str) -> Tensor:
    """The raw output of a ``diffusers`` network for ``x`` (N, C, H, W), in the dtype of ``x``.

    Arguments:
        index: the index of the scheduler, t - 1; between times at half steps of a solver.
        precision: ``fp32``, or ``bf16``/``fp16`` for mixed precision.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    with torch.autocast(x.device.type, dtype, enabled=precision != "fp32"):
        timestep = torch.full((len(x),), index, device=x.device, dtype=torch.float32)
        output: Tensor = network(x, timestep).sample.to(x.dtype)
    return output


def _scales(alpha_bar: float) -> tuple[float, float]:
    """(sqrt(alpha_bar), sqrt(1 - alpha_bar))."""
    return alpha_bar**0.5, (1 - alpha_bar) ** 0.5


def to_x_0(output: Tensor, kind: str, x_t: Tensor, alpha_bar: float) -> Tensor:
    """The x_0 that a prediction of type ``kind`` stands for; all (N, C, H, W)."""
    signal, sigma = _scales(alpha_bar)
    if kind == "epsilon":
        return (x_t - sigma * output) / signal
    return signal * x_t - sigma * output if kind == "v_prediction" else output


def from_x_0(x_0: Tensor, kind: str, x_t: Tensor, alpha_bar: float) -> Tensor:
    """The prediction of type ``kind`` that stands for ``x_0``: the inverse of :func:`to_x_0`."""
    signal, sigma = _scales(alpha_bar)
    if kind == "epsilon":
        return (x_t - signal * x_0) / sigma
    return (signal * x_t - x_0) / sigma if kind == "v_prediction" else x_0


def limited(x_0: Tensor, config: dict[str, Any]) -> Tensor:
    """A predicted x_0 (N, C, H, W), thresholded or clipped if ``config`` says so.

    Dynamic thresholding: Saharia et al. (2022), section 2.3, https://arxiv.org/abs/2205.11487.
    """
    if config.get("thresholding"):
        s = x_0.abs().flatten(1).quantile(config.get("dynamic_thresholding_ratio", 0.995), dim=1)
        s = s.clamp(1, config.get("sample_max_value", 1.0)).view(-1, 1, 1, 1)
        return x_0.clamp(-s, s) / s
    if config.get("clip_sample"):
        limit = config.get("clip_sample_range", 1.0)
        return x_0.clamp(-limit, limit)
    return x_0


def _log_sigma(alpha_bar: Tensor) -> np.ndarray:
    """log sqrt((1 - alpha_bar) / alpha_bar) at all times but 0, shape (K,)."""
    values: np.ndarray = alpha_bar[1:].numpy()
    found: np.ndarray = 0.5 * (np.log1p(-values) - np.log(values))
    return found


@dataclass
class Chain:
    """A scheduler over a respaced chain, and the map from its timesteps to those of the network.

    Arguments:
        solver: see :func:`solver_class`.
        process: the forward process of the whole chain.
        times: those of :func:`chain_times`.
        config: that of the scheduler that the model was trained with.
    """

    solver: str
    process: ForwardProcess
    times: list[int]
    config: dict[str, Any]

    @cached_property
    def alpha_bar(self) -> Tensor:
        """alpha_bar at 0 and at ``times``, shape (K + 1,)."""
        return respaced_alpha_bar(self.process, self.times)

    def at(self, timestep: Tensor | float | int) -> tuple[float, float]:
        """(index, alpha_bar): the network's index of the scheduler's ``timestep``, and its signal.

        It is exact at the times of the chain. Between them (KDPM2 and similar schedulers evaluate
        at half steps) it is the time of equal log sigma on the original schedule. That is how these
        schedulers place the half step themselves.
        """
        step = float(timestep)
        if step == round(step):
            t, alpha_bar = self.times[int(step)], self.alpha_bar[int(step) + 1]
            return float(scheduler_index(t)), float(alpha_bar)
        log_sigma = np.interp(step, range(len(self.times)), _log_sigma(self.alpha_bar))
        every = respaced_alpha_bar(self.process, range(1, self.process.T + 1))
        index = np.interp(log_sigma, _log_sigma(every), range(self.process.T))
        return float(index), float(1 / (1 + np.exp(2 * log_sigma)))

    def run(
        self, network: Callable[[Tensor, float], Tensor], x: Tensor, generator: torch.Generator
    ) -> Tensor:
        """x_{t_trunc} -> x_0, both (N, C, H, W).

        Arguments:
            network: (x, index) -> the raw prediction, of the type that ``config`` names.
            x: x_{t_trunc}.
            generator: the noise of stochastic solvers.
        """
        scheduler = truncated_scheduler(self.solver, self.process, self.times, self.config)
        accepted = inspect.signature(scheduler.step).parameters
        random = {"generator": generator} if "generator" in accepted else {}
        learned = str(getattr(scheduler.config, "variance_type", "")).startswith("learned")
        limits = {} if OBEYED.get(type(scheduler).__name__) is LIMITS else self.config
        kind = self.config.get("prediction_type", "epsilon")
        handed = scheduler.config.prediction_type
        # Schedulers of the Euler kind work on x / sqrt(alpha_bar), and scale_model_input undoes the
        # division.
        one = torch.ones(1, dtype=x.dtype, device=x.device)
        x = x / scheduler.scale_model_input(one, scheduler.timesteps[0])
        for timestep in scheduler.timesteps:
            index, alpha_bar = self.at(timestep)
            x_t = scheduler.scale_model_input(x, timestep)
            output, variance = network(x_t, index).tensor_split([x.shape[1]], dim=1)
            x_0 = limited(to_x_0(output, kind, x_t, alpha_bar), limits)
            output = from_x_0(x_0, handed, x_t, alpha_bar)
            if learned:
                output = torch.cat([output, variance], dim=1)
            x = scheduler.step(output, timestep, x, **random).prev_sample
        return x

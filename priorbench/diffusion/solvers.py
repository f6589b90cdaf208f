r"""From x_{t_trunc} to x_0 in any number of steps, by any ``diffusers`` scheduler of the variance-preserving kind.

The truncated and respaced chain t_trunc = t_K > ... > t_1 > t_0 = 0 is a diffusion of its own, with K steps and

.. math:: \bar\alpha'_k = \bar\alpha_{t_k}, \qquad \beta'_k = 1 - \bar\alpha_{t_k} / \bar\alpha_{t_{k-1}}

(Nichol and Dhariwal, 2021, https://arxiv.org/abs/2102.09672, section 4). So a scheduler's class is rebuilt over these
K betas and runs its *full* chain; only the network is told the original times. Every scheduler then works
unchanged from
any t_trunc, whether or not it takes timesteps of one's own, and none is exposed to its own timestep arithmetic:
DDIM and
PNDM, for one, step by ``T // steps`` and so miss their own grid (and can stop short of x_0) wherever steps does not
divide T. With K = t_trunc this is the scheduler over ``betas[:t_trunc]``; where K divides t_trunc the times are
those of
diffusers' "trailing" spacing (Lin et al., 2024, https://arxiv.org/abs/2305.08891).
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError, unknown
from .process import ForwardProcess, scheduler_index

# name -> (diffusers class, the settings that make it so)
SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddpm": ("DDPMScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpm++sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
    "unipc": ("UniPCMultistepScheduler", {}),
}

# What a pretrained scheduler's config says of the *model*, which every solver has to obey.
MODEL_SETTINGS = (
    "prediction_type",
    "clip_sample",
    "clip_sample_range",
    "thresholding",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "variance_type",
)

# What makes a rebuilt chain begin at its last timestep and end in x_0.
CHAIN_SETTINGS = {
    "timestep_spacing": "trailing",
    "steps_offset": 0,
    "set_alpha_to_one": True,
    "final_sigmas_type": "zero",
    "lower_order_final": True,
    "skip_prk_steps": True,
    "rescale_betas_zero_snr": False,
}


# The end of the chain for schedulers that take the logarithm of it: far below a grey level.
SMALLEST_SIGMA = 1e-4


def respace(t_trunc: int, steps: int | None) -> list[int]:
    """The times t_1 < ... < t_K = t_trunc of a chain of ``steps`` steps (None: every time 1..t_trunc)."""
    if steps is None:
        return list(range(1, t_trunc + 1))
    if isinstance(steps, bool) or int(steps) != steps or not 1 <= steps <= t_trunc:
        raise UserError(f"steps must be a whole number from 1 to t_trunc = {t_trunc}, got {steps}")
    return [round(t_trunc * k / steps) for k in range(1, steps + 1)]


def solver_class(name: str) -> tuple[type, dict[str, Any]]:
    """The scheduler class and settings that ``name`` (a key of ``SOLVERS`` or a ``diffusers`` class) stands for."""
    import diffusers

    class_name, settings = SOLVERS.get(name, (name, {}))
    cls = getattr(diffusers, class_name, None) if class_name.endswith("Scheduler") else None
    if cls is None:
        every = [n for n in dir(diffusers) if n.endswith("Scheduler") and not n.startswith("Flax")]
        raise unknown("solver", name, [*SOLVERS, *every])
    reason = ""
    try:
        step = getattr(cls, "step", None) or (lambda: None)
    except ImportError as error:  # diffusers' stand-in for a class whose dependency is missing
        raise UserError(f"solver {name!r} needs a package that is not installed: {error}") from error
    needed = [p for p in inspect.signature(step).parameters.values() if p.default is p.empty]
    if "trained_betas" not in inspect.signature(cls).parameters:
        reason = "does not run over a given noise schedule (it takes no trained_betas)"
    elif class_name.startswith(("LCM", "TCD")):
        reason = "is for distilled consistency models"
    elif "Inverse" in class_name:
        reason = "runs from x_0 to noise, not back"
    elif len(needed) != 4:  # self, model_output, timestep, sample
        reason = f"needs more than a prediction to step: {', '.join(p.name for p in needed[1:])}"
    elif not hasattr(cls(), "alphas_cumprod"):
        reason = "is not of the variance-preserving kind (it has no alphas_cumprod)"
    if reason:
        raise UserError(f"solver {name!r} {reason}")
    return cls, settings


def truncated_scheduler(solver: str, process: ForwardProcess, times: list[int], config: dict[str, Any]) -> Any:
    """The scheduler of ``solver`` rebuilt over the chain ``times`` (from :func:`respace`), ready to step.

    ``config`` is the pretrained scheduler's: what it says of the model is obeyed.
    """
    cls, settings = solver_class(solver)
    # A schedule with zero terminal SNR has alpha_bar_T = 0, of which schedulers take a logarithm: diffusers' own floor.
    alpha_bar = process.alpha_bar[[0, *times]].clamp(min=2.0**-24)
    accepted = inspect.signature(cls).parameters
    model = {k: config[k] for k in MODEL_SETTINGS if k in config}
    if model.get("clip_sample") and "clip_sample" not in accepted and model.get("clip_sample_range", 1.0) == 1.0:
        # The same clipping of x_0 to [-1, 1], under the name that the DPM-Solver family gives it.
        model |= {"thresholding": True, "sample_max_value": 1.0}
    wanted = {
        **CHAIN_SETTINGS,
        **model,
        **settings,
        "num_train_timesteps": len(times),
        "trained_betas": (1 - alpha_bar[1:] / alpha_bar[:-1]).numpy(),
    }
    if str(model.get("variance_type", "")).startswith("learned") and "DDPM" not in cls.__name__:
        wanted.pop("variance_type")
    scheduler = cls(**{k: v for k, v in wanted.items() if k in accepted})
    scheduler.alphas_cumprod = alpha_bar[1:].to(torch.float32)  # undoes the rounding of 1 - beta
    scheduler.set_timesteps(len(times))
    every = list(range(len(times)))[::-1]
    if not set(every) <= set(scheduler.timesteps.tolist()):  # DPMSolverSinglestep has a spacing of its own
        scheduler.set_timesteps(timesteps=every)
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None and len(sigmas) == len(times) + 1 and sigmas[-1] > 0:
        sigmas[-1] = SMALLEST_SIGMA  # DEIS and SASolver repeat the last sigma instead: they would stop at x_{t_1}
    return scheduler


@dataclass
class Chain:
    """A scheduler over a respaced chain, and the map from its timesteps to the network's."""

    solver: str
    process: ForwardProcess
    times: list[int]
    config: dict[str, Any]

    def network_time(self, timestep: Tensor | float | int) -> float:
        """The index, as the network knows it, of the scheduler's ``timestep``.

        Exact on the chain's own times. Between them (KDPM2 and its like evaluate at half steps) it is the time of
        equal log sigma on the original schedule, which is how those schedulers place the half step themselves.
        """
        step = float(timestep)
        if step == round(step):
            return float(scheduler_index(self.times[int(step)]))
        alpha_bar = self.process.alpha_bar.numpy()
        log_sigma = 0.5 * np.log((1 - alpha_bar[1:]) / np.clip(alpha_bar[1:], 2.0**-24, None))
        target = np.interp(step, range(len(self.times)), log_sigma[np.array(self.times) - 1])
        return float(np.interp(target, log_sigma, range(self.process.T)))

    def run(self, network: Callable[[Tensor, float], Tensor], x: Tensor, generator: torch.Generator) -> Tensor:
        """x_{t_trunc} -> x_0, shape (N, C, H, W).

        Arguments:
            network: (x, index) -> the raw prediction, of the type named in the config.
        """
        scheduler = truncated_scheduler(self.solver, self.process, self.times, self.config)
        accepted = inspect.signature(scheduler.step).parameters
        random = {"generator": generator} if "generator" in accepted else {}
        learned = str(getattr(scheduler.config, "variance_type", "")).startswith("learned")
        # Schedulers of the Euler kind work on x / sqrt(alpha_bar); this is the factor by which they undo it.
        one = torch.ones(1, dtype=x.dtype, device=x.device)
        x = x / scheduler.scale_model_input(one, scheduler.timesteps[0])
        for timestep in scheduler.timesteps:
            output = network(scheduler.scale_model_input(x, timestep), self.network_time(timestep))
            if output.shape[1] == 2 * x.shape[1] and not learned:
                output = output[:, : x.shape[1]]  # a learned variance that this solver has no use for
            x = scheduler.step(output, timestep, x, **random).prev_sample
        return x

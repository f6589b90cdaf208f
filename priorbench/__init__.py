"""priorbench: which generator of x_{t_trunc} is worth having, and at which t_trunc?

The public names below are all that a plugin or a notebook needs. They are loaded on first use, so
that ``import priorbench`` (and with it ``priorbench --help``) does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .hookspecs import Register, hookimpl
from .version import __version__

_LAZY = {
    "CleanGuess": "priorbench.diffusion.process",
    "Dataset": "priorbench.data.dataset",
    "add_plugin": "priorbench.plugin_manager",
    "EMA": "priorbench.networks",
    "FitRun": "priorbench.prior",
    "FrozenDiffusion": "priorbench.diffusion.frozen",
    "Measured": "priorbench.metrics.measured",
    "Pushforward": "priorbench.networks",
    "TruncPrior": "priorbench.prior",
    "TruncatedMarginal": "priorbench.marginal",
    "TruncatedSampler": "priorbench.sampler",
    "check_choice": "priorbench.hyperparameters",
    "check_least": "priorbench.hyperparameters",
    "check_share": "priorbench.hyperparameters",
    "cosine": "priorbench.networks",
    "decoder": "priorbench.networks",
    "encoder": "priorbench.networks",
    "load_best": "priorbench.winner",
    "load_prior": "priorbench.prior",
    "quadratic_times": "priorbench.diffusion.timesteps",
    "randn": "priorbench.diffusion.process",
    "run": "priorbench.runner",
    "save_pipeline": "priorbench.export.folder",
    "step_costs": "priorbench.diffusion.timesteps",
    "tuned_times": "priorbench.diffusion.timesteps",
}

__all__ = [
    "EMA",
    "CleanGuess",
    "Dataset",
    "FitRun",
    "FrozenDiffusion",
    "Measured",
    "Pushforward",
    "Register",
    "TruncPrior",
    "TruncatedMarginal",
    "TruncatedSampler",
    "UserError",
    "__version__",
    "add_plugin",
    "check_choice",
    "check_least",
    "check_share",
    "cosine",
    "decoder",
    "encoder",
    "hookimpl",
    "load_best",
    "load_prior",
    "quadratic_times",
    "randn",
    "run",
    "save_pipeline",
    "step_costs",
    "tuned_times",
]

if TYPE_CHECKING:
    from .data.dataset import Dataset
    from .diffusion.frozen import FrozenDiffusion
    from .diffusion.process import CleanGuess, randn
    from .diffusion.timesteps import quadratic_times, step_costs, tuned_times
    from .export.folder import save_pipeline
    from .hyperparameters import check_choice, check_least, check_share
    from .marginal import TruncatedMarginal
    from .metrics.measured import Measured
    from .networks import EMA, Pushforward, cosine, decoder, encoder
    from .plugin_manager import add_plugin
    from .prior import FitRun, TruncPrior, load_prior
    from .runner import run
    from .sampler import TruncatedSampler
    from .winner import load_best


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'priorbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

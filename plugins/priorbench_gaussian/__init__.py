"""The Gaussian prior in closed form: the least that any learned prior has to beat."""

from typing import TYPE_CHECKING, Any

from priorbench import Register, hookimpl

if TYPE_CHECKING:
    from .axes import Axes, principal_axes
    from .maps import GaussianMap

__all__ = ["Axes", "GaussianMap", "principal_axes"]


@hookimpl
def register_priors(register: Register) -> None:
    register(
        "gaussian",
        "priorbench_gaussian.prior:GaussianPrior",
        summary="moment-matched Gaussian, closed form",
    )


def __getattr__(name: str) -> Any:
    if name in __all__:  # imported on first use: listing plugins must not import torch
        from . import axes, maps

        return getattr(maps if name == "GaussianMap" else axes, name)
    raise AttributeError(f"module 'priorbench_gaussian' has no attribute {name!r}")

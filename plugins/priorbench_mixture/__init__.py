"""The Gaussian mixture in closed form: a prior, and the maps that transport priors start from."""

from typing import TYPE_CHECKING, Any

from priorbench import Register, hookimpl

if TYPE_CHECKING:
    from .em import Densities, fit_mixture
    from .maps import GaussianMaps

__all__ = ["Densities", "GaussianMaps", "fit_mixture"]


@hookimpl
def register_priors(register: Register) -> None:
    register(
        "mixture",
        "priorbench_mixture.prior:MixturePrior",
        summary="transport to a Gaussian mixture, closed form",
    )


def __getattr__(name: str) -> Any:
    if name in __all__:  # imported on first use: listing plugins must not import torch
        from . import em, maps

        return getattr(maps if name == "GaussianMaps" else em, name)
    raise AttributeError(f"module 'priorbench_mixture' has no attribute {name!r}")

"""Transport priors: `ot`, by exact transport and a flow, and `sinf`, by sliced distances."""

from typing import Any

from priorbench import Register, hookimpl

__all__ = ["sliced_wasserstein"]


@hookimpl
def register_priors(register: Register) -> None:
    register(
        "ot",
        "priorbench_ot.prior:OTPrior",
        summary="transport map: a mixture, a flow along exact transport, the mean of the rest",
    )
    register(
        "sinf", "priorbench_ot.sinf:SINFPrior", summary="sliced iterative transport, no network"
    )


def __getattr__(name: str) -> Any:
    if name == "sliced_wasserstein":  # imported on first use: listing plugins must not import torch
        from .loss import sliced_wasserstein

        return sliced_wasserstein
    raise AttributeError(f"module 'priorbench_ot' has no attribute {name!r}")

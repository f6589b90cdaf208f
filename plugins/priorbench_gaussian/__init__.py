"""The Gaussian prior in closed form: the least that any learned prior has to beat."""

from priorbench import Register, hookimpl


@hookimpl
def register_priors(register: Register) -> None:
    register(
        "gaussian",
        "priorbench_gaussian.prior:GaussianPrior",
        summary="moment-matched Gaussian, closed form",
    )

"""The frozen chain's own map, learned from pairs, as a prior."""

from priorbench import Register, hookimpl


@hookimpl
def register_priors(register: Register) -> None:
    register(
        "distil",
        "priorbench_distil.prior:DistilPrior",
        summary="the frozen chain's map from noise, distilled",
    )

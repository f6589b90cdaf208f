"""Controls: priors that are never ranked; they show what the figures of the table mean."""

from priorbench import Register, hookimpl


@hookimpl
def register_priors(register: Register) -> None:
    register(
        "noise",
        "priorbench_controls.prior:NoisePrior",
        summary="N(0, I); at t_trunc = T the ordinary full chain",
        control=True,
    )
    register(
        "oracle",
        "priorbench_controls.prior:OraclePrior",
        summary="noised validation images: the score of a perfect prior",
        control=True,
    )
    register(
        "memoriser",
        "priorbench_controls.prior:MemoriserPrior",
        summary="noised training images: the score of plain storage",
        control=True,
    )

"""Controls: priors that are no contenders but keep the table honest."""

from priorbench import Register, hookimpl


@hookimpl
def register_priors(register: Register) -> None:
    register(
        "noise",
        "priorbench_controls.prior:NoisePrior",
        summary="N(0, I): at t_trunc = T the ordinary full chain",
        control=True,
    )
    register(
        "oracle",
        "priorbench_controls.prior:OraclePrior",
        summary="held-out validation images, diffused: what a perfect prior would get",
        control=True,
    )
    register(
        "memoriser",
        "priorbench_controls.prior:MemoriserPrior",
        summary="training images, diffused: what plain storage would get",
        control=True,
    )

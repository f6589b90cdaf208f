"""The generative adversarial network as a prior."""

from priorbench import Register, hookimpl


@hookimpl
def register_priors(register: Register) -> None:
    register(
        "gan",
        "priorbench_gan.prior:GANPrior",
        summary="relativistic GAN with gradient penalties and an averaged generator",
    )

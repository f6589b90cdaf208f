"""The generative adversarial network as a prior."""

from priorbench import hookimpl


@hookimpl
def register_priors(register):  # type: ignore[no-untyped-def]
    register(
        "gan", "priorbench_gan.prior:GANPrior", summary="GAN with R1 penalty and averaged generator"
    )

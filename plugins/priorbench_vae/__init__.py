"""The variational autoencoder as a prior."""

from priorbench import Register, hookimpl


@hookimpl
def register_priors(register: Register) -> None:
    register(
        "vae",
        "priorbench_vae.prior:VAEPrior",
        summary="variational autoencoder, Gaussian likelihood",
    )

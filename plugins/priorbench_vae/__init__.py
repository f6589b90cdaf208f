"""The variational autoencoder as a prior."""

from priorbench import hookimpl


@hookimpl
def register_priors(register):  # type: ignore[no-untyped-def]
    register(
        "vae",
        "priorbench_vae.prior:VAEPrior",
        summary="variational autoencoder, Gaussian likelihood",
    )

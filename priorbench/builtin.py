"""What priorbench itself registers, by the same hooks as anybody's plugin."""

from .hookspecs import Register, hookimpl


@hookimpl
def register_datasets(register: Register) -> None:
    register("digits", "priorbench.data.digits:load", summary="scikit-learn's 1,797 digits, 8x8 grey")


@hookimpl
def register_backbones(register: Register) -> None:
    register(
        "digits",
        "priorbench.diffusion.shipped:digits",
        summary="U-Net of 0.65 M parameters trained on digits, T = 1000",
    )


@hookimpl
def register_extractors(register: Register) -> None:
    register("digits", "priorbench.metrics.shipped:digits", summary="classifier of digits, 64 features")


@hookimpl
def register_executors(register: Register) -> None:
    register("serial", "priorbench.bench.executors:serial", summary="one cell after the other, in this process")

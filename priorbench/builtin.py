"""The built-in data sets, models, extractors, executors and commands.

They use the same hooks as third-party plugins.
"""

from .hookspecs import Register, hookimpl


@hookimpl
def register_datasets(register: Register) -> None:
    register(
        "digits", "priorbench.data.digits:load", summary="scikit-learn's 1,797 digits, 8x8 grey"
    )
    register("mnist", "priorbench.data.mnist:load", summary="10,000 of MNIST's digits, 28x28 grey")


@hookimpl
def register_backbones(register: Register) -> None:
    register(
        "digits",
        "priorbench.diffusion.loading:digits",
        summary="U-Net of 0.65 M parameters trained on digits, T = 1000",
    )
    register(
        "mnist",
        "priorbench.diffusion.loading:mnist",
        summary="U-Net of 1.22 M parameters trained on mnist, T = 1000",
    )
    register(
        "cifar10-small",
        "priorbench.diffusion.loading:cifar10_small",
        summary="U-Net of 3.94 M parameters trained on CIFAR-10, T = 1000",
    )


@hookimpl
def register_extractors(register: Register) -> None:
    register(
        "digits", "priorbench.metrics.loading:digits", summary="classifier of digits, 64 features"
    )
    register(
        "mnist", "priorbench.metrics.loading:mnist", summary="classifier of mnist, 64 features"
    )
    register(
        "efficientnet-lite0",
        "priorbench.metrics.imagenet:efficientnet_lite0",
        summary="classifier of ImageNet, 1,280 features; needs the extra 'imagenet'",
    )


@hookimpl
def register_executors(register: Register) -> None:
    register(
        "serial",
        "priorbench.bench.executors:serial",
        summary="one cell after the other, in this process",
    )
    register(
        "process",
        "priorbench.bench.executors:process",
        summary="several cells at once (--workers), in processes",
    )
    register(
        "ray",
        "priorbench.bench.on_ray:execute",
        summary="cells as tasks of a Ray cluster; needs the extra 'ray'",
    )


@hookimpl
def register_commands(register: Register) -> None:
    for name, summary in {
        "run": "Compare priors; by default on digits.",
        "sample": "Draw images by the best setting of a run.",
        "tune": "Find the best setting under a cost, without the whole grid.",
        "export": "Write that setting as a folder that diffusers alone can sample from.",
        "compare": "Merge runs, also from several machines, into one table.",
        "report": "Write report.html: the verdict, figures, samples, the whole table.",
        "plugins": "List all that plugins register, and their distributions.",
        "new": "Write a small distribution with a new prior to start from.",
        "check": "Check that a prior keeps the contract of all priors.",
        "backbone": "Train or check a diffusion model.",
        "extractor": "Train a feature extractor for FID.",
    }.items():
        register(name, f"priorbench.cli.{name}:{name}", summary=summary)

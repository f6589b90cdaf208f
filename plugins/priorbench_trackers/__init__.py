"""Trackers: a run in MLflow, Weights & Biases or TensorBoard (``priorbench run --track NAME``)."""

from priorbench import Register, hookimpl


@hookimpl
def register_trackers(register: Register) -> None:
    register(
        "mlflow",
        "priorbench_trackers.to_mlflow:MLflow",
        summary="a run of MLflow, with one for each cell; needs the extra 'mlflow'",
    )
    register(
        "tensorboard",
        "priorbench_trackers.to_tensorboard:TensorBoard",
        summary="event files, a folder for each cell; needs the extra 'tensorboard'",
    )
    register(
        "wandb",
        "priorbench_trackers.to_wandb:WandB",
        summary="a group of runs of Weights & Biases; needs the extra 'wandb'",
    )

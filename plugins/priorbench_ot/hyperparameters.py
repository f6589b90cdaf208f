"""Checks of the hyperparameters of this package's priors."""


def check_least(least: float, **given: float) -> None:
    """Raise ValueError if a hyperparameter is below ``least``."""
    for name, value in given.items():
        if not value >= least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def check_choice(*choices: str, **given: str) -> None:
    """Raise ValueError if a hyperparameter is none of ``choices``."""
    for name, value in given.items():
        if value not in choices:
            options = f"{', '.join(choices[:-1])} or {choices[-1]}"
            raise ValueError(f"{name} must be {options}, got {value!r}")

"""Checks of hyperparameters for a prior's ``__init__``; the message says what would be right."""

import math


def check_least(least: float, **given: float) -> None:
    """Raise ValueError if a hyperparameter is below ``least``, infinite or not a number."""
    for name, value in given.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def check_share(**given: float) -> None:
    """Raise ValueError if a hyperparameter is not between 0 and 1."""
    for name, value in given.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value}")


def check_choice(*choices: str, **given: str) -> None:
    """Raise ValueError if a hyperparameter is none of ``choices``."""
    for name, value in given.items():
        if value not in choices:
            options = f"{', '.join(choices[:-1])} or {choices[-1]}"
            raise ValueError(f"{name} must be {options}, got {value!r}")

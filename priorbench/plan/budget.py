"""Budgets and time limits as they are written: ``60s``, ``2min``, ``1h``, ``500 steps``."""

import re
from math import inf
from typing import Any

SECONDS = {"s": 1, "min": 60, "h": 3600}


def read_budget(text: str | None) -> tuple[float | None, int | None]:
    """(seconds, steps) of a budget, of which one is None; both are for no budget.

    Raises:
        ValueError: if the text is neither seconds nor steps.
    """
    if text is None:
        return None, None
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|min|h|steps)\s*", text)
    number = float(match[1]) if match else 0.0
    if match is None or number <= 0 or (match[2] == "steps" and number % 1):
        raise ValueError("must be seconds (60s, 2min, 1h) or steps (500 steps), more than 0")
    return (None, int(number)) if match[2] == "steps" else (number * SECONDS[match[2]], None)


def size(text: str) -> tuple[float, int]:
    """What budgets are sorted by: none at all, steps, seconds, and what is no budget."""
    try:
        seconds, steps = read_budget(text or None)
    except ValueError:  # a table may hold anything
        return inf, 0
    return seconds or 0.0, steps or 0


def as_budget(value: Any) -> str | None:
    """A budget, or a number of seconds, in the one form that configs keep it in."""
    if value is None or (isinstance(value, str) and value.strip() == "none"):
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    seconds, steps = read_budget(f"{value:.15g}s" if is_number else str(value))
    return f"{seconds:.15g}s" if seconds is not None else f"{steps} steps"

"""Budgets and time limits as they are written: ``60s``, ``2min``, ``500 steps``, ``25%``."""

import re
from math import inf
from typing import Any, NamedTuple

SECONDS = {"s": 1, "min": 60, "h": 3600}
FORMS = "seconds (60s, 2min, 1h), steps (500 steps) or a share of its own steps (25%)"


class Budget(NamedTuple):
    """What a fit is given, of which at most one is set."""

    seconds: float | None = None
    steps: int | None = None
    share: float | None = None  # of the prior's own number of steps

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"{self.seconds:.15g}s"
        return f"{self.steps} steps" if self.share is None else f"{100 * self.share:.15g}%"


def read_budget(text: str | None) -> Budget:
    """The budget that ``text`` says; None is no budget.

    Raises:
        ValueError: if the text is no budget.
    """
    if text is None:
        return Budget()
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|min|h|steps|%)\s*", text)
    number, unit = (float(match[1]), match[2]) if match else (0.0, "")
    if number <= 0 or (unit == "steps" and number % 1):
        raise ValueError(f"must be {FORMS}, more than 0")
    if unit == "steps":
        return Budget(steps=int(number))
    return Budget(share=number / 100) if unit == "%" else Budget(seconds=number * SECONDS[unit])


def part_of(text: str | None, share: float) -> str:
    """A ``share`` of a budget, of at least one step."""
    seconds, steps, known = read_budget(text)
    if seconds is not None:
        return str(Budget(seconds=seconds * share))
    if steps is not None:
        return str(Budget(steps=max(1, round(steps * share))))
    return str(Budget(share=(known or 1.0) * share))


def size(text: str) -> tuple[float, int, float]:
    """What budgets are sorted by: shares, none at all, steps, seconds, and what is no budget."""
    try:
        seconds, steps, share = read_budget(text or None)
    except ValueError:  # a table may hold anything
        return inf, 0, 0.0
    return seconds or 0.0, steps or 0, 1.0 if share is None else share


def as_budget(value: Any) -> str | None:
    """A budget, or a number of seconds, in the one form that configs keep it in."""
    if value is None or (isinstance(value, str) and value.strip() == "none"):
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(read_budget(f"{value:.15g}s" if is_number else str(value)))

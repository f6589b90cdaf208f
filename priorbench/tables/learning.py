"""Which fits were still learning when their budget ended."""

from typing import Any

STILL = "still learning"
LATE = 0.02  # a last quarter that lowers the held-out distance by more is not the end
FEW = 8  # steps; a fit of fewer cannot be seen to be at its end


def still_learning(late_gain: Any, fit_steps: Any) -> str:
    """``still learning``, or nothing; nothing for a fit without a curve, such as a closed form."""
    if late_gain != late_gain or late_gain is None:
        return ""
    return STILL if late_gain > LATE or fit_steps < FEW else ""

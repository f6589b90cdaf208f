"""The options of a data set, checked before any image is read."""

import inspect
from collections.abc import Callable, Collection
from typing import Any

from ..errors import UserError, unknown

COMMON = ("resize", "channels")  # every data set takes these


def check_common(name: str, common: dict[str, Any]) -> None:
    """Check ``resize`` and ``channels``.

    Raises:
        UserError: if either has a value that makes no sense.
    """
    size, channels = common.get("resize", 1), common.get("channels", 1)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise UserError(f"data set {name!r}: resize must be a whole number of pixels, got {size!r}")
    if channels not in (1, 3):
        raise UserError(
            f"data set {name!r}: channels must be 1 (grey) or 3 (colour), got {channels!r}"
        )


def check_options(name: str, options: dict[str, Any], known: Collection[str]) -> None:
    """Check the names of the options of the data set ``name``.

    Raises:
        UserError: for the first option that is not ``known``.
    """
    for key in options:
        if key not in known:
            raise unknown("option", key, [*known, *COMMON], of=f"data set {name!r}")


def parameters(factory: Callable[..., object]) -> list[str]:
    """The names of the arguments of ``factory`` that a user may give."""
    return [p for p in inspect.signature(factory).parameters if not p.startswith("_")]

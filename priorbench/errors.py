"""Errors that the user can mend: one line each, exit code 2."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input. The message says what was wrong, where, and what would be right, in one line."""


def one_line(error: BaseException, named: bool = False) -> str:
    """The message of ``error`` on one line, or the name of its class if it has no message.

    Arguments:
        named: put the name of the class before the message: ``ValueError: ...``.
    """
    name, message = type(error).__name__, " ".join(str(error).split())
    if not message:
        return name
    return f"{name}: {message}" if named else message


def first_line(error: BaseException) -> str:
    """As :func:`one_line`, but only the first line of a message that may fill pages."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def printable(text: str) -> str:
    """``text`` with control characters escaped, so that a terminal does not obey them.

    Those are escape sequences and marks that change the direction of writing too.
    """
    return "".join(
        c if c.isprintable() or c in " \n" else c.encode("unicode_escape").decode() for c in text
    )


def unknown(kind: str, name: str, known: Iterable[str], of: str = "") -> UserError:
    """The error for a name that does not exist: it suggests the nearest name, or lists all.

    Arguments:
        kind: what the name should be the name of: "prior", "option", ...
        known: the names that exist.
        of: what the name was looked up in, if not in the whole toolkit.
    """
    missing = f"{of} has no {kind} {name!r}" if of else f"there is no {kind} {name!r}"
    options = sorted(known)
    near = get_close_matches(name.lower(), [o.lower() for o in options], n=1, cutoff=0.5)
    if near:
        best = next(o for o in options if o.lower() == near[0])
        return UserError(f"{missing}; did you mean {best!r}?")
    return UserError(f"{missing}; there are: {', '.join(options) or 'none'}")

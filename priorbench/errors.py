"""Errors that are the user's to mend: one line, exit code 2."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input. The message says what was wrong, where, and what would be right, in one line."""


def printable(text: str) -> str:
    """``text`` with what a terminal would obey (control characters, escapes, changes of direction)
    written out.
    """
    return "".join(
        c if c.isprintable() or c in " \n" else c.encode("unicode_escape").decode() for c in text
    )


def one_line(error: BaseException) -> str:
    """The message of an error, its line breaks made spaces."""
    return " ".join(str(error).split())


def unknown(kind: str, name: str, known: Iterable[str], of: str = "") -> UserError:
    """The error for a name that does not exist (in ``of``), with the nearest one that does (or all
    of them).
    """
    missing = f"{of} has no {kind} {name!r}" if of else f"there is no {kind} {name!r}"
    options = sorted(known)
    near = get_close_matches(name.lower(), [o.lower() for o in options], n=1, cutoff=0.5)
    if near:
        best = next(o for o in options if o.lower() == near[0])
        return UserError(f"{missing}; did you mean {best!r}?")
    return UserError(f"{missing}; there are: {', '.join(options) or 'none'}")

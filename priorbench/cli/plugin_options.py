"""The options that say which plugins there are.

They may stand anywhere on the command line, and are taken off it before any command sees it: which
commands there are depends on them.
"""

import os
from collections.abc import Iterator

from ..errors import UserError
from ..plugin_files import FILES, FOLDERS
from ..plugin_manager import LEFT_OUT, STRICT

HELP = [
    ("--plugin FILE", "Take in the plugin in a Python file; as often as needed."),
    ("--plugins-dir FOLDER", f"Take in every plugin file of a folder. Also {FOLDERS}."),
    ("-p no:NAME", "Leave out an installed plugin, by its entry point or distribution."),
    ("--strict-plugins", "A broken plugin is an error, not a line in 'priorbench plugins'."),
]


def take_plugin_options(arguments: list[str]) -> list[str]:
    """``arguments`` without these options, which are put into the environment, where child
    processes find them too.
    """
    rest: list[str] = []
    queue = iter(arguments)
    for argument in queue:
        name, equals, value = argument.partition("=")
        if argument == "--":
            return [*rest, argument, *queue]
        if name in ("--plugin", "--plugins-dir"):
            path = os.path.abspath(value if equals else _value(name, queue))
            _append(FILES if name == "--plugin" else FOLDERS, path, os.pathsep)
        elif argument == "-p":
            wanted = _value("-p", queue)
            if not wanted.startswith("no:") or wanted == "no:":
                raise UserError(f"-p takes no:NAME, to leave out the plugin NAME, got {wanted!r}")
            _append(LEFT_OUT, wanted.removeprefix("no:"), ",")
        elif argument == "--strict-plugins":
            os.environ[STRICT] = "1"
        else:
            rest.append(argument)
    return rest


def _value(option: str, queue: Iterator[str]) -> str:
    value = next(queue, None)
    if value is None:
        raise UserError(f"{option} needs a value")
    return value


def _append(variable: str, value: str, separator: str) -> None:
    known = os.environ.get(variable)
    os.environ[variable] = f"{known}{separator}{value}" if known else value

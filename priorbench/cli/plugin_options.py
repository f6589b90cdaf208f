"""The options that add plugins or leave them out.

They can stand anywhere on the command line. They are taken off before any command is looked up,
because plugins register commands too.
"""

import os
from collections.abc import Iterator

from ..errors import UserError
from ..plugin_files import FILES, FOLDERS
from ..plugin_manager import LEFT_OUT, STRICT

HELP = [
    ("--plugin FILE", "Load the plugin in a Python file. Can be repeated."),
    ("--plugins-dir FOLDER", f"Load every plugin file in a folder. Also by {FOLDERS}."),
    ("-p no:NAME", "Leave out an installed plugin, named by entry point or distribution."),
    ("--strict-plugins", "Treat a broken plugin as an error."),
]


def take_plugin_options(arguments: list[str]) -> list[str]:
    """``arguments`` without these options.

    The options go into the environment, where child processes find them too.
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
                raise UserError(
                    f"-p takes no:NAME, which leaves out the plugin NAME, got {wanted!r}"
                )
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

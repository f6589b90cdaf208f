"""YAML from a stranger: safe, bounded, and with one kind of error."""

import re
from typing import Any

import yaml

from ..errors import one_line

VALUES = 100_000  # the most values that a text may stand for, with its aliases expanded
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


class _Loader(yaml.SafeLoader):
    """Counts values while it reads; an alias (*name) counts as all values of its anchor (&name)."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.count = 0
        self.sizes: dict[Any, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        alias, before = self.check_event(yaml.AliasEvent), self.count
        node = super().compose_node(parent, index)
        if alias and node not in self.sizes:  # its anchor is still being read
            raise ValueError("an alias (*name) inside what it stands for (&name)")
        self.count += self.sizes[node] if alias else 1
        if not alias:
            self.sizes[node] = self.count - before
        if self.count > VALUES:
            raise ValueError(f"more than {VALUES:,} values, once aliases (*name) are expanded")
        return node


def read_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: of one line, whatever is wrong with the text.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (ArithmeticError, AttributeError, LookupError) as error:  # PyYAML on !!int ""
        raise ValueError("a value that does not fit its type") from error
    except (ValueError, yaml.YAMLError) as error:  # an impossible date is a plain ValueError
        raise ValueError(one_line(error)) from error


def as_number(value: Any) -> Any:
    """1e-3 as a number: YAML 1.1 reads it as a string, because it has no point."""
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value

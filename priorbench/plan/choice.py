"""A choice as it is written: ``NAME[key=value,...]``, its values in YAML, read safely."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, field_validator

VALUES = 100_000  # in a YAML text, its aliases expanded
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


class _Loader(yaml.SafeLoader):
    """Counts the values that the text stands for as they are read, an alias (*name) as all those of
    its anchor.
    """

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
            raise ValueError(f"more than {VALUES:,} values, with what aliases (*name) stand for")
        return node


def read_yaml(text: str) -> Any:
    """YAML, safely, with one error, a :class:`ValueError` of one line, for all that cannot be read."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (ArithmeticError, AttributeError, LookupError) as error:  # what PyYAML makes of !!int ""
        raise ValueError("a value that its type cannot be made of") from error
    except (
        ValueError,
        yaml.YAMLError,
    ) as error:  # a date that does not exist is a plain ValueError
        raise ValueError(" ".join(str(error).split())) from error


def as_number(value: Any) -> Any:
    """1e-3 as a number: YAML 1.1 reads it, for want of a point, as a string."""
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


class Choice(BaseModel, extra="forbid", frozen=True):
    """A prior, data set or extractor by name, with the hyperparameters or options that differ from
    its defaults.
    """

    name: str
    params: dict[str, Any] = {}

    @field_validator("params", mode="after")
    @classmethod
    def _numbers(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {k: as_number(v) for k, v in value.items()}

    @property
    def label(self) -> str:
        """As it is written on the command line: ``ot[projections=64]``."""
        return f"{self.name}[{self.settings}]" if self.params else self.name

    @property
    def settings(self) -> str:
        """The given hyperparameters, ``a=1,b=2``, by name."""
        return ",".join(f"{k}={v}" for k, v in sorted(self.params.items()))


def parse_choices(text: str) -> list[dict[str, Any]]:
    """``'ot[projections=64,emits=x_t],vae'`` as a list of name and params."""
    found: list[dict[str, Any]] = []
    for part in re.split(r",(?![^\[\]]*\])", text):
        match = re.fullmatch(r"\s*([^\[\]=,\s][^\[\]=,]*?)\s*(?:\[(.*)\])?\s*", part)
        if match and "][" in re.sub(r"\s", "", match[2] or ""):
            match = None
        if match is None:
            raise ValueError(f"cannot read {part.strip()!r}; write NAME or NAME[key=value,...]")
        params: dict[str, Any] = {}
        for item in filter(str.strip, (match[2] or "").split(",")):
            key, equals, value = item.partition("=")
            if not equals or not key.strip():
                raise ValueError(
                    f"cannot read {item.strip()!r} in {part.strip()!r}; write key=value"
                )
            params[key.strip()] = as_number(read_yaml(value))
        found.append({"name": match[1], "params": params})
    return found


def read_choice(text: str) -> dict[str, Any]:
    """``'NAME[key=value,...]'`` as name and params; a path that exists is a name, whatever is in
    it.
    """
    with suppress(OSError, RuntimeError):  # too long for a path; '~' of nobody
        if Path(text).expanduser().exists():
            return {"name": text}
    found = parse_choices(text)
    if len(found) != 1:
        raise ValueError("must be one name, with its options in brackets: NAME[key=value,...]")
    return found[0]

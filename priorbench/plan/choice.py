"""A choice by name, as it is written: ``NAME[key=value,...]``, with values in YAML."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, field_validator

from .safe_yaml import as_number, read_yaml


def label_of(name: str, settings: str) -> str:
    """``ot[width=64]``: what a choice is called everywhere."""
    return f"{name}[{settings}]" if settings else name


class Choice(BaseModel, extra="forbid", frozen=True):
    """A prior, data set or extractor by name, with the parameters that differ from its defaults."""

    name: str
    params: dict[str, Any] = {}

    @field_validator("params", mode="after")
    @classmethod
    def _numbers(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {k: as_number(v) for k, v in value.items()}

    @property
    def label(self) -> str:
        """The choice as it is written on the command line: ``ot[width=64]``."""
        return label_of(self.name, self.settings)

    @property
    def settings(self) -> str:
        """The given parameters in alphabetical order, ``a=1,b=2``."""
        return ",".join(f"{k}={v}" for k, v in sorted(self.params.items()))


def parse_choices(text: str) -> list[dict[str, Any]]:
    """``'ot[width=64,depth=3],vae'`` as a list of ``{"name": ..., "params": ...}``.

    Raises:
        ValueError: naming the part that cannot be read.
    """
    return [_parse_one(part) for part in re.split(r",(?![^\[\]]*\])", text)]


def _parse_one(part: str) -> dict[str, Any]:
    match = re.fullmatch(r"\s*([^\[\]=,\s][^\[\]=,]*?)\s*(?:\[(.*)\])?\s*", part)
    if match is None or "][" in re.sub(r"\s", "", match[2] or ""):
        raise ValueError(f"cannot read {part.strip()!r}; write NAME or NAME[key=value,...]")
    params: dict[str, Any] = {}
    for item in filter(str.strip, (match[2] or "").split(",")):
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"cannot read {item.strip()!r} in {part.strip()!r}; write key=value")
        params[key.strip()] = as_number(read_yaml(value))
    return {"name": match[1], "params": params}


def read_choice(text: str) -> dict[str, Any]:
    """``'NAME[key=value,...]'`` as name and params; the path of an existing file is a name.

    Raises:
        ValueError: if it cannot be read, or is several choices.
    """
    with suppress(OSError, RuntimeError):  # too long for a path; '~' of a user who does not exist
        if Path(text).expanduser().exists():
            return {"name": text}
    found = parse_choices(text)
    if len(found) != 1:
        raise ValueError("must be one name, with its options in brackets: NAME[key=value,...]")
    return found[0]

"""Reading a config: a YAML file or preset, command-line options on top, every mistake named in
words.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import UserError, printable, unknown
from .choice import Choice, read_yaml
from .config import FullChain, RunConfig


def presets() -> dict[str, Path]:
    """The shipped configs by name; in the wheel they lie in the package, in a clone beside it."""
    package = Path(__file__).parents[1]
    folder = next(
        (f for f in (package / "configs", package.parent / "configs") if f.is_dir()), package
    )
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))}


def read_config(source: str | Path | None) -> dict[str, Any]:
    """The mapping in a YAML file, or in a preset by its name; None is the digits default."""
    known = presets()
    name = str(source or "digits")
    path = known.get(name, Path(name))
    there = False
    with suppress(OSError):  # too long for a path
        there = path.is_file()
    if not there:
        if path.suffix not in (".yaml", ".yml"):
            raise unknown("config file or preset", name, known)
        raise UserError(f"config file {name} does not exist (presets: {', '.join(known)})")
    try:
        values = read_yaml(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"config file {name} cannot be read: {error}") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(
            f"config file {name} must hold a mapping of keys to values, got {type(values).__name__}"
        )
    return {"name": re.sub(r"[^A-Za-z0-9._-]", "-", path.stem)} | values


def assign(values: dict[str, Any], assignment: str) -> None:
    """Apply one ``--set key=value`` (``full_chain.steps=50``); the value is YAML."""
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise UserError(f"--set takes key=value, got {assignment!r}")
    *parents, leaf = path.split(".")
    target = values
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            raise UserError(f"--set {assignment}: {parent!r} has no keys of its own")
    try:
        target[leaf] = read_yaml(text)
    except ValueError as error:
        raise UserError(f"--set {assignment}: {error}") from error


def make_config(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    sets: Iterable[str] = (),
) -> RunConfig:
    """Read, override, validate. Every mistake is named, each with its path, in one
    :class:`UserError`.
    """
    values = deepcopy(dict(source)) if isinstance(source, Mapping) else read_config(source)
    values |= deepcopy({k: v for k, v in (overrides or {}).items() if v is not None})
    for assignment in sets:
        assign(values, assignment)
    if source is None and "name" not in {*(overrides or {}), *(s.partition("=")[0] for s in sets)}:
        given = values.get("dataset", "digits")
        path = given.get("name", "run") if isinstance(given, dict) else str(given).partition("[")[0]
        values["name"] = (
            re.sub(r"[^A-Za-z0-9._-]+", "-", Path(str(path)).name).strip("-._") or "run"
        )
    values, problems = (
        {str(key): value for key, value in values.items()},
        list(_unprintable(values)),
    )
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        problems += [_explain(e) for e in error.errors()]
        raise ConfigError(problems, _without(values, error.errors())) from None
    if problems:
        raise ConfigError(problems, None)
    return config


class ConfigError(UserError):
    """What is wrong with a config; ``rest`` is the config without it, so that names in it can be
    looked up too.
    """

    def __init__(self, problems: list[str], rest: RunConfig | None) -> None:
        super().__init__("; ".join(problems))
        self.rest = rest


def _without(values: dict[str, Any], errors: Iterable[Any]) -> RunConfig | None:
    """``values`` with every mistake replaced by what is certainly right, places in lists being
    kept.
    """
    values = dict(values)
    for field, *rest in (error["loc"] for error in errors):
        if field in ("priors", "controls") and rest and isinstance(rest[0], int):
            items = list(RunConfig._priors(values[field]))
            items[rest[0]] = {"name": "noise"}
            values[field] = items
        else:
            values.pop(field, None)
    try:
        return RunConfig.model_validate(values)
    except ValidationError:
        return None


def _unprintable(value: Any, where: str = "") -> Iterator[str]:
    """Where a string has control characters, which would reach terminals and tables."""
    if isinstance(value, str) and printable(value) != value:
        path = printable(where).replace("\n", "\\n")
        yield f"{path}: must have no control characters, got {_short(value)}"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _unprintable(item, f"{where}.{key}".lstrip("."))
            yield from _unprintable(key, f"{where} (a key)".strip()) if isinstance(key, str) else ()
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _unprintable(item, f"{where}[{i}]")


def _explain(error: Any) -> str:
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error["loc"]).lstrip(".")
    if error["type"] == "extra_forbidden":
        model: dict[Any, type[BaseModel]] = dict.fromkeys(
            ("priors", "controls", "dataset", "extractor"), Choice
        )
        model["full_chain"] = FullChain
        parent = error["loc"][0] if len(error["loc"]) > 1 else ""
        near = get_close_matches(
            str(error["loc"][-1]), list(model.get(parent, RunConfig).model_fields), n=1
        )
        return f"config key {where!r} does not exist" + (
            f"; did you mean {near[0]!r}?" if near else ""
        )
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}, got {_short(error['input'])}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

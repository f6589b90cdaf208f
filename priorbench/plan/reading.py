"""Reading a config: a YAML file or preset, options on top, every mistake explained in words."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import UserError, printable, unknown
from ..plugin_manager import load_plugins
from .choice import Choice
from .config import FullChain, RunConfig
from .safe_yaml import read_yaml

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")  # in the name of a folder


class ConfigError(UserError):
    """What is wrong with a config.

    Attributes:
        rest: the config without its mistakes, so that names in it can be looked up too.
    """

    def __init__(self, problems: list[str], rest: RunConfig | None) -> None:
        super().__init__("; ".join(problems))
        self.rest = rest


def presets() -> dict[str, Path]:
    """The shipped configs by name. A wheel has them in the package, a clone beside it."""
    package = Path(__file__).parents[1]
    folders = (package / "configs", package.parent / "configs")
    folder = next((f for f in folders if f.is_dir()), package)
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))}


def read_config(source: str | Path | None) -> dict[str, Any]:
    """The mapping in a YAML file, or in a preset by its name; None is the digits default.

    Raises:
        UserError: if there is no such file or preset, or it holds no mapping.
    """
    known = presets()
    name = str(source or "digits")
    path = known.get(name, Path(name))
    exists = False
    with suppress(OSError):  # too long for a path
        exists = path.is_file()
    if not exists:
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
        kind = type(values).__name__
        raise UserError(f"config file {name} must hold a mapping of keys to values, got {kind}")
    return {"name": _UNSAFE.sub("-", path.stem)} | values


def taken_over(overrides: Mapping[str, Any], sets: Iterable[str]) -> dict[str, Any]:
    """What a run without a config takes from the default preset: all that is not given."""
    given = {key for key, value in overrides.items() if value is not None}
    given |= {assignment.partition("=")[0].partition(".")[0] for assignment in sets}
    return {k: v for k, v in read_config(None).items() if k not in given | {"name"}}


def assign(values: dict[str, Any], assignment: str) -> None:
    """Apply one ``--set key=value`` (``full_chain.steps=50``); the value is YAML.

    Raises:
        UserError: if it is no assignment, or the value cannot be read.
    """
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
    """Read a config, apply ``overrides`` and ``sets``, validate.

    Raises:
        ConfigError: naming every mistake with its path.
    """
    sets = list(sets)
    values = deepcopy(dict(source)) if isinstance(source, Mapping) else read_config(source)
    values |= deepcopy({k: v for k, v in (overrides or {}).items() if v is not None})
    for assignment in sets:
        assign(values, assignment)
    named = {*(overrides or {}), *(s.partition("=")[0] for s in sets)}
    if source is None and "name" not in named:
        values["name"] = _name_of(values.get("dataset", "digits"))
    values = {str(key): value for key, value in values.items()}
    problems = [*_unprintable(values), *_gather_options(values, sets)]
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        problems += [_explain(e) for e in error.errors()]
        raise ConfigError(problems, _without(values, error.errors())) from None
    if problems:
        raise ConfigError(problems, None)
    return config


def _gather_options(values: dict[str, Any], sets: Iterable[str]) -> Iterator[str]:
    """Make the section of the executor in use its ``executor_options``; yield what is wrong.

    A file may have sections of others, so that a run can choose among them.
    """
    executor = str(values.get("executor", RunConfig.model_fields["executor"].default))
    for name in load_plugins().of_kind("executor"):
        if name in RunConfig.model_fields or name not in values:
            continue
        section = values.pop(name)
        if not isinstance(section, Mapping):
            yield f"{name}: must be a mapping of the executor's options, got {_short(section)}"
        elif name == executor:
            known = values.get("executor_options", {})
            values["executor_options"] = {**known, **section} if isinstance(known, dict) else known
        elif any(assignment.startswith(f"{name}.") for assignment in sets):
            yield f"{name}: is of the executor {name!r}, and the run has {executor!r} (--executor)"


def _name_of(dataset: Any) -> str:
    """The name of a run that has no other: that of its data set."""
    is_mapping = isinstance(dataset, dict)
    path = dataset.get("name", "run") if is_mapping else str(dataset).partition("[")[0]
    name = re.sub(f"{_UNSAFE.pattern}+", "-", Path(str(path)).name)
    return name.strip("-._") or "run"


def _without(values: dict[str, Any], errors: Iterable[Any]) -> RunConfig | None:
    """``values`` with a valid value in place of each mistake, at the same place in lists."""
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
    """Problems with control characters in strings, which would reach terminals and tables."""
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
    """An error of pydantic in words: ``t_trunc[0]: must be ..., got ...``."""
    steps = (f"[{p}]" if isinstance(p, int) else f".{p}" for p in error["loc"])
    where = "".join(steps).lstrip(".")
    if error["type"] != "extra_forbidden":
        message = error["msg"].removeprefix("Value error, ")
        return f"{where}: {message[0].lower()}{message[1:]}, got {_short(error['input'])}"
    *parents, key = error["loc"]
    near = get_close_matches(str(key), list(_model_of(parents).model_fields), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"config key {where!r} does not exist{hint}"


def _model_of(parents: list[Any]) -> type[BaseModel]:
    """The model whose keys stand below ``parents``."""
    if not parents:
        return RunConfig
    if parents[0] == "full_chain":
        return FullChain
    return Choice if parents[0] in ("priors", "controls", "dataset", "extractor") else RunConfig


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

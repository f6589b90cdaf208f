"""What a run is told: a YAML file, or a preset, with command-line options on top; validated whole."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from ..errors import UserError, printable, unknown

VALUES = 100_000  # in a YAML text, its aliases expanded
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


class _Loader(yaml.SafeLoader):
    """Counts the values that the text stands for as they are read, an alias (*name) as all those of its anchor."""

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
    except (ValueError, yaml.YAMLError) as error:  # a date that does not exist is a plain ValueError
        raise ValueError(" ".join(str(error).split())) from error


def as_number(value: Any) -> Any:
    """1e-3 as a number: YAML 1.1 reads it, for want of a point, as a string."""
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def read_budget(text: str | None) -> tuple[float | None, int | None]:
    """``60s`` or ``2min`` as seconds, ``500 steps`` as steps."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|min|h|steps)\s*", text or "")
    if text is None:
        return None, None
    number = float(match[1]) if match else 0.0
    if match is None or number <= 0 or (match[2] == "steps" and number % 1):
        raise ValueError("must be seconds (60s, 2min, 1h) or steps (500steps), more than 0")
    return (None, int(number)) if match[2] == "steps" else (number * {"s": 1, "min": 60, "h": 3600}[match[2]], None)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Choice(_Strict):
    """A prior, data set or extractor by name, with the hyperparameters or options that differ from its defaults."""

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


class FullChain(_Strict):
    """The ordinary chain from pure noise that ``speedup`` is measured against."""

    solver: str = "ddim"
    steps: int | None = 100

    @field_validator("steps", mode="before")
    @classmethod
    def _all(cls, value: Any) -> Any:
        return None if value == "all" else value


class RunConfig(_Strict):
    """Everything that determines a run. Lists are axes of the grid."""

    name: str = "run"
    dataset: Choice = Choice(name="digits")
    backbone: str | None = None
    extractor: Choice | None = None
    priors: list[Choice] = [Choice(name=n) for n in ("gaussian", "ot", "vae", "gan")]
    controls: list[Choice] = [Choice(name=n) for n in ("noise", "oracle", "memoriser")]
    metrics: list[str] = []
    t_trunc: list[int] = [100, 200, 400]
    solver: list[str] = ["dpm++"]
    steps: list[int | None] = [5]
    rivals: list[str] = ["dpm++", "dpm++sde", "unipc"]
    full_chain: FullChain = FullChain()
    seed: int = Field(0, ge=0, lt=2**31)
    seeds: int = Field(1, ge=1, le=1000)
    n_samples: int = Field(1000, ge=8)
    batch_size: int = Field(250, ge=1)
    w2_points: int = Field(360, ge=2)
    n_validation: int | None = Field(None, ge=0)
    fit_budget: str | None = None
    device: str = "auto"
    precision: str = Field("fp32", pattern="^(fp32|bf16|fp16)$")
    compile: bool = False
    save_samples: bool = False
    executor: str = "serial"
    workers: int = Field(1, ge=1, le=1024)
    timeout: str | None = None
    exclusive_timing: bool = False

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        if not _SAFE_NAME.fullmatch(value):
            raise ValueError("must be of letters, digits, '.', '_' and '-' (it names a folder)")
        return value

    @field_validator("fit_budget", mode="before")
    @classmethod
    def _budget(cls, value: Any) -> Any:
        return _as_budget(value)

    @field_validator("timeout", mode="before")
    @classmethod
    def _time(cls, value: Any) -> Any:
        found = _as_budget(value)
        if found is not None and found.endswith("steps"):
            raise ValueError("must be seconds (60s, 2min, 1h), more than 0")
        return found

    @field_validator("workers")
    @classmethod
    def _have_an_executor(cls, value: int, others: ValidationInfo) -> int:
        if value > 1 and others.data.get("executor") == "serial":
            raise ValueError("must be 1 with the executor 'serial' (--executor process runs several at once)")
        return value

    @field_validator("dataset", "extractor", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return read_choice(value) if isinstance(value, str) else value

    @field_validator("priors", "controls", mode="before")
    @classmethod
    def _priors(cls, value: Any) -> Any:
        if isinstance(value, str):
            return parse_choices(value)
        if isinstance(value, Iterable) and not isinstance(value, dict):
            return [p for v in value for p in (parse_choices(v) if isinstance(v, str) else [v])]
        return value

    @field_validator("metrics", "rivals", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return [v.strip() for v in value.split(",") if v.strip()] if isinstance(value, str) else value

    @field_validator("n_validation")
    @classmethod
    def _none_or_enough(cls, value: int | None) -> int | None:
        if value is not None and 0 < value < 8:
            raise ValueError("must be 0 (nothing is chosen) or at least 8")
        return value

    @field_validator("t_trunc", "solver", "steps", mode="before")
    @classmethod
    def _axes(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [v.strip() for v in value.split(",") if v.strip()]
        values = list(value) if isinstance(value, list | tuple) else [value]
        values = [None if v == "all" else v for v in values]
        if not values:
            raise ValueError("must have at least one value")
        return values

    @field_validator("t_trunc", "solver", "rivals", "steps", "metrics", mode="after")
    @classmethod
    def _once(cls, value: list[Any]) -> list[Any]:
        return list(dict.fromkeys(value))


def _as_budget(value: Any) -> str | None:
    """A budget as it is written, or a number of seconds, in the one form that it is kept in."""
    if value is None or (isinstance(value, str) and value.strip() == "none"):
        return None
    text = f"{value:.15g}s" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
    seconds, steps = read_budget(text)
    return f"{seconds:.15g}s" if seconds is not None else f"{steps} steps"


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
                raise ValueError(f"cannot read {item.strip()!r} in {part.strip()!r}; write key=value")
            params[key.strip()] = as_number(read_yaml(value))
        found.append({"name": match[1], "params": params})
    return found


def read_choice(text: str) -> dict[str, Any]:
    """``'NAME[key=value,...]'`` as name and params; a path that exists is a name, whatever is in it."""
    with suppress(OSError, RuntimeError):  # too long for a path; '~' of nobody
        if Path(text).expanduser().exists():
            return {"name": text}
    found = parse_choices(text)
    if len(found) != 1:
        raise ValueError("must be one name, with its options in brackets: NAME[key=value,...]")
    return found[0]


def presets() -> dict[str, Path]:
    """The shipped configs by name; in the wheel they lie in the package, in a clone beside it."""
    package = Path(__file__).parents[1]
    folder = next((f for f in (package / "configs", package.parent / "configs") if f.is_dir()), package)
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
        raise UserError(f"config file {name} must hold a mapping of keys to values, got {type(values).__name__}")
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
    """Read, override, validate. Every mistake is named, each with its path, in one :class:`UserError`."""
    values = deepcopy(dict(source)) if isinstance(source, Mapping) else read_config(source)
    values |= deepcopy({k: v for k, v in (overrides or {}).items() if v is not None})
    for assignment in sets:
        assign(values, assignment)
    if source is None and "name" not in {*(overrides or {}), *(s.partition("=")[0] for s in sets)}:
        given = values.get("dataset", "digits")
        path = given.get("name", "run") if isinstance(given, dict) else str(given).partition("[")[0]
        values["name"] = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(str(path)).name).strip("-._") or "run"
    values, problems = {str(key): value for key, value in values.items()}, list(_unprintable(values))
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        problems += [_explain(e) for e in error.errors()]
        raise ConfigError(problems, _without(values, error.errors())) from None
    if problems:
        raise ConfigError(problems, None)
    return config


class ConfigError(UserError):
    """What is wrong with a config; ``rest`` is the config without it, so that names in it can be looked up too."""

    def __init__(self, problems: list[str], rest: RunConfig | None) -> None:
        super().__init__("; ".join(problems))
        self.rest = rest


def _without(values: dict[str, Any], errors: Iterable[Any]) -> RunConfig | None:
    """``values`` with every mistake replaced by what is certainly right, places in lists being kept."""
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
        model: dict[Any, type[BaseModel]] = dict.fromkeys(("priors", "controls", "dataset", "extractor"), Choice)
        model["full_chain"] = FullChain
        parent = error["loc"][0] if len(error["loc"]) > 1 else ""
        near = get_close_matches(str(error["loc"][-1]), list(model.get(parent, RunConfig).model_fields), n=1)
        return f"config key {where!r} does not exist" + (f"; did you mean {near[0]!r}?" if near else "")
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}, got {_short(error['input'])}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

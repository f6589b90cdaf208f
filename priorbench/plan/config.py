"""The config of a run: every key, its type, its default and the values that it takes."""

import contextlib
import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from .budget import as_budget
from .choice import Choice, parse_choices, read_choice

Timesteps = Literal["uniform", "quadratic", "tuned"]  # of the prior `noise`

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class FullChain(BaseModel, extra="forbid", frozen=True):
    """The ordinary chain from pure noise that ``speedup`` is measured against."""

    solver: str = "ddim"
    steps: int | None = 100

    @field_validator("steps", mode="before")
    @classmethod
    def _all(cls, value: Any) -> Any:
        return None if value == "all" else value


class RunConfig(BaseModel, extra="forbid", frozen=True):
    """Everything that determines a run. Lists are axes of the grid."""

    name: str = "run"
    dataset: Choice = Choice(name="digits")
    backbone: str | None = None
    extractor: Choice | None = None
    priors: list[Choice] = [Choice(name=n) for n in ("gaussian", "mixture", "ot", "vae", "gan")]
    controls: list[Choice] = [Choice(name=n) for n in ("noise", "oracle", "memoriser")]
    metrics: list[str] = []
    t_trunc: list[int] = [100, 200, 400]
    solver: list[str] = ["dpm++"]
    steps: list[int | None] = [5]
    rivals: list[str] = ["dpm++", "dpm++sde", "unipc"]
    rival_timesteps: list[Timesteps] = Field(["uniform", "quadratic", "tuned"], min_length=1)
    full_chain: FullChain = FullChain()
    seed: int = Field(0, ge=0, lt=2**31)
    seeds: int = Field(1, ge=1, le=1000)
    n_samples: int = Field(1000, ge=8)
    batch_size: int = Field(250, ge=1)
    w2_points: int = Field(360, ge=2)
    n_validation: int | None = Field(None, ge=0)
    fit_budget: list[str | None] = [None]
    device: str = "auto"
    precision: str = Field("fp32", pattern="^(fp32|bf16|fp16)$")
    compile: bool = False
    save_samples: bool = False
    executor: str = "serial"
    executor_options: dict[str, Any] = {}  # given in a section of the executor's name
    workers: int = Field(1, ge=1, le=1024)
    timeout: str | None = None
    exclusive_timing: bool = False
    track: list[Choice] = []

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        if not _SAFE_NAME.fullmatch(value):
            raise ValueError(
                "must consist of letters, digits, '.', '_' and '-' (it names a folder)"
            )
        return value

    @field_validator("fit_budget", mode="before")
    @classmethod
    def _budgets(cls, value: Any) -> Any:
        budgets, found = _values(value), []
        for one in budgets:
            try:
                found.append(as_budget(one))
            except ValueError as error:
                raise ValueError(f"{one!r} {error}" if len(budgets) > 1 else str(error)) from None
        return found

    @field_validator("timeout", mode="before")
    @classmethod
    def _time(cls, value: Any) -> Any:
        with contextlib.suppress(ValueError):
            found = as_budget(value)
            if found is None or (found.endswith("s") and not found.endswith("steps")):
                return found
        raise ValueError("must be seconds (60s, 2min, 1h), more than 0")

    @field_validator("workers")
    @classmethod
    def _have_an_executor(cls, value: int, others: ValidationInfo) -> int:
        if value > 1 and others.data.get("executor") == "serial":
            raise ValueError(
                "must be 1 with the executor 'serial' (--executor process runs several at once)"
            )
        return value

    @field_validator("dataset", "extractor", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return read_choice(value) if isinstance(value, str) else value

    @field_validator("priors", "controls", "track", mode="before")
    @classmethod
    def _priors(cls, value: Any) -> Any:
        if isinstance(value, str):
            return parse_choices(value)
        if isinstance(value, Iterable) and not isinstance(value, dict):
            return [p for v in value for p in (parse_choices(v) if isinstance(v, str) else [v])]
        return value

    @field_validator("metrics", "rivals", "rival_timesteps", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return _split(value) if isinstance(value, str) else value

    @field_validator("n_validation")
    @classmethod
    def _none_or_enough(cls, value: int | None) -> int | None:
        if value is not None and 0 < value < 8:
            raise ValueError("must be 0 (nothing is chosen) or at least 8")
        return value

    @field_validator("t_trunc", "solver", "steps", mode="before")
    @classmethod
    def _axes(cls, value: Any) -> Any:
        return [None if v == "all" else v for v in _values(value)]

    @field_validator(
        "t_trunc", "solver", "rivals", "rival_timesteps", "steps", "metrics", "fit_budget",
        mode="after",
    )  # fmt: skip
    @classmethod
    def _once(cls, value: list[Any]) -> list[Any]:
        return list(dict.fromkeys(value))


def _values(value: Any) -> list[Any]:
    """The values of an axis, given as a list, as one of them, or as text with commas."""
    if isinstance(value, str):
        value = _split(value)
    values = list(value) if isinstance(value, list | tuple) else [value]
    if not values:
        raise ValueError("must have at least one value")
    return values


def _split(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if "" in parts:
        raise ValueError("has an empty value between commas")
    return parts

"""What trackers are told, in the words that all of them use."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

TABLES = ("comparison.csv", "summary.csv", "best.csv", "run.json")
LOOK = ("distance", "floor", "loss")  # of a point of a fit's curve

# Numbers of a row that are no figures: the settings, and what all rows of a run share.
SETTINGS = {
    "t_trunc", "T", "seed", "steps", "nfe", "n_samples", "features", "n_reference", "threads",
    "concurrency", "alpha_bar",
}  # fmt: skip


class Figure(NamedTuple):
    """A number of a cell.

    Attributes:
        name: ``test/dpmpp/fid``, or ``fit/distance`` of a point of the fit's curve.
        step: evaluations of the model, or steps of the fit.
    """

    name: str
    value: float
    step: int


def config_of(plan: Any) -> dict[str, str]:
    """The config of a run as text, by the dotted names of its keys."""
    return dict(_flat(plan.config.model_dump(mode="json")))


def _flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value if isinstance(value, str) else json.dumps(value)


def settings_of(spec: Any) -> dict[str, str | int | float]:
    """What tells a cell from the others of its run; ``ot.width`` is a hyperparameter."""
    found: dict[str, str | int | float] = {
        "prior": spec.prior, "t_trunc": spec.t_trunc, "seed": spec.seed,
        "n_samples": spec.n_samples, "fit_budget": spec.fit_budget or "none",
    }  # fmt: skip
    for name, value in spec.params.items():
        plain = isinstance(value, str | int | float)
        found[f"{spec.prior}.{name}"] = value if plain else json.dumps(value)
    return found


def figures_of(result: Any) -> Iterator[Figure]:
    """All numbers of a cell that are numbers: those of its rows, and its fit's curve."""
    for point in result.curve:
        for name in LOOK:
            yield from _figure(f"fit/{name}", point[name], point["step"])
    for row in result.rows:
        if row["status"] == "ok":
            solver = row["solver"].replace("+", "p")  # no tracker takes a plus in a name
            for name, value in row.items():
                if name not in SETTINGS:
                    yield from _figure(f"{row['split']}/{solver}/{name}", value, row["nfe"])


def _figure(name: str, value: Any, step: float) -> Iterator[Figure]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and math.isfinite(value):
        yield Figure(name, float(value), int(step))


def errors_of(result: Any) -> str:
    """Why a cell failed, or nothing."""
    failed = [str(row["error"]) for row in result.rows if row["status"] != "ok"]
    return "; ".join(dict.fromkeys(filter(None, failed)))


def tables_in(folder: Path) -> list[Path]:
    """The tables in a results folder, and how they were made."""
    return [folder / name for name in TABLES if (folder / name).is_file()]


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of samples in a results folder."""
    return sorted((folder / "grids").glob("*.png"))


def page_in(folder: Path) -> Path | None:
    """The page in a results folder, unless it was left out."""
    page = folder / "report.html"
    return page if page.is_file() else None

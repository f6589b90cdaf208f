"""A run as a group of runs of Weights & Biases."""

import hashlib
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from priorbench import UserError

from .told import (
    Figure,
    config_of,
    errors_of,
    figures_of,
    page_in,
    pictures_in,
    settings_of,
    tables_in,
)


class WandB:
    """A group of runs: one for each cell, with its figures over evaluations and the curve of its
    fit, and one with the config, the tables, the pictures of samples and the page.

    Options:
        project: its name; by default ``WANDB_PROJECT``, else ``priorbench``.
        entity: the user or team; by default that of the login.
    """

    def __init__(
        self, plan: Any, folder: Path, run: str | None, *, project: str = "", entity: str = ""
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError("it needs wandb: pip install 'priorbench[wandb]'") from error
        self.wandb, self.folder = wandb, folder
        self.project = project or os.environ.get("WANDB_PROJECT") or "priorbench"
        self.entity = entity or None
        self.run = run or f"{plan.config.name}-{uuid4().hex[:8]}"
        self.whole = self._begin(plan.config.name, "run", config_of(plan))

    def _begin(self, name: str, job: str, config: dict[str, Any]) -> Any:
        # The same name has the same id, so that what is told again belongs to the same run.
        run_id = hashlib.sha256(f"{self.run}/{job}/{name}".encode()).hexdigest()[:16]
        quiet = self.wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True
        )
        return self.wandb.init(
            project=self.project, entity=self.entity, group=self.run, name=name, job_type=job,
            id=run_id, resume="allow", config=config, reinit="create_new", settings=quiet,
        )  # fmt: skip

    def cell_finished(self, result: Any) -> None:
        run = self._begin(result.spec.title, "cell", settings_of(result.spec))
        figures, error = list(figures_of(result)), errors_of(result)
        run.define_metric("fit/*", step_metric="fit/step")
        for place in dict.fromkeys(_place(figure) for figure in figures):
            run.define_metric(f"{place}/*", step_metric=f"{place}/nfe")
        for (place, step), values in _together(figures).items():
            axis = "step" if place == "fit" else "nfe"
            run.log({f"{place}/{axis}": step} | values)
        if error:
            run.summary["error"] = error
        run.finish(exit_code=1 if error else 0)

    def run_finished(self, comparison: Any) -> None:
        shown: dict[str, Any] = {"comparison": self.wandb.Table(dataframe=comparison)}
        for path in pictures_in(self.folder):
            shown[f"grids/{path.stem}"] = self.wandb.Image(str(path))
        page = page_in(self.folder)
        if page:
            shown["report"] = self.wandb.Html(str(page))
        self.whole.log(shown)
        tables = self.wandb.Artifact(self.run, type="tables")
        for path in tables_in(self.folder):
            tables.add_file(str(path))
        self.whole.log_artifact(tables)

    def close(self, status: str) -> None:
        self.whole.finish(exit_code=0 if status == "finished" else 1)


def _place(figure: Figure) -> str:
    """``fit``, or ``test/dpmpp``."""
    return figure.name.rpartition("/")[0]


def _together(figures: list[Figure]) -> dict[tuple[str, int], dict[str, float]]:
    """The figures by their place and step: W&B takes those of a step at once."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for figure in figures:
        found.setdefault((_place(figure), figure.step), {})[figure.name] = figure.value
    return found

"""A run as one of MLflow, with a child for each cell."""

import logging
import os
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from priorbench import UserError, __version__

from .told import (
    config_of,
    errors_of,
    figures_of,
    page_in,
    pictures_in,
    settings_of,
    tables_in,
)

STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
CELL = "priorbench_cell"  # the tag of a child: the title of its cell
ERROR = "priorbench_error"
PARAMS, METRICS = 100, 1000  # what one request may hold


class MLflow:
    """A run of MLflow: its parameters are the config, its artifacts the tables, the pictures and
    the page. Each cell is a child of it, with its own parameters and metrics.

    Options:
        uri: of the tracking server or store; by default MLflow's own (``MLFLOW_TRACKING_URI``).
        experiment: its name; by default ``MLFLOW_EXPERIMENT_NAME``, else ``priorbench``.
    """

    def __init__(
        self, plan: Any, folder: Path, run: str | None, *, uri: str = "", experiment: str = ""
    ) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise UserError("it needs MLflow: pip install 'priorbench[mlflow]'") from error
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # a new database
        self.client, self.folder = MlflowClient(tracking_uri=uri or None), folder
        name = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "priorbench"
        found = self.client.get_experiment_by_name(name)
        if found and found.lifecycle_stage != "active":
            raise UserError(f"the experiment {name!r} is deleted; restore it or name another")
        kind = {"mlflow.experimentKind": "custom_model_development"}  # what its UI begins with
        self.experiment = (
            found.experiment_id if found else self.client.create_experiment(name, tags=kind)
        )
        self.run = self._taken_up(run) or self._begun(plan)
        self.children = self._children()

    def _taken_up(self, run: str | None) -> str | None:
        """The run of the last time, if it is still there."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_run(run) if run else None
        except MlflowException:
            return None
        if found is None or found.info.lifecycle_stage != "active":
            return None
        if found.info.experiment_id != self.experiment:
            return None
        self.client.update_run(run, status="RUNNING")
        return run

    def _begun(self, plan: Any) -> str:
        from mlflow.tracking.context.registry import resolve_tags

        where = {"priorbench_version": __version__, "priorbench_folder": str(self.folder.resolve())}
        tags = resolve_tags(where)  # with the user, the command and the commit, as MLflow does
        run: str = self.client.create_run(
            self.experiment, tags=tags, run_name=plan.config.name
        ).info.run_id
        self._log(run, params=config_of(plan))
        return run

    def _children(self) -> dict[str, str]:
        """The runs of the cells so far, by their titles."""
        found: dict[str, str] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment],
                f"tags.`mlflow.parentRunId` = '{self.run}'",
                page_token=token,
            )
            found |= {run.data.tags[CELL]: run.info.run_id for run in page if CELL in run.data.tags}
            token = page.token
            if not token:
                return found

    def cell_finished(self, result: Any) -> None:
        title = result.spec.title
        if title not in self.children:
            tags = {"mlflow.parentRunId": self.run, CELL: title}
            made = self.client.create_run(self.experiment, tags=tags, run_name=title)
            self.children[title] = made.info.run_id
            self._log(made.info.run_id, params=settings_of(result.spec))
        run, error = self.children[title], errors_of(result)
        self._log(run, metrics=list(figures_of(result)))
        if error or self.client.get_run(run).data.tags.get(ERROR):
            self.client.set_tag(run, ERROR, error)
        self._end(run, "failed" if error else "finished")

    def run_finished(self, comparison: Any) -> None:
        for path in tables_in(self.folder):
            self.client.log_artifact(self.run, str(path))
        for path in pictures_in(self.folder):
            self.client.log_artifact(self.run, str(path), "grids")
        if page := page_in(self.folder):
            self.client.log_artifact(self.run, str(page))

    def close(self, status: str) -> None:
        self._end(self.run, status)

    def _end(self, run: str, status: str) -> None:
        with redirect_stdout(StringIO()):  # MLflow says where the run can be seen
            self.client.set_terminated(run, STATUS[status])

    def _log(self, run: str, params: dict[str, Any] | None = None, metrics: Any = ()) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        given = [Param(key, str(value)) for key, value in (params or {}).items()]
        for i in range(0, len(given), PARAMS):
            self.client.log_batch(run, params=given[i : i + PARAMS])
        said = [Metric(name, value, now, step) for name, value, step in metrics]
        for i in range(0, len(said), METRICS):
            self.client.log_batch(run, metrics=said[i : i + METRICS])

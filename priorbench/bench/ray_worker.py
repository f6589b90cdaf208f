"""What a Ray task does on the node that it was sent to.

Nothing here imports ray before a cluster is there.
"""

import os
import platform
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..plan.spec import CellResult, CellSpec
from ..plugin_files import FILES, FOLDERS
from ..plugin_manager import LEFT_OUT, load_plugins
from .cell import task_of
from .work import Reporter, Work

# What processes on other nodes cannot inherit.
VARIABLES = (FILES, FOLDERS, LEFT_OUT)


@dataclass(frozen=True)
class Surroundings:
    """What a task needs to find files and plugins as the run itself finds them.

    Attributes:
        folder: the run's current folder, from which relative paths count.
        variables: of its environment.
        at_once: how many cells each node computes at once, by the node's id.
        threads: of torch, for a cell.
    """

    folder: str
    variables: dict[str, str]
    at_once: dict[str, int]
    threads: int

    def enter(self) -> None:
        """Make this process like that of the run."""
        with suppress(OSError):  # a run that names nothing by a relative path can do without
            os.chdir(self.folder)
        if any(os.environ.get(name, "") != self.variables.get(name, "") for name in VARIABLES):
            os.environ.update({name: self.variables.get(name, "") for name in VARIABLES})
            load_plugins.cache_clear()
        torch.set_num_threads(self.threads)


def load(spec: CellSpec, around: Surroundings) -> None:
    """Load what all cells share, while nodes are still being looked at."""
    around.enter()
    task_of(spec)


def compute(
    work: Work, spec: CellSpec, number: int, board: Any, around: Surroundings
) -> CellResult:
    """A cell. Its news on the ``board`` bear its ``number``, and the id and name of the node."""
    import ray

    around.enter()
    node = ray.get_runtime_context().get_node_id()

    def send(event: str, _: CellSpec, *values: Any) -> None:
        board.post.remote(number, event, node, platform.node(), *values)

    # A node that has joined since the run began is like the others, as far as anybody knows.
    at_once = around.at_once.get(node, max(around.at_once.values()))
    return replace(work, listener=Reporter(send), at_once=at_once)(spec)

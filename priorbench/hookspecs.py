"""The hooks of priorbench. A plugin implements any of them, marked with ``priorbench.hookimpl``.

A registration hook is handed a function ``register(name, factory, summary=..., ...)``. ``factory``
is a string, ``"package.module:attribute"``, imported only when it is needed, so that listing
plugins imports no torch.
"""

from typing import Any, Protocol

import pluggy

#: The version of this interface: hooks, TruncPrior, TruncatedMarginal, FitRun and the other public
#: names. The second number rises when something is added, the first when something that a plugin
#: may rely on changes or goes.
INTERFACE = "1.1"

hookspec = pluggy.HookspecMarker("priorbench")
hookimpl = pluggy.HookimplMarker("priorbench")


class Register(Protocol):
    """What a registration hook is handed."""

    def __call__(
        self, name: str, factory: str, *, summary: str = "", control: bool = False
    ) -> None: ...


@hookspec
def register_priors(register: Register) -> None:
    """Priors. The factory is a ``TruncPrior`` class; ``control=True`` for one that is no contender."""


@hookspec
def register_datasets(register: Register) -> None:
    """Data sets. The factory returns a ``priorbench.Dataset``; its keyword arguments are the data
    set's options.
    """


@hookspec
def register_backbones(register: Register) -> None:
    """Diffusion models. The factory takes nothing and returns the path of a ``diffusers`` pipeline
    folder.
    """


@hookspec
def register_extractors(register: Register) -> None:
    """Feature extractors. The factory takes nothing and returns a ``torch_fidelity``
    ``FeatureExtractorBase``.
    """


@hookspec
def register_metrics(register: Register) -> None:
    """Metrics. The factory is called with a ``priorbench.Measured`` and returns a dict of column ->
    number.
    """


@hookspec
def register_executors(register: Register) -> None:
    """Executors. The factory is called with (run_cell, specs) and yields a ``CellResult`` for each
    as it is done.
    """


@hookspec
def register_commands(register: Register) -> None:
    """Commands. The factory is a ``click.Command``, added to the ``priorbench`` group under
    ``name``.
    """


@hookspec
def run_started(plan: Any) -> None:
    """A run is about to begin; ``plan`` is a ``priorbench.plan.layout.Plan``."""


@hookspec
def cell_finished(result: Any) -> None:
    """A cell is done; ``result`` is its ``CellResult``, already on disk."""


@hookspec
def run_finished(comparison: Any) -> None:
    """A run is over; ``comparison`` is the table, a ``pandas.DataFrame`` as in ``comparison.csv``."""

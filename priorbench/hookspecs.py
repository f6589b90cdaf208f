"""The hooks of priorbench. A plugin implements any of them, marked with ``priorbench.hookimpl``.

A registration hook is called with a function ``register(name, factory, summary=..., ...)``. The
``factory`` is a string, ``"package.module:attribute"``. It is imported only when it is needed, so
that listing plugins imports no torch.
"""

from typing import Any, Protocol

import pluggy

#: The version of this interface: hooks, TruncPrior, TruncatedMarginal, FitRun and the other public
#: names. The second number rises when something is added. The first rises when something that a
#: plugin may rely on changes or is removed.
INTERFACE = "1.8"

hookspec = pluggy.HookspecMarker("priorbench")
hookimpl = pluggy.HookimplMarker("priorbench")


class Register(Protocol):
    """The function that a registration hook is called with."""

    def __call__(
        self, name: str, factory: str, *, summary: str = "", control: bool = False
    ) -> None:
        """Register ``factory`` under ``name``.

        Arguments:
            factory: ``"package.module:attribute"``.
            summary: a few words for ``priorbench plugins``.
            control: whether a prior is a control, which is never ranked.
        """


class Tracker(Protocol):
    """What is told of a run, to keep it in a service such as MLflow (``run --track NAME``).

    The factory is called with ``(plan, folder, run)``: a ``Plan``, the ``Path`` of the results
    folder, and the :attr:`run` that it had when the run was last in that folder, or None. Its
    keyword-only arguments are its options, ``--track 'NAME[key=value]'``. What it raises ends the
    run before anything is computed, a ``UserError`` with its own words. If a method raises, the
    user is warned, and the tracker is told no more.

    Attributes:
        run: what the service calls the tracked run. If it is another than that given to the
            factory, the tracker is told of everything again.
    """

    run: str

    def cell_finished(self, result: Any) -> None:
        """A cell is done, or was found done; ``result`` is its ``CellResult``, without images.

        It may come again with other rows: of other settings, of a failure that was tried again, or
        timed again. The curve of a fit comes once.
        """

    def run_finished(self, comparison: Any) -> None:
        """The tables, pictures and page are in the folder; ``comparison`` is a ``DataFrame``."""

    def close(self, status: str) -> None:
        """Nothing more comes. ``status`` is ``finished``, ``failed`` (rows failed) or
        ``stopped`` (the run was interrupted).
        """


@hookspec
def register_priors(register: Register) -> None:
    """Priors. The factory is a ``TruncPrior`` class; a control has ``control=True``."""


@hookspec
def register_datasets(register: Register) -> None:
    """Data sets. The factory returns a ``priorbench.Dataset``.

    Its keyword arguments are the options of the data set.
    """


@hookspec
def register_backbones(register: Register) -> None:
    """Diffusion models. The factory takes nothing and returns the path of a pipeline folder.

    The pipeline is an unconditional one of ``diffusers``, saved with safetensors.
    """


@hookspec
def register_extractors(register: Register) -> None:
    """Feature extractors. The factory takes nothing and returns a ``FeatureExtractorBase``.

    That is the base class of the extractors of ``torch_fidelity``.
    """


@hookspec
def register_metrics(register: Register) -> None:
    """Metrics. The factory takes a ``priorbench.Measured`` and returns a dict: column -> number."""


@hookspec
def register_executors(register: Register) -> None:
    """Executors. The factory takes (work, specs) and yields the ``CellResult`` of each spec.

    It yields each result as soon as it is there, in any order. ``work`` is a
    ``priorbench.bench.work.Work``: ``work(spec)`` computes a cell. Keyword-only arguments are the
    executor's options, which a config gives in a section of its name.
    """


@hookspec
def register_trackers(register: Register) -> None:
    """Trackers. The factory makes a :class:`Tracker`."""


@hookspec
def register_commands(register: Register) -> None:
    """Commands. The factory is a ``click.Command``, added to ``priorbench`` under its name."""


@hookspec
def run_started(plan: Any) -> None:
    """A run is about to begin; ``plan`` is a ``priorbench.plan.layout.Plan``."""


@hookspec
def cell_finished(result: Any) -> None:
    """A cell is done; ``result`` is its ``CellResult``, which is already on disk."""


@hookspec
def fit_finished(spec: Any, curve: Any) -> None:
    """A prior has been fitted in steps; it is called before ``cell_finished``.

    Arguments:
        spec: the ``CellSpec``.
        curve: a dict for each look at the fit, with ``share`` (0..1), ``step``, ``seconds``,
            ``loss``, ``distance`` (sliced W2 at x_{t_trunc} to held-out draws) and ``floor`` (that
            of training draws).
    """


@hookspec
def run_finished(comparison: Any) -> None:
    """A run is over; ``comparison`` is ``comparison.csv`` as a ``pandas.DataFrame``."""

"""A cell's fit: found where it is kept, or made and timed while it is watched, and then kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from ..diffusion.process import generator_for
from ..marginal import TruncatedMarginal
from ..plan.budget import read_budget
from ..plan.spec import CellSpec
from ..plugin_manager import load_plugins
from ..prior import FitRun, TruncPrior, make_prior, reloaded
from ..sampler import BadSample
from ..store.fits import Fits
from ..task import Task
from .guard import Guard
from .learning import Curve, Learning, watched
from .timing import clock

Progress = Callable[[int, int, float], None]


@dataclass
class Fit:
    """A fitted prior, with the seconds, steps and curve of its fit.

    Attributes:
        learning: what watched the fit, if it was made just now; it becomes the curve.
        at_any_t_trunc: whether a fit that was made just now is the same at every t_trunc.
    """

    prior: TruncPrior
    seconds: float
    steps: int
    curve: Curve = field(default_factory=list)
    learning: Learning | None = None
    at_any_t_trunc: bool = False


def fit_run(spec: CellSpec, progress: Progress, log: Callable[[str], None]) -> FitRun:
    """What a fit is given: its generator, and its budget from now on."""
    seconds, steps, share = read_budget(spec.fit_budget)
    deadline = None if seconds is None else time.monotonic() + seconds
    generator = generator_for(spec.seed, "fit")
    return FitRun(generator, deadline, progress, log, steps, own_share=share or 1.0)


class Fitting:
    """Makes and keeps the fit of a cell; a plugin's code is guarded.

    Arguments:
        fits: where fitted priors are kept and reused; None keeps none.
        watch: whether to watch how the fit gets on.
    """

    def __init__(
        self, task: Task, spec: CellSpec, fits: Fits | None, guard: Guard, *, watch: bool
    ) -> None:
        self.task, self.spec, self.fits, self.guard, self.watch = task, spec, fits, guard, watch

    def fit(self, marginal: TruncatedMarginal, progress: Progress) -> Fit:
        """The prior fitted to ``marginal``: one that was kept, otherwise fitted now."""
        with self.guard():
            return self._kept(marginal) or self._made(marginal, progress)

    def _kept(self, marginal: TruncatedMarginal) -> Fit | None:
        if not self.fits:
            return None
        kept = self.fits.load(self.spec, marginal.shape, self.task.diffusion.device)
        self.guard.notes += [kept.note] if kept.note else []
        self.guard.log += kept.log
        if kept.prior is None:
            return None
        return Fit(kept.prior, kept.seconds, kept.steps, kept.curve)

    def _made(self, marginal: TruncatedMarginal, progress: Progress) -> Fit:
        spec, device, log = self.spec, self.task.diffusion.device, self.guard.log
        prior = self._unfitted().to(device)
        run = fit_run(spec, progress, lambda line: log.append(str(line)))
        learning = watched(run, prior) if self.watch else Learning(prior)
        started = clock(device)
        prior.fit(marginal, run)
        seconds = clock(device) - started - run.paused
        if run.taken and not (prior.takes_budget or spec.control):
            raise BadSample(
                f"fit took {run.taken} steps, and takes_budget is False: no budget would "
                "limit it, and it would have more than other priors"
            )
        if learning.points:
            learning.look(run, 1.0, seconds)
        clean = prior.emits == "x_0" and not marginal.used_t_trunc
        return Fit(prior, seconds, run.taken, learning=learning, at_any_t_trunc=clean)

    def _unfitted(self) -> TruncPrior:
        cls = load_plugins().find("prior", self.spec.prior).load()
        return make_prior(cls, self.spec.label, self.spec.params)

    def remade(self, tensors: dict[str, Tensor]) -> TruncPrior:
        """A prior that is made of tensors alone, so that it can have nothing else in store."""
        prior = reloaded(self._unfitted(), self.task.dataset.shape, tensors)
        prior = prior.to(self.task.diffusion.device)
        prior.fitted.fill_(True)
        return prior

    def keep(self, fit: Fit) -> None:
        """Measure the curve of a fit that was made just now, and save the fit."""
        if fit.learning:
            fit.curve = self._curve(fit.learning, fit.at_any_t_trunc)
            if self.fits:
                self._save(fit, self.fits)

    def _curve(self, learning: Learning, clean: bool) -> Curve:
        """How the fit got on, from copies of the prior that were made on the way."""
        with self.guard():
            marginal = self.task.marginal(self.spec.t_trunc)
            found = learning.curve(self.spec, marginal, self.remade, clean)
        if learning.fault:
            self.guard.log.append(f"the fit has no curve: {learning.fault}")
        return found

    def _save(self, fit: Fit, fits: Fits) -> None:
        """Save a fit, and say so if its weights do not bring it back."""
        if self.task.changed():
            raise BadSample("the fit changed what all cells share")
        about = {"fit_seconds": fit.seconds, "fit_steps": fit.steps, "curve": fit.curve}
        about |= {"log": list(self.guard.log)}
        about |= {"at_any_t_trunc": fit.at_any_t_trunc}
        with self.guard():
            reusable = fits.keep(self.spec, fit.prior, self.task.dataset.shape, **about)
        if not reusable:
            self.guard.log.append(
                "loaded from its weights the prior draws other samples: its fit will not be reused"
            )

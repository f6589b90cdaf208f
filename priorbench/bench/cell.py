"""One cell: fit a prior, sample it once, denoise by every (solver, steps), measure.

:func:`run_cell` is a pure function of its spec, so that resuming, retrying and every executor are
the same thing.
"""

import json
import traceback
from dataclasses import dataclass
from functools import lru_cache, partial
from math import ceil, nan
from typing import Any

import numpy as np
from torch import Tensor

from ..data.dataset import to_bytes
from ..errors import UserError, one_line, printable
from ..files import CannotWrite
from ..glance import quick_failures
from ..isolation import standard
from ..plan.spec import CellResult, CellSpec, ImageKey, Setting
from ..plugin_manager import load_plugins
from ..prior import TruncPrior
from ..sampler import TruncatedSampler
from ..store.fits import Fits
from ..tables.columns import Row
from ..task import Task, forget, load_task
from .fitting import Fit, Fitting, Progress
from .guard import Guard
from .learning import Curve, gains
from .measure import AtT, choosing_fid, facts, make_row, test_columns
from .operations import evaluations_of_prior, of_evaluation, of_prior
from .optimality import UNKNOWN, transport_costs
from .preview import preview
from .sampling import Chain, Drawn, denoised, drawn
from .timing import PeakMemory

PREVIEW = 40  # images kept of x_{t_trunc}, and of x_0 unless samples are saved

Images = dict[str, np.ndarray]
Samplers = dict[Setting, TruncatedSampler]


@dataclass(frozen=True)
class Samples:
    """What a cell measures: its samples, and on each choosing split others, as x_{t_trunc}.

    ``samplers`` have the chains that they go through.
    """

    test: Drawn
    choosing: list[tuple[str, Tensor]]
    samplers: Samplers


def run_cell(
    spec: CellSpec,
    progress: Progress | None = None,
    fits: Fits | None = None,
    curves: bool = True,
) -> CellResult:
    """Compute a cell. Whatever a prior does wrong ends up in the rows, and is not raised.

    Arguments:
        progress: called with (step, total, loss) during the fit.
        fits: where fitted priors are kept and reused; None keeps none.
        curves: whether to watch how the fit gets on.

    Raises:
        CannotWrite: if the fitted prior cannot be saved.
    """
    task = task_of(spec)
    cell = _Cell(task, spec, progress or _ignore, fits, curves)
    rows, images, curve = list[Row](), Images(), Curve()
    try:
        with standard(), PeakMemory(task.diffusion.device) as memory:
            rows, images, curve = cell.compute()
        rows = [row | {"peak_memory_mb": round(memory.megabytes, 1)} for row in rows]
    except (CannotWrite, KeyboardInterrupt):
        raise
    # A prior that calls sys.exit, or panics in another language, ends its own cell alone.
    except BaseException as error:
        cell.guard.log.append(traceback.format_exc())
        rows = failure(spec, _reason(error)).rows
    if changed := task.changed():
        forget()  # later cells get everything as it was
        rows = failure(spec, f"prior {spec.label!r} changed {' and '.join(changed)}").rows
    return CellResult(spec, rows, images, cell.guard.log, cell.guard.notes, curve)


def _ignore(step: int, total: int, loss: float) -> None:
    """Progress that nobody watches."""


def _reason(error: BaseException) -> str:
    if str(error).split():
        return one_line(error, named=True)
    unsaid = "out of memory" if isinstance(error, MemoryError) else "no reason given"
    return f"{type(error).__name__}: {unsaid}"


class _Cell:
    """The steps of a cell. Each returns what the next one needs; a plugin's code is guarded."""

    def __init__(
        self, task: Task, spec: CellSpec, progress: Progress, fits: Fits | None, curves: bool
    ) -> None:
        self.task, self.spec = task, spec
        self.guard = Guard(task, spec.label)
        # What a control draws, its fit has no part in.
        self.fitting = Fitting(task, spec, fits, self.guard, watch=curves and not spec.control)
        self.progress = progress

    def compute(self) -> tuple[list[Row], Images, Curve]:
        """Marginal -> fit -> sample -> denoise -> measure -> row."""
        failed_checks = self.failed_checks()
        fit = self.fitting.fit(self.task.marginal(self.spec.t_trunc), self.progress)
        samples = self.sample(fit)
        known = facts(fit.prior, samples.test, self.task, self.spec)
        known |= {"fit_seconds": fit.seconds, "fit_steps": fit.steps}
        known |= gains(fit.curve) | {"failed_checks": failed_checks}
        known |= {"flops_prior": self.flops(fit)} | self.transport_costs(fit.prior)
        evaluation = of_evaluation(self.task.diffusion)
        own = evaluations_of_prior(samples.test.nfe, known["flops_prior"], evaluation)
        known |= {"nfe_prior": own}
        at_t = AtT(samples.test, self.task, self.spec, fit.prior.emits)
        rows, images = list[Row](), {str(ImageKey("x_t")): _bytes(samples.test.x_t[:PREVIEW])}
        for setting in self.spec.solvers:
            chain = denoised(samples.test.x_t, samples.samplers[setting], self.spec)
            known["nfe"] = chain.nfe + ceil(own)
            known["flops_chain"] = chain.nfe * evaluation
            rows += self.measure(setting, chain, samples, at_t, known)
            x_0 = chain.x_0 if self.spec.save_samples else chain.x_0[:PREVIEW]
            images[str(ImageKey("x_0", setting[0], known["nfe"]))] = _bytes(x_0)
        return rows, images | self.pictures(samples, ceil(own)), fit.curve

    def failed_checks(self) -> str:
        """The quick conformance checks that a contender fails, made before its first fit here."""
        if self.spec.control:
            return ""
        with self.guard():
            cls = load_plugins().find("prior", self.spec.prior).load()
            return _checked(cls, json.dumps(self.spec.params, sort_keys=True))

    def sample(self, fit: Fit) -> Samples:
        """The samples to measure, and for each choosing split others, that settings are chosen by.

        A new fit is kept in between: only after samples of it are valid, because a fit that is kept
        would outlive the bug that spoilt it; but before the chain is run, so that a cell that is
        interrupted need not fit again. Its curve is measured only then, see :mod:`.learning`.
        """
        (_, n_samples), *others = self.spec.splits
        with self.guard():
            test = drawn(fit.prior, self.task, self.spec, n_samples)
            samplers = samplers_of(fit.prior, self.task, self.spec)
        self.fitting.keep(fit)
        choosing: list[tuple[str, Tensor]] = []
        for split, n in others:
            with self.guard():
                samples = drawn(fit.prior, self.task, self.spec, n, split)
            choosing.append((split, samples.x_t))
        return Samples(test, choosing, samplers)

    def flops(self, fit: Fit) -> float:
        """Operations of the prior for an image; NaN where they cannot be counted.

        They are counted of a prior that is remade from its tensors, so that nothing can have been
        worked out before; of the fitted one itself where that lacks something, such as the frozen
        model.
        """
        fault = ""
        for anew in (True, False):
            try:
                with self.guard():
                    prior = self.fitting.remade(fit.prior.state_dict()) if anew else fit.prior
                    return of_prior(prior, self.spec)
            except Exception as error:  # the prior's own code
                fault = one_line(error, named=True)
        self.guard.log.append(f"operations not counted: {fault}")
        return nan

    def transport_costs(self, prior: TruncPrior) -> Row:
        """What the prior's map costs; NaN where it has none, or shows it wrongly."""
        try:
            with self.guard():
                return transport_costs(prior, self.spec, self.task.dataset.shape)
        except Exception as error:  # the prior's own code
            self.guard.log.append(f"no transport cost: {one_line(error, named=True)}")
            return UNKNOWN

    def measure(
        self, setting: Setting, chain: Chain, samples: Samples, at_t: AtT, known: Row
    ) -> list[Row]:
        """The rows of one solver setting: of the test split, and of the choosing splits."""
        row = partial(make_row, self.task, self.spec, *setting, **known)
        if not bool(chain.x_0.isfinite().all()):
            error = (
                f"solver {setting[0]} in {chain.nfe} evaluations made values that are not finite"
            )
            failed = {"status": "failed", "error": error}
            return [row(split=split, n_samples=n, **failed) for split, n in self.spec.splits]
        columns = test_columns(chain, samples.test, at_t, self.task, self.spec, self.guard)
        counted = {"n_samples": len(samples.test.x_t), "denoise_seconds": chain.seconds}
        rows = [row(split="test", **counted, **columns)]
        for split, x_t in samples.choosing:
            fid = choosing_fid(x_t, self.task, self.spec, samples.samplers[setting], split)
            rows.append(row(split=split, **counted | {"n_samples": len(x_t)}, fid=fid))
        return rows

    def pictures(self, samples: Samples, own_nfe: int) -> Images:
        """Samples on their way from z to x_0. Without them all figures stand."""
        try:
            # The last setting, or at t_trunc = T the first: for pure noise, the full chain.
            at_T = self.spec.t_trunc == self.task.diffusion.T
            sampler = samples.samplers[self.spec.solvers[0 if at_T else -1]]
            with self.guard():
                shown = preview(sampler, samples.test.x_t, self.task, self.spec, own_nfe)
        except Exception as error:
            self.guard.notes.append(f"{self.spec.title} has no picture of its way: {error}")
            return {}
        return {str(key): images.numpy() for key, images in shown.items()}


@lru_cache(maxsize=64)
def _checked(cls: type[TruncPrior], params: str) -> str:
    return ", ".join(quick_failures(cls, json.loads(params)))


def _bytes(x: Tensor) -> np.ndarray:
    return to_bytes(x).numpy()


def samplers_of(prior: TruncPrior, task: Task, spec: CellSpec) -> Samplers:
    """A sampler for each solver setting.

    Raises:
        BadSample: if the prior's times are those of no such chain.
    """
    return {
        setting: TruncatedSampler(prior, task.diffusion, spec.t_trunc, *setting, spec.batch_size)
        for setting in spec.solvers
    }


def failure(spec: CellSpec, reason: str) -> CellResult:
    """The result of a cell that failed: every row says why, and none has a figure."""
    task, error = load_task(*_sources(spec)), printable(reason)
    rows = [
        make_row(task, spec, *setting, split=split, n_samples=n, status="failed", error=error)
        for setting in spec.solvers
        for split, n in spec.splits
    ]
    return CellResult(spec, rows)


def task_of(spec: CellSpec) -> Task:
    """The task that the cell belongs to, loaded once per process.

    Raises:
        UserError: if it is no longer what the plan's hashes were taken of. Results would otherwise
            be kept under a wrong name.
    """
    task = load_task(*_sources(spec))
    loaded = load_plugins().find("prior", spec.prior).version
    checks = [
        (f"data set {spec.dataset.name!r}", task.dataset_digest, spec.digests["dataset"]),
        (f"backbone {spec.backbone!r}", task.backbone_digest, spec.digests["backbone"]),
        (f"extractor {spec.extractor.name!r}", task.extractor_digest, spec.digests["extractor"]),
        (f"the plugin of prior {spec.prior!r}", loaded, spec.versions[spec.distribution]),
    ]
    for what, found, planned in checks:
        if found != planned:
            raise UserError(
                f"{what} has changed since the run began; repeat the command to use it as it is now"
            )
    return task


def _sources(spec: CellSpec) -> tuple[Any, ...]:
    return spec.dataset, spec.backbone, spec.extractor, spec.device, spec.precision, spec.compile

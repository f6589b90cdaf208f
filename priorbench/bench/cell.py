"""One cell: fit a prior, sample it once, denoise by every (solver, steps), measure. A pure function
of its spec.
"""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..conformance import quick_failures
from ..data.dataset import to_bytes
from ..diffusion.process import generator_for
from ..errors import UserError, printable
from ..files import CannotWrite
from ..isolation import standard
from ..plan.budget import read_budget
from ..plan.spec import CellResult, CellSpec
from ..plugin_manager import load_plugins
from ..prior import FitRun, TruncPrior, make_prior
from ..store.fits import Fits
from ..tables.columns import Row
from ..task import Task, forget, load_task
from .guard import Guard
from .measure import (
    AtT,
    BadSample,
    Drawn,
    choosing_fid,
    denoised,
    drawn,
    facts,
    make_row,
    test_columns,
)
from .preview import preview
from .timing import PeakMemory, clock

PREVIEW = 40  # images kept of x_{t_trunc}, and of x_0 unless samples are saved

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Fit:
    """A fitted prior, what its fit took, and whether it was fitted just now."""

    prior: TruncPrior
    seconds: float
    steps: int
    new: bool


def run_cell(
    spec: CellSpec, progress: Progress | None = None, fits: Fits | None = None
) -> CellResult:
    """Compute a cell. Whatever a prior does wrong is in the rows, not raised.

    Arguments:
        fits: where fitted priors are kept, and taken from; None keeps nothing.

    Raises:
        CannotWrite: if the fitted prior cannot be kept.
    """
    task = task_of(spec)
    guard = Guard(task, spec.label)
    rows, images = list[Row](), dict[str, np.ndarray]()
    try:
        with standard(), PeakMemory(task.diffusion.device) as memory:
            rows, images = _compute(
                task, spec, guard, progress or (lambda step, total, loss: None), fits
            )
        rows = [row | {"peak_memory_mb": round(memory.megabytes, 1)} for row in rows]
    except (CannotWrite, KeyboardInterrupt):
        raise
    except (
        BaseException
    ) as error:  # a prior that calls sys.exit, or panics in another language, ends itself alone
        guard.log.append(traceback.format_exc())
        reason = " ".join(str(error).split()) or (
            "out of memory" if isinstance(error, MemoryError) else "no reason given"
        )
        rows = failure(spec, f"{type(error).__name__}: {reason}").rows
    if changed := task.changed():
        forget()  # later cells get everything as it was
        rows = failure(spec, f"prior {spec.label!r} changed {' and '.join(changed)}").rows
    return CellResult(spec, rows, images, guard.log, guard.notes)


def failure(spec: CellSpec, reason: str) -> CellResult:
    """A cell of which every row says why it failed, and none has a number."""
    task, said = load_task(*_sources(spec)), printable(reason)
    rows = [
        make_row(task, spec, *setting, split=split, n_samples=n, status="failed", error=said)
        for setting in spec.solvers
        for split, n in spec.splits
    ]
    return CellResult(spec, rows)


def task_of(spec: CellSpec) -> Task:
    """What the cell is about, loaded once a process.

    Raises:
        UserError: if it is no longer what the plan's hashes were taken of: results would be kept
            under a wrong name.
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
                f"{what} has changed since the run began; the same command again takes it as it is now"
            )
    return task


def _sources(spec: CellSpec) -> tuple[Any, ...]:
    return spec.dataset, spec.backbone, spec.extractor, spec.device, spec.precision, spec.compile


def _compute(
    task: Task, spec: CellSpec, guard: Guard, progress: Progress, fits: Fits | None
) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Marginal -> fit -> sample -> denoise -> measure: the rows, and the images that are kept."""
    with guard():
        failed_checks = _failed_checks(spec)
    with guard():
        fit = _fit(task, spec, guard, progress, fits)
    with guard():
        samples = drawn(fit.prior, task, spec, spec.n_samples)
    if fits and fit.new:
        _keep(fit, task, spec, guard, fits)
    # Settings are chosen by samples that the reported figures never see, against images that they
    # are not reported on.
    (_, n_samples), *others = spec.splits
    choosing: list[tuple[str, Tensor]] = []
    for split, n in others:
        with guard():
            choosing.append((split, drawn(fit.prior, task, spec, n, f" {split}").x_t))

    known = facts(fit.prior, samples, task, spec)
    known |= {"fit_seconds": fit.seconds, "fit_steps": fit.steps, "failed_checks": failed_checks}
    at_t = AtT(samples, task, spec, fit.prior.emits)
    rows, images = list[Row](), {"x_t": to_bytes(samples.x_t[:PREVIEW]).numpy()}
    for solver, steps in spec.solvers:
        chain = denoised(samples.x_t, task, spec, solver, steps)
        nfe = chain.nfe + ceil(samples.nfe)
        row = partial(make_row, task, spec, solver, steps, nfe=nfe, **known)
        images[f"x_0 {solver} {nfe}"] = to_bytes(
            chain.x_0 if spec.save_samples else chain.x_0[:PREVIEW]
        ).numpy()
        if not bool(chain.x_0.isfinite().all()):
            error = f"solver {solver} in {chain.nfe} evaluations made values that are not finite"
            rows += [
                row(split=split, n_samples=n, status="failed", error=error)
                for split, n in spec.splits
            ]
            continue
        timed = {"denoise_seconds": chain.seconds}
        columns = test_columns(chain, samples, at_t, task, spec, guard)
        rows.append(row(split="test", n_samples=n_samples, **timed, **columns))
        for split, other in choosing:
            score = choosing_fid(other, task, spec, solver, steps, split)
            rows.append(row(split=split, n_samples=len(other), fid=score, **timed))
    return rows, images | _pictures(fit.prior, samples, task, spec, guard)


@lru_cache(maxsize=64)
def _checked(cls: type[TruncPrior], params: str) -> str:
    return ", ".join(quick_failures(cls, json.loads(params)))


def _failed_checks(spec: CellSpec) -> str:
    """Which of the quick conformance checks a contender fails, looked at before its first fit in
    this process.
    """
    if spec.control:
        return ""
    return _checked(
        load_plugins().find("prior", spec.prior).load(), json.dumps(spec.params, sort_keys=True)
    )


def _fit(task: Task, spec: CellSpec, guard: Guard, progress: Progress, fits: Fits | None) -> Fit:
    """The fitted prior: from ``fits`` if it is there, else fitted now."""
    device, marginal = task.diffusion.device, task.marginal(spec.t_trunc)
    if fits:
        kept = fits.load(spec, marginal.shape, device)
        guard.notes += [kept.note] if kept.note else []
        guard.log += kept.log
        if kept.prior is not None:
            return Fit(kept.prior, kept.seconds, kept.steps, new=False)
    prior = make_prior(load_plugins().find("prior", spec.prior).load(), spec.label, spec.params).to(
        device
    )
    run = fit_run(spec, progress, lambda line: guard.log.append(str(line)))
    started = clock(device)
    prior.fit(marginal, run)
    return Fit(prior, clock(device) - started, run.taken, new=True)


def fit_run(spec: CellSpec, progress: Progress, log: Callable[[str], None]) -> FitRun:
    """What a fit is given: its generator, and its budget from now on."""
    seconds, steps = read_budget(spec.fit_budget)
    deadline = None if seconds is None else time.monotonic() + seconds
    return FitRun(generator_for(spec.seed, "fit"), deadline, progress, log, steps)


def _keep(fit: Fit, task: Task, spec: CellSpec, guard: Guard, fits: Fits) -> None:
    """Save the fit only once its samples are valid (a bad fit that is kept would outlive the
    mending of its bug), and before anything is measured (what ends the cell then does not cost the
    fit).
    """
    if task.changed():
        raise BadSample("the fit changed what all cells share")
    about = {"fit_seconds": fit.seconds, "fit_steps": fit.steps, "log": list(guard.log)}
    with guard():
        reusable = fits.keep(spec, fit.prior, task.dataset.shape, **about)
    if not reusable:
        guard.log.append(
            "loaded from its weights the prior draws other samples: its fit will not be reused"
        )


def _pictures(
    prior: TruncPrior, samples: Drawn, task: Task, spec: CellSpec, guard: Guard
) -> dict[str, np.ndarray]:
    """Samples on their way; without them the figures stand all the same."""
    try:
        with guard():
            found = preview(prior, samples.x_t, task, spec, ceil(samples.nfe))
    except Exception as error:
        guard.notes.append(
            f"{spec.label} t_trunc {spec.t_trunc} has no picture of its way: {error}"
        )
        return {}
    return {name: shown.numpy() for name, shown in found.items()}


def retimed(spec: CellSpec, rows: list[Row], fits: Fits, note: Callable[[str], None]) -> list[Row]:
    """``rows`` of ``spec`` with sampling and denoising timed again, here and now and with nothing
    beside it.

    The seconds of the fit stay as they were. So do all rows where the fit is not to be had any
    more.
    """
    task = task_of(spec)
    guard = Guard(task, spec.label)
    with standard():
        with guard():
            kept = fits.load(spec, task.dataset.shape, task.diffusion.device)
        if kept.note:
            note(kept.note)
        if kept.prior is None:
            return rows
        with guard():
            samples = drawn(kept.prior, task, spec, spec.n_samples)
        chains = {
            one.cell: denoised(samples.x_t, task, spec, *one.solvers[0]) for one in spec.results
        }
    found = []
    for row in (row for row in rows if row["cell"] in chains):
        chain = chains[row["cell"]]
        new: Row = {"prior_seconds": samples.seconds, "denoise_seconds": chain.seconds}
        new |= {"threads": torch.get_num_threads(), "concurrency": 1}
        if "images_per_second" in row:  # a reported row, not one that settings are chosen by
            new |= {"images_per_second": 1 / (samples.seconds + chain.seconds)}
            new |= {"prior_batches": samples.batches, "denoise_batches": chain.batches}
        found.append(row | new)
    return found

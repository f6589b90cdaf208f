"""One cell: fit a prior, sample it once, denoise by every (solver, steps), measure. A pure function of its spec."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..data.dataset import to_bytes, to_float
from ..diffusion.process import generator_for
from ..errors import UserError, printable
from ..files import CannotWrite
from ..metrics.fidelity import features_of, fid, fidelity
from ..metrics.measured import Measured
from ..metrics.memorisation import authenticity, neighbour_ratio
from ..metrics.spread import fid_at_infinity
from ..metrics.wasserstein import distances
from ..plugin_manager import load_plugins
from ..prior import FitRun, TruncPrior, make_prior
from .config import read_budget
from .context import JUDGED, Context, load_context
from .fits import Fits, Kept
from .plan import CellSpec
from .preview import preview
from .table import COLUMNS
from .timing import Draw, PeakMemory, clock, timed

PREVIEW = 40  # images kept of x_{t_trunc}, and of x_0 unless samples are saved

Progress = Callable[[int, int, float], None]


@dataclass
class CellResult:
    """What a cell yields: rows for the table, images for the grids, the log, and notes that the user should see."""

    spec: CellSpec
    rows: list[dict[str, Any]]
    images: dict[str, np.ndarray] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(row["status"] == "ok" for row in self.rows)


class BadSample(Exception):
    """A prior returned something other than n finite images."""


def run_cell(spec: CellSpec, progress: Progress | None = None, fits: Fits | None = None) -> CellResult:
    """Compute a cell. Whatever a prior does wrong is in the rows, not raised.

    Arguments:
        fits: where fitted priors are kept, and taken from; None keeps nothing.

    Raises:
        CannotWrite: if the fitted prior cannot be kept.
    """
    context = context_of(spec)
    result = CellResult(spec, [])
    try:
        with PeakMemory(context.diffusion.device) as memory:
            _compute(context, spec, result, progress or (lambda step, total, loss: None), fits)
        for row in result.rows:
            row["peak_memory_mb"] = round(memory.megabytes, 1)
    except (CannotWrite, KeyboardInterrupt):
        raise
    except BaseException as error:  # a prior that calls sys.exit, or panics in another language, ends itself alone
        result.log.append(traceback.format_exc())
        reason = " ".join(str(error).split()) or (
            "out of memory" if isinstance(error, MemoryError) else "no reason given"
        )
        result.rows = failure(spec, f"{type(error).__name__}: {reason}").rows
    if context.diffusion.digest() != context.backbone_digest:
        load_context.cache_clear()  # later cells get the model as it was
        result.rows = failure(spec, _changed(spec)).rows
    return result


def failure(spec: CellSpec, reason: str) -> CellResult:
    """A cell of which every row says why it failed, and none has a number."""
    context, said = load_context(*_sources(spec)), printable(reason)
    rows = [
        _row(context, spec, *setting, split=split, n_samples=n, status="failed", error=said)
        for setting in spec.solvers
        for split, n in spec.splits
    ]
    return CellResult(spec, rows)


def context_of(spec: CellSpec) -> Context:
    """What the cell is about, loaded once a process.

    Raises:
        UserError: if it is no longer what the plan's hashes were taken of: results would be kept under a wrong name.
    """
    context = load_context(*_sources(spec))
    loaded = load_plugins().find("prior", spec.prior).version
    checks = [
        (f"data set {spec.dataset.name!r}", context.dataset_digest, spec.digests["dataset"]),
        (f"backbone {spec.backbone!r}", context.backbone_digest, spec.digests["backbone"]),
        (f"extractor {spec.extractor.name!r}", context.extractor_digest, spec.digests["extractor"]),
        (f"the plugin of prior {spec.prior!r}", loaded, spec.versions[spec.distribution]),
    ]
    for what, found, planned in checks:
        if found != planned:
            raise UserError(f"{what} has changed since the run began; the same command again takes it as it is now")
    return context


def _sources(spec: CellSpec) -> tuple[Any, ...]:
    return spec.dataset, spec.backbone, spec.extractor, spec.device, spec.precision, spec.compile


def _changed(spec: CellSpec) -> str:
    return f"prior {spec.label!r} changed the frozen model's weights"


def _fit(
    context: Context, spec: CellSpec, result: CellResult, progress: Progress, fits: Fits | None
) -> tuple[Kept, TruncPrior]:
    """The fitted prior and what its fit took: from ``fits`` if it is there, else fitted now."""
    device, marginal = context.diffusion.device, context.marginal(spec.t_trunc)
    kept = fits.load(spec, marginal.shape, device) if fits else Kept()
    result.notes += [kept.note] if kept.note else []
    result.log += kept.log
    if kept.prior is not None:
        return kept, kept.prior
    prior = make_prior(load_plugins().find("prior", spec.prior).load(), spec.label, spec.params).to(device)
    run = fit_run(spec, progress, lambda line: result.log.append(str(line)))
    started = clock(device)
    prior.fit(marginal, run)
    return Kept(None, clock(device) - started, run.taken), prior


def _compute(context: Context, spec: CellSpec, result: CellResult, progress: Progress, fits: Fits | None) -> None:
    device = context.diffusion.device
    marginal = context.marginal(spec.t_trunc)
    fit, prior = _fit(context, spec, result, progress, fits)
    fit_log = list(result.log)

    draw = _sampler(prior, context, spec)
    draw(min(spec.batch_size, spec.n_samples), generator_for(spec.seed, "warm up"))
    x_t, prior_seconds = timed(draw, generator_for(spec.seed, "sample"), spec.n_samples, spec.batch_size, device)
    # Kept only now that its samples have proved sound, else what fails once would fail again without a look at what was
    # mended; and not later, so that whatever ends the rest, the fit has not to be done again.
    if fits and fit.prior is None:
        if context.diffusion.digest() != context.backbone_digest:
            raise BadSample(_changed(spec))
        known = {"fit_seconds": fit.seconds, "fit_steps": fit.steps, "log": fit_log}
        if not fits.keep(spec, prior, marginal.shape, **known):
            result.log.append("loaded from its weights the prior draws other samples: its fit will not be reused")

    result.images["x_t"] = to_bytes(x_t[:PREVIEW]).numpy()
    evaluation = generator_for(spec.seed, "evaluate")
    x_t_test = context.held_out(spec.t_trunc).draw(spec.n_samples, evaluation)
    at_t = distances(x_t, x_t_test, evaluation, spec.w2_points)
    about = {
        "emits": prior.emits,
        "alpha_bar": marginal.alpha_bar,
        "fit_seconds": fit.seconds,
        "fit_steps": fit.steps,
        "prior_seconds": prior_seconds,
        "parameters": sum(p.numel() for p in prior.parameters()),
    }
    shared = about | {f"{name}_xt": value for name, value in at_t.items()} | _judge(prior, context, spec)

    # Settings are chosen by samples that the reported figures never see, against images that they are not reported on.
    *_, (chosen_on, n_choosing) = spec.splits
    choosing = None
    if len(spec.splits) > 1:
        draw, generator = (
            _sampler(prior, context, spec, f" {chosen_on}"),
            generator_for(spec.seed, f"sample {chosen_on}"),
        )
        choosing = _in_batches(draw, generator, n_choosing, spec.batch_size)

    for solver, steps in spec.solvers:
        x_0, seconds, nfe = _denoise(x_t, context, spec, solver, steps)
        images = to_bytes(x_0)
        kept = images if spec.save_samples else images[:PREVIEW]
        result.images[f"x_0 {solver} {nfe}"] = kept.numpy()
        row = partial(_row, context, spec, solver, steps, nfe=nfe)
        if not bool(x_0.isfinite().all()):
            error = f"solver {solver} in {nfe} evaluations made values that are not finite"
            result.rows += [row(split=s, n_samples=n, status="failed", error=error, **about) for s, n in spec.splits]
            continue
        features, test = features_of(images, context.extractor), context.features("test")
        train, among = context.features("train"), context.train_neighbours
        reference = to_float(context.dataset.test)
        at_0 = distances(to_float(images), reference, generator_for(spec.seed, "evaluate x_0"), spec.w2_points)
        result.rows.append(
            row(
                split="test", n_samples=spec.n_samples, **shared,
                **context.floor(spec.n_samples), **fidelity(features, test),
                **fid_at_infinity(features, test, generator_for(spec.seed, "halves")),
                authenticity=authenticity(features, train, among),
                neighbour_ratio=neighbour_ratio(features, train, test),
                **{f"{name}_x0": value for name, value in at_0.items()},
                amplification=at_0["sw2"] * marginal.alpha_bar**0.5 / max(at_t["sw2"], 1e-12),
                denoise_seconds=seconds, images_per_second=1 / (prior_seconds + seconds),
                **_plugged_metrics(
                    spec,
                    Measured(
                        images, context.dataset.test, context.dataset.train, features, test, train,
                        x_t.cpu(), x_t_test.cpu(), spec.t_trunc, generator_for(spec.seed, "metrics"),
                    ),
                ),
            )
        )  # fmt: skip
        if choosing is not None:
            generator = generator_for(spec.seed, f"denoise {chosen_on}")
            chunks = choosing.split(spec.batch_size)
            x_0 = torch.cat([context.diffusion.denoise(x, spec.t_trunc, solver, steps, generator) for x in chunks])
            score = fid(features_of(to_bytes(x_0), context.extractor), context.features(chosen_on))
            result.rows.append(row(split=chosen_on, n_samples=n_choosing, fid=score, denoise_seconds=seconds, **about))
    try:
        result.images |= {name: shown.numpy() for name, shown in preview(prior, x_t, context, spec).items()}
    except Exception as error:  # pictures alone: the figures stand without them
        result.notes.append(f"{spec.label} t_trunc {spec.t_trunc} has no picture of its way: {error}")


def fit_run(spec: CellSpec, progress: Progress, log: Callable[[str], None]) -> FitRun:
    """What a fit is given: its generator, and its budget from now on."""
    seconds, steps = read_budget(spec.fit_budget)
    deadline = None if seconds is None else time.monotonic() + seconds
    return FitRun(generator_for(spec.seed, "fit"), deadline, progress, log, steps)


def _plugged_metrics(spec: CellSpec, measured: Measured) -> dict[str, float]:
    """The columns of the metrics that plugins add."""
    found: dict[str, float] = {}
    for name in spec.metrics:
        for column, value in load_plugins().find("metric", name).load()(measured).items():
            if column in COLUMNS or column in found:
                raise ValueError(f"metric {name!r} returned the column {column!r}, which is there already")
            found[column] = float(value)
    return found


def _emit(prior: TruncPrior, context: Context, n: int, generator: torch.Generator) -> Tensor:
    """What the prior's ``sample`` returns, if that is n finite images."""
    x = prior.sample(n, generator)
    wanted = (n, *context.dataset.shape)
    if not isinstance(x, Tensor) or tuple(x.shape) != wanted:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise BadSample(f"sample({n}) must return a tensor of shape {wanted}, got {got}")
    if not bool(x.isfinite().all()):
        raise BadSample(f"sample({n}) returned values that are not finite")
    return x.to(context.diffusion.device, torch.float32)


def _sampler(prior: TruncPrior, context: Context, spec: CellSpec, stream: str = "") -> Draw:
    """Draws x_{t_trunc}: what the prior emits, diffused where that is a clean guess."""
    noise = generator_for(spec.seed, f"diffuse{stream}")

    def draw(n: int, generator: torch.Generator) -> Tensor:
        x = _emit(prior, context, n, generator)
        return context.diffusion.diffuse(x, spec.t_trunc, noise) if prior.emits == "x_0" else x

    return draw


def _in_batches(draw: Draw, generator: torch.Generator, count: int, batch_size: int) -> Tensor:
    """``count`` draws, where nobody looks at the clock."""
    return torch.cat([draw(len(chunk), generator) for chunk in torch.arange(count).split(batch_size)])


def _judge(prior: TruncPrior, context: Context, spec: CellSpec) -> dict[str, float]:
    """What gives a prior away before the frozen model has its say: see :mod:`priorbench.metrics.storage`."""
    count = min(JUDGED, 4 * spec.n_samples)
    emitted = _in_batches(partial(_emit, prior, context), generator_for(spec.seed, "judged"), count, spec.batch_size)
    clean = prior.emits == "x_0"
    x_t = context.diffusion.diffuse(emitted, spec.t_trunc, generator_for(spec.seed, "diffuse judged"))
    judge, noise = context.emitted(None if clean else spec.t_trunc, count), context.noise_level(spec.t_trunc, count)
    return judge.judge(emitted.cpu()) | noise.judge((x_t if clean else emitted).cpu())


def _denoise(
    x_t: Tensor, context: Context, spec: CellSpec, solver: str, steps: int | None
) -> tuple[Tensor, float, int]:
    """x_0, the chain's median seconds an image, and the network evaluations that it took."""
    diffusion = context.diffusion
    chunks = list(x_t.split(spec.batch_size))
    warm_up = generator_for(spec.seed, "warm up")
    diffusion.denoise(chunks[0], spec.t_trunc, solver, 1, warm_up)
    before, calls, used = diffusion.evaluations, 0, 0

    def denoise(n: int, generator: torch.Generator) -> Tensor:
        nonlocal calls, used
        x = chunks[calls % len(chunks)]
        calls += 1
        x_0 = diffusion.denoise(x, spec.t_trunc, solver, steps, generator)
        used = (diffusion.evaluations - before) // calls
        return x_0

    x_0, seconds = timed(
        denoise, generator_for(spec.seed, "denoise"), spec.n_samples, spec.batch_size, diffusion.device
    )
    return x_0, seconds, used


def retimed(
    spec: CellSpec, rows: list[dict[str, Any]], fits: Fits, note: Callable[[str], None]
) -> list[dict[str, Any]]:
    """``rows`` of ``spec`` with sampling and denoising timed again, here and now and with nothing beside it.

    The seconds of the fit stay as they were. So do all rows where the fit is not to be had any more.
    """
    context = context_of(spec)
    device = context.diffusion.device
    kept = fits.load(spec, context.dataset.shape, device)
    if kept.note:
        note(kept.note)
    prior = kept.prior
    if prior is None:
        return rows
    draw = _sampler(prior, context, spec)
    draw(min(spec.batch_size, spec.n_samples), generator_for(spec.seed, "warm up"))
    x_t, prior_seconds = timed(draw, generator_for(spec.seed, "sample"), spec.n_samples, spec.batch_size, device)
    found = []
    for one in spec.results:
        seconds = _denoise(x_t, context, spec, *one.solvers[0])[1]
        new = {"prior_seconds": prior_seconds, "denoise_seconds": seconds}
        new |= {"threads": torch.get_num_threads(), "concurrency": 1}
        for row in (row for row in rows if row["cell"] == one.cell):
            speed = {"images_per_second": 1 / (prior_seconds + seconds)} if "images_per_second" in row else {}
            found.append(row | new | speed)
    return found


def _row(context: Context, spec: CellSpec, solver: str, steps: int | None, **values: Any) -> dict[str, Any]:
    """A row of comparison.csv, all columns but those that need other rows."""
    versions = spec.versions
    return {
        "dataset": context.dataset.name,
        "dataset_sha256": spec.digests["dataset"][:8],
        "backbone": spec.backbone,
        "backbone_sha256": spec.digests["backbone"][:8],
        "prior": spec.prior,
        "params": spec.settings,
        "control": spec.control,
        "t_trunc": spec.t_trunc,
        "T": context.diffusion.T,
        "solver": solver,
        "steps": spec.t_trunc if steps is None else steps,
        "seed": spec.seed,
        "extractor": context.extractor.get_name(),
        "model_precision": spec.precision,
        "fit_budget": spec.fit_budget or "",
        "device": str(context.diffusion.device),
        "threads": torch.get_num_threads(),
        "concurrency": 1,
        "warning": context.warning(spec.n_samples),
        "status": "ok",
        "error": "",
        "priorbench_version": __version__,
        "torch_version": versions["torch"],
        "cell": replace(spec, solvers=((solver, steps),)).cell,
        **values,
    }

"""One cell: fit a prior, sample it once, denoise by every (solver, steps), measure. A pure function of its spec."""

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from safetensors.torch import save
from torch import Tensor

from .. import __version__
from ..data.dataset import to_bytes, to_float
from ..diffusion.process import generator_for
from ..metrics.fidelity import features_of, fid, fidelity
from ..metrics.measured import Measured
from ..metrics.memorisation import authenticity, neighbour_ratio
from ..metrics.spread import fid_at_infinity
from ..metrics.wasserstein import distances
from ..plugin_manager import load_plugins
from ..prior import FitRun, TruncPrior, make_prior
from .config import read_budget
from .context import JUDGED, Context, load_context
from .plan import CellSpec
from .table import COLUMNS

PREVIEW = 40  # images kept of x_{t_trunc}, and of x_0 unless samples are saved
TIMINGS = 3  # at least so many timed batches, of which the median counts

Progress = Callable[[int, int, float], None]
Draw = Callable[[int, torch.Generator], Tensor]


@dataclass
class CellResult:
    """What a cell yields: rows for the table, images for the grids, the fitted prior's weights, the log."""

    spec: CellSpec
    rows: list[dict[str, Any]]
    images: dict[str, np.ndarray] = field(default_factory=dict)
    weights: bytes = b""
    about: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(row["status"] == "ok" for row in self.rows)


class BadSample(Exception):
    """A prior returned something other than n finite images."""


def clock(device: torch.device) -> float:
    """Seconds, read once all that was queued on ``device`` is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


class PeakMemory:
    """The most memory in use while inside, in MB: allocated on a CUDA device, else resident in this process."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.device = device
        self.megabytes = 0.0

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._done.wait(0.05):
            self.megabytes = max(self.megabytes, process.memory_info().rss / 2**20)

    def __enter__(self) -> "PeakMemory":
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._done = threading.Event()
            self.megabytes = psutil.Process().memory_info().rss / 2**20
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.cuda:
            self.megabytes = torch.cuda.max_memory_allocated(self.device) / 2**20
        else:
            self._done.set()
            self._thread.join()


def run_cell(spec: CellSpec, progress: Progress | None = None) -> CellResult:
    """Compute a cell. Whatever a prior does wrong is in the rows, not raised."""
    context = load_context(spec.dataset, spec.backbone, spec.extractor, spec.device, spec.precision, spec.compile)
    result = CellResult(spec, [])
    try:
        with PeakMemory(context.diffusion.device) as memory:
            _compute(context, spec, result, progress or (lambda step, total, loss: None))
        for row in result.rows:
            row["peak_memory_mb"] = round(memory.megabytes, 1)
    except Exception as error:
        result.log.append(traceback.format_exc())
        _fail(context, result, f"{type(error).__name__}: {' '.join(str(error).split())}")
    if context.diffusion.digest() != context.backbone_digest:
        load_context.cache_clear()  # later cells get the model as it was
        _fail(context, result, f"prior {spec.label!r} changed the frozen model's weights")
    return result


def _fail(context: Context, result: CellResult, reason: str) -> None:
    """Every row says why, and none keeps a number."""
    spec = result.spec
    result.rows = [
        _row(context, spec, *setting, split=split, n_samples=n, status="failed", error=reason)
        for setting in spec.solvers
        for split, n in spec.splits
    ]


def _compute(context: Context, spec: CellSpec, result: CellResult, progress: Progress) -> None:
    device = context.diffusion.device
    marginal = context.marginal(spec.t_trunc)

    prior = make_prior(load_plugins().find("prior", spec.prior).load(), spec.label, spec.params).to(device)
    run = fit_run(spec, progress, result.log.append)
    started = clock(device)
    prior.fit(marginal, run)
    fit_seconds = clock(device) - started
    result.weights = save({k: v.contiguous().cpu() for k, v in prior.state_dict().items()})
    result.about = {"params": prior.params(), "emits": prior.emits, "shape": list(marginal.shape)}

    draw = _sampler(prior, context, spec)
    draw(min(spec.batch_size, spec.n_samples), generator_for(spec.seed, "warm up"))
    x_t, prior_seconds = _timed(draw, generator_for(spec.seed, "sample"), spec, device)
    result.images["x_t"] = to_bytes(x_t[:PREVIEW]).numpy()
    evaluation = generator_for(spec.seed, "evaluate")
    x_t_test = context.held_out(spec.t_trunc).draw(spec.n_samples, evaluation)
    at_t = distances(x_t, x_t_test, evaluation, spec.w2_points)
    about = {
        "emits": prior.emits,
        "alpha_bar": marginal.alpha_bar,
        "fit_seconds": fit_seconds,
        "fit_steps": run.taken,
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


def _timed(draw: Draw, generator: torch.Generator, spec: CellSpec, device: torch.device) -> tuple[Tensor, float]:
    """All batches of ``draw``, and the median seconds an image over the full ones, timed at least ``TIMINGS`` times."""
    batches, seconds = [], []
    sizes = [len(chunk) for chunk in torch.arange(spec.n_samples).split(spec.batch_size)]
    for size in sizes:
        started = clock(device)
        batches.append(draw(size, generator))
        if size == sizes[0]:
            seconds.append((clock(device) - started) / size)
    while len(seconds) < TIMINGS:
        started = clock(device)
        draw(sizes[0], generator)
        seconds.append((clock(device) - started) / sizes[0])
    return torch.cat(batches), median(seconds)


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

    x_0, seconds = _timed(denoise, generator_for(spec.seed, "denoise"), spec, diffusion.device)
    return x_0, seconds, used


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
        "cell": spec.cell,
        **values,
    }


def as_json(result: CellResult) -> dict[str, Any]:
    """The part of a result that is kept as JSON."""
    return {
        "cell": result.spec.cell,
        "spec": asdict(result.spec),
        "about": result.about,
        "rows": result.rows,
        "log": result.log,
    }

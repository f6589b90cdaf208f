"""The middle of a cell: samples of x_{t_trunc}, the chain from there to x_0, and what both are
worth as columns.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ..data.dataset import to_bytes, to_float
from ..diffusion.process import generator_for
from ..metrics.fid_infinity import fid_at_infinity
from ..metrics.fidelity import features_of, fid, fidelity
from ..metrics.measured import Measured
from ..metrics.memorisation import authenticity, neighbour_ratio
from ..metrics.wasserstein import distances
from ..plan.spec import CellSpec
from ..plugin_manager import load_plugins
from ..prior import TruncPrior
from ..tables.columns import COLUMNS
from ..task import JUDGED, Task
from ..version import __version__
from .timing import timed

TIMINGS = 3  # at least so many timed batches of a chain, of which the median counts

Guarded = Callable[[], AbstractContextManager[None]]


class BadSample(Exception):
    """A prior returned something other than n finite images."""


@dataclass(frozen=True)
class Drawn:
    """Samples of a prior.

    Attributes:
        emitted: what ``sample`` returned, (N, C, H, W).
        x_t: the same at t_trunc: diffused there by us where the prior emits x_0.
        seconds: an image; the whole draw counts, from its first call on.
        batches: the same of each full batch.
        nfe: evaluations of the frozen network by the prior itself, an image.
    """

    emitted: Tensor
    x_t: Tensor
    seconds: float
    batches: list[float]
    nfe: float


@dataclass(frozen=True)
class Chain:
    """x_0 of one solver setting, its median seconds an image, those of each batch, and the chain's
    evaluations.
    """

    x_0: Tensor
    seconds: float
    batches: list[float]
    nfe: int


def drawn(prior: TruncPrior, task: Task, spec: CellSpec, count: int, stream: str = "") -> Drawn:
    """``count`` samples of ``prior``, by random streams of their own.

    There is no call before the clock runs: a prior could work ahead in it. Only the frozen model is
    warmed up, by us, so that no prior is charged for its compilation.

    Raises:
        BadSample: if the prior returns anything but finite images of the data's shape.
    """
    diffusion, emitted = task.diffusion, list[Tensor]()
    noise = generator_for(spec.seed, f"diffuse{stream}")

    def draw(n: int, generator: torch.Generator) -> Tensor:
        x = _sound(prior.sample(n, generator), n, task)
        if prior.emits == "x_t":
            return x
        emitted.append(x)
        return diffusion.diffuse(x, spec.t_trunc, noise)

    if diffusion.compiled:
        batch = torch.zeros(min(spec.batch_size, count), *diffusion.shape, device=diffusion.device)
        diffusion.denoise(batch, spec.t_trunc, "ddim", 1)
    before = diffusion.evaluated_images
    x_t, timing = timed(
        draw, generator_for(spec.seed, f"sample{stream}"), count, spec.batch_size, diffusion.device
    )
    nfe = (diffusion.evaluated_images - before) / count
    return Drawn(
        torch.cat(emitted) if emitted else x_t, x_t, timing.total / count, timing.batches, nfe
    )


def _sound(x: Any, n: int, task: Task) -> Tensor:
    """A copy of what ``sample(n)`` returned (a prior may fill one tensor again and again), if it is
    n finite images.
    """
    wanted = (n, *task.dataset.shape)
    if not isinstance(x, Tensor) or tuple(x.shape) != wanted:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise BadSample(f"sample({n}) must return a tensor of shape {wanted}, got {got}")
    if not bool(x.isfinite().all()):
        raise BadSample(f"sample({n}) returned values that are not finite")
    return x.to(task.diffusion.device, torch.float32, copy=True)


def denoised(x_t: Tensor, task: Task, spec: CellSpec, solver: str, steps: int | None) -> Chain:
    """x_t through the chain, timed after a warm-up of one step."""
    diffusion, chunks, calls = task.diffusion, list(x_t.split(spec.batch_size)), 0

    def denoise(n: int, generator: torch.Generator) -> Tensor:
        nonlocal calls
        x = chunks[calls % len(chunks)]
        calls += 1
        return diffusion.denoise(x, spec.t_trunc, solver, steps, generator)

    diffusion.denoise(chunks[0], spec.t_trunc, solver, 1, generator_for(spec.seed, "warm up"))
    before = diffusion.evaluations
    x_0, timing = timed(
        denoise,
        generator_for(spec.seed, "denoise"),
        spec.n_samples,
        spec.batch_size,
        diffusion.device,
        TIMINGS,
    )
    return Chain(
        x_0, median(timing.batches), timing.batches, (diffusion.evaluations - before) // calls
    )


def facts(prior: TruncPrior, samples: Drawn, task: Task, spec: CellSpec) -> dict[str, Any]:
    """Columns that every row of a cell has: what the prior is, and what its samples cost."""
    return {
        "emits": prior.emits,
        "alpha_bar": task.marginal(spec.t_trunc).alpha_bar,
        "prior_seconds": samples.seconds,
        "nfe_prior": samples.nfe,
        "parameters": sum(p.numel() for p in prior.parameters()),
    }


class AtT:
    """What the samples of x_{t_trunc} are worth before the frozen model has its say.

    Attributes:
        x_t_test: as many fresh draws of the held-out marginal.
        columns: the distances between both, and what gives the prior away
            (:mod:`priorbench.metrics.leakage`).
    """

    def __init__(self, samples: Drawn, task: Task, spec: CellSpec, emits: str) -> None:
        generator = generator_for(spec.seed, "evaluate")
        self.x_t_test = task.held_out(spec.t_trunc).draw(spec.n_samples, generator)
        between = distances(samples.x_t, self.x_t_test, generator, spec.w2_points)
        # Judged is what is measured: some of these very samples, which no prior can tell from the
        # others.
        chosen = torch.randperm(spec.n_samples, generator=generator_for(spec.seed, "judged"))[
            :JUDGED
        ]
        emitted, x_t = (x[chosen.to(x.device)].cpu() for x in (samples.emitted, samples.x_t))
        self.columns = {f"{name}_xt": value for name, value in between.items()}
        self.columns |= task.emitted(None if emits == "x_0" else spec.t_trunc).judge(emitted)
        self.columns |= task.noise_level(spec.t_trunc).judge(x_t)


def test_columns(
    chain: Chain, samples: Drawn, at_t: AtT, task: Task, spec: CellSpec, guard: Guarded
) -> dict[str, Any]:
    """Columns of the reported row of one solver setting."""
    images, alpha_bar = to_bytes(chain.x_0), float(task.diffusion.process.alpha_bar[spec.t_trunc])
    features = features_of(images, task.extractor)
    train, test = task.features("train"), task.features("test")
    ratio, error = neighbour_ratio(features, train, test)
    held_out, held_out_error = task.held_out_ratio
    reference = to_float(task.dataset.test)
    at_0 = distances(
        to_float(images), reference, generator_for(spec.seed, "evaluate x_0"), spec.w2_points
    )
    measured = Measured(
        images, task.dataset.test, task.dataset.train, features, test, train,
        samples.x_t.cpu(), at_t.x_t_test.cpu(), spec.t_trunc, generator_for(spec.seed, "metrics"),
    )  # fmt: skip
    return {
        **at_t.columns,
        **task.floor(spec.n_samples),
        **fidelity(features, test),
        **fid_at_infinity(features, test, generator_for(spec.seed, "halves")),
        "authenticity": authenticity(features, train, task.train_neighbours),
        "neighbour_ratio": ratio,
        "neighbour_ratio_validation": held_out,
        "neighbour_ratio_se": math.hypot(error, held_out_error),
        **{f"{name}_x0": value for name, value in at_0.items()},
        "amplification": at_0["sw2"] * alpha_bar**0.5 / max(at_t.columns["sw2_xt"], 1e-12),
        "images_per_second": 1 / (samples.seconds + chain.seconds),
        "prior_batches": samples.batches,
        "denoise_batches": chain.batches,
        **_plugged_metrics(spec, measured, guard),
    }


def _plugged_metrics(spec: CellSpec, measured: Measured, guard: Guarded) -> dict[str, float]:
    """The columns of the metrics that plugins add."""
    found: dict[str, float] = {}
    for name in spec.metrics:
        with guard():
            columns = load_plugins().find("metric", name).load()(measured)
        for column, value in columns.items():
            if column in COLUMNS or column in found:
                raise ValueError(
                    f"metric {name!r} returned the column {column!r}, which is there already"
                )
            found[column] = float(value)
    return found


def choosing_fid(
    x_t: Tensor, task: Task, spec: CellSpec, solver: str, steps: int | None, split: str
) -> float:
    """FID of one solver setting on the split that settings are chosen on."""
    generator = generator_for(spec.seed, f"denoise {split}")
    chunks = x_t.split(spec.batch_size)
    x_0 = torch.cat(
        [task.diffusion.denoise(x, spec.t_trunc, solver, steps, generator) for x in chunks]
    )
    return fid(features_of(to_bytes(x_0), task.extractor), task.features(split))


def make_row(
    task: Task, spec: CellSpec, solver: str, steps: int | None, **values: Any
) -> dict[str, Any]:
    """A row of comparison.csv, all columns but those that need other rows."""
    return {
        "dataset": task.dataset.name,
        "dataset_sha256": spec.digests["dataset"][:8],
        "backbone": spec.backbone,
        "backbone_sha256": spec.digests["backbone"][:8],
        "prior": spec.prior,
        "params": spec.settings,
        "control": spec.control,
        "t_trunc": spec.t_trunc,
        "T": task.diffusion.T,
        "solver": solver,
        "steps": spec.t_trunc if steps is None else steps,
        "seed": spec.seed,
        "extractor": task.extractor.get_name(),
        "model_precision": spec.precision,
        "fit_budget": spec.fit_budget or "",
        "device": str(task.diffusion.device),
        "threads": torch.get_num_threads(),
        "concurrency": 1,
        "warning": task.warning(spec.n_samples),
        "failed_checks": "",
        "status": "ok",
        "error": "",
        "priorbench_version": __version__,
        "torch_version": spec.versions["torch"],
        "cell": replace(spec, solvers=((solver, steps),)).cell,
        **values,
    }

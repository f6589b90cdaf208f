"""What samples are worth: x_t and x_0 of a cell become the columns of its rows."""

import math
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..data.dataset import to_bytes, to_float
from ..diffusion.process import generator_for
from ..metrics.fid_infinity import fid_at_infinity
from ..metrics.fidelity import features_of, fidelity
from ..metrics.measured import Measured
from ..metrics.memorisation import authenticity, neighbour_ratio
from ..metrics.neighbours import nearest_among
from ..metrics.wasserstein import distances
from ..plan.spec import CellSpec
from ..plugin_manager import load_plugins
from ..prior import TruncPrior
from ..sampler import Streams, TruncatedSampler
from ..tables.columns import COLUMNS, Row
from ..task import JUDGED, Task
from ..version import __version__
from .sampling import Chain, Drawn
from .timing import hardware

Guarded = Callable[[], AbstractContextManager[None]]


def facts(prior: TruncPrior, samples: Drawn, task: Task, spec: CellSpec) -> Row:
    """The columns that all rows of a cell share: what the prior is, and what its samples cost."""
    return {
        "emits": prior.emits,
        "alpha_bar": task.marginal(spec.t_trunc).alpha_bar,
        "prior_seconds": samples.seconds,
        "parameters": sum(p.numel() for p in prior.parameters()),
    }


class AtT:
    """What samples of x_{t_trunc} are worth before the frozen model denoises them.

    Attributes:
        x_t_test: as many fresh draws of the held-out marginal.
        columns: the distances between samples and draws, and what gives the prior away
            (:mod:`priorbench.metrics.leakage`).
    """

    def __init__(self, samples: Drawn, task: Task, spec: CellSpec, emits: str) -> None:
        generator = generator_for(spec.seed, "evaluate")
        self.x_t_test = task.held_out(spec.t_trunc).draw(spec.n_samples, generator)
        between = distances(samples.x_t, self.x_t_test, generator, spec.w2_points)
        # The very samples that are measured are judged, and no prior can tell which of them.
        order = torch.randperm(spec.n_samples, generator=generator_for(spec.seed, "judged"))
        chosen = order[:JUDGED]
        emitted, x_t = (x[chosen.to(x.device)].cpu() for x in (samples.emitted, samples.x_t))
        self.columns = {f"{name}_xt": value for name, value in between.items()}
        self.columns |= task.emitted(None if emits == "x_0" else spec.t_trunc).judge(emitted)
        self.columns |= task.noise_level(spec.t_trunc).judge(x_t)


def test_columns(
    chain: Chain, samples: Drawn, at_t: AtT, task: Task, spec: CellSpec, guard: Guarded
) -> Row:
    """The columns that only the reported row of a solver setting has."""
    images = to_bytes(chain.x_0)
    features = features_of(images, task.extractor)
    train, test = task.features("train"), task.features("test")
    measured = Measured(
        images, task.dataset.test, task.dataset.train, features, test, train, samples.x_t.cpu(),
        at_t.x_t_test.cpu(), spec.t_trunc, generator_for(spec.seed, "metrics"),
    )  # fmt: skip
    return {
        **at_t.columns,
        **task.floor(spec.n_samples),
        **fidelity(features, task.reference("test")),
        **fid_at_infinity(features, test, generator_for(spec.seed, "halves")),
        **_neighbours(features, task),
        **_at_0(images, at_t, task, spec),
        "images_per_second": 1 / (samples.seconds + chain.seconds),
        "prior_batches": samples.batches,
        "denoise_batches": chain.batches,
        **_plugged_metrics(spec, measured, guard),
    }


def _neighbours(features: Tensor, task: Task) -> Row:
    train, test = task.features("train"), task.features("test")
    nearest = nearest_among(features, train)
    ratio, error = neighbour_ratio(features, train, test, nearest)
    held_out, held_out_error = task.held_out_ratio
    return {
        "authenticity": authenticity(features, train, task.train_neighbours, nearest),
        "neighbour_ratio": ratio,
        "neighbour_ratio_validation": held_out,
        "neighbour_ratio_se": math.hypot(error, held_out_error),
    }


def _at_0(images: Tensor, at_t: AtT, task: Task, spec: CellSpec) -> Row:
    """Distances between x_0 and the test images, and how the chain changed them."""
    generator = generator_for(spec.seed, "evaluate x_0")
    found = distances(to_float(images), task.test_cloud, generator, spec.w2_points)
    alpha_bar = float(task.diffusion.process.alpha_bar[spec.t_trunc])
    amplification = found["sw2"] * alpha_bar**0.5 / max(at_t.columns["sw2_xt"], 1e-12)
    columns: Row = {f"{name}_x0": value for name, value in found.items()}
    return columns | {"amplification": amplification}


def _plugged_metrics(spec: CellSpec, measured: Measured, guard: Guarded) -> Row:
    """The columns of metrics that plugins add."""
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
    x_t: Tensor, task: Task, spec: CellSpec, sampler: TruncatedSampler, split: str
) -> float:
    """FID of the chain of ``sampler`` on the split that settings are chosen on."""
    generator = Streams.of(spec.seed, split).denoise
    x_0 = torch.cat([sampler.denoise(x, generator) for x in x_t.split(spec.batch_size)])
    return task.reference(split).fid(features_of(to_bytes(x_0), task.extractor))


def machine(task: Task) -> Row:
    """The columns that say where a row was computed."""
    device = task.diffusion.device
    return {
        "device": str(device),
        "hardware": hardware(device),
        "node": platform.node(),
        "threads": torch.get_num_threads(),
    }


def make_row(task: Task, spec: CellSpec, solver: str, steps: int | None, **values: Any) -> Row:
    """A row of comparison.csv, without the columns that need other rows."""
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
        "features": task.features("test").shape[1],
        "n_reference": len(task.dataset.test),
        "model_precision": spec.precision,
        "fit_budget": spec.fit_budget or "",
        **machine(task),
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

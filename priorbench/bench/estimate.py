"""How long a run should take here, and how much disk, estimated before it begins."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..diffusion.frozen import FrozenDiffusion
from ..diffusion.process import generator_for
from ..isolation import isolated
from ..metrics.fid_infinity import fid_at_infinity
from ..metrics.fidelity import FLOOR_DRAWS, features_of, fidelity
from ..metrics.neighbours import nearest_among
from ..metrics.reference import Reference
from ..metrics.wasserstein import distances
from ..plan.budget import read_budget
from ..plan.layout import Plan
from ..plan.spec import CellSpec
from ..plugin_manager import load_plugins
from ..prior import FitRun, make_prior
from ..task import JUDGED, Task
from .cell import PREVIEW, task_of
from .preview import SHOWN

TASTED = 1.0  # seconds of a phase of a fit that are looked at, after its first step
SETTING = 1.0  # seconds of a solver setting that nothing here measures
POINTS = 256  # what is searched for neighbours, to see how long that takes
STAGES = 8  # pictures of samples on their way, about


class Estimate(NamedTuple):
    """What a run should take: seconds, and bytes on disk."""

    seconds: float
    disk: float


class _Enough(Exception):
    """Ends a fit that was only begun to see how fast it goes."""


class _Taste(FitRun):
    """A fit that soon ends: of each phase the first steps are timed, and the rest is added up.

    Attributes:
        rest: the seconds that were not waited for.
        learned: whether the prior takes steps, which a budget limits.
    """

    def __init__(self, budget: int | None, own_share: float) -> None:
        super().__init__(
            generator_for(0, "estimate"), budget=budget, own_share=own_share, progress=self._heard
        )
        self.rest, self.learned = 0.0, False
        self._stepping = self._asks = False
        self._first: tuple[float, int] | None = None
        self._last = (0, 0)

    def steps(
        self, own: int, finish: Callable[[], None] | None = None, reserve: float = 0.0
    ) -> Iterator[int]:
        """As usual; the first phase of steps is the last that is looked at."""
        self._first, self._stepping, self.learned = None, True, True
        yield from super().steps(own, finish, reserve)

    def out_of_time(self) -> bool:
        """Whether enough was seen of a phase that asks, as one without :meth:`steps` does."""
        self._asks = True
        if self._stepping or self._first is None or not self._tasted():
            return False
        self._add_rest()
        self._first = None
        return True

    def _heard(self, step: int, total: int, loss: float) -> None:
        if self._first is None or total != self._last[1]:
            self._first, self._asks = (time.monotonic(), step), False
        self._last = step, total
        if self._tasted() and (self._stepping or not self._asks):
            self._add_rest()
            raise _Enough

    def _tasted(self) -> bool:
        assert self._first is not None
        return self._last[0] > self._first[1] and time.monotonic() - self._first[0] > TASTED

    def _add_rest(self) -> None:
        assert self._first is not None
        (started, first), (step, total) = self._first, self._last
        self.rest += (time.monotonic() - started) / (step - first) * (total - step)


class _Tasted(NamedTuple):
    """What a taste of a fit says: its seconds without a limit, whether a limit of seconds makes a
    difference, whether t_trunc does, and the bytes of the weights.
    """

    seconds: float
    learned: bool
    shared: bool
    size: int


def estimate(plan: Plan, specs: Iterable[CellSpec]) -> Estimate:
    """What ``specs`` should take here.

    One batch is denoised, one fit of each kind is begun, and random features are measured. A prior
    that reports no progress is fitted to the end.
    """
    specs = list(specs)
    if not specs:
        return Estimate(0.0, 0.0)
    task = task_of(specs[0])
    per_evaluation = seconds_per_evaluation(task.diffusion, plan.config.batch_size)
    measuring = _Measuring(task, specs[0])
    fits: dict[tuple[str, int | None, float | None], _Tasted] = {}
    total, disk = measuring.once(len({spec.t_trunc for spec in specs})), 0.0
    made: set[tuple[object, ...]] = set()
    for spec in specs:
        seconds, steps, share = read_budget(spec.fit_budget)
        kind = (spec.label, steps, share)
        if kind not in fits:
            fits[kind] = _taste_of(task, spec, steps, share)
        fit = fits[kind]
        own = None if fit.shared else spec.t_trunc
        if (spec.label, spec.fit_budget, spec.seed, own) not in made:
            made.add((spec.label, spec.fit_budget, spec.seed, own))
            total += seconds if seconds and fit.learned else fit.seconds
            disk += fit.size
        images = sum(n for _, n in spec.splits) + spec.batch_size
        evaluations = sum(spec.t_trunc if k is None else k for _, k in spec.solvers)
        total += images * evaluations * per_evaluation + measuring.cell(spec)
        disk += _pictures(task, spec)
    return Estimate(total, disk)


def _taste_of(task: Task, spec: CellSpec, steps: int | None, share: float | None) -> _Tasted:
    prior = make_prior(load_plugins().find("prior", spec.prior).load(), spec.label, spec.params)
    taste, marginal = _Taste(steps, share or 1.0), task.marginal(spec.t_trunc)
    started = time.monotonic()
    # The end of the taste, or a prior that fails, which its cell will report.
    with suppress(Exception), isolated():
        prior.fit(marginal, taste)
    size = sum(x.nbytes for x in prior.state_dict().values())
    shared = prior.emits == "x_0" and not marginal.used_t_trunc
    return _Tasted(time.monotonic() - started + taste.rest, taste.learned, shared, size)


def seconds_per_evaluation(diffusion: FrozenDiffusion, batch: int) -> float:
    """Seconds that the frozen model takes for an image of a batch."""
    x = torch.zeros(batch, *diffusion.shape, device=diffusion.device)
    generator = torch.Generator().manual_seed(0)
    diffusion.denoise(x, diffusion.T, "ddim", 1, generator)
    started = time.perf_counter()
    diffusion.denoise(x, diffusion.T, "ddim", 3, generator)
    return (time.perf_counter() - started) / (3 * batch)


def _pictures(task: Task, spec: CellSpec) -> float:
    """Bytes of the pictures that are kept of a cell."""
    image = task.dataset.test[0].numel()
    kept = spec.n_samples if spec.save_samples else PREVIEW
    return float(image * (PREVIEW + kept + STAGES * SHOWN) * len(spec.solvers))


@dataclass(frozen=True)
class _Rates:
    """Seconds: of the features of an image; and of a search, for each point and each candidate."""

    features: float
    among_features: float
    among_images: float


class _Measuring:
    """How long it takes to measure samples, found out on random features."""

    def __init__(self, task: Task, spec: CellSpec) -> None:
        data, n = task.dataset, spec.n_samples
        self.images = {s: len(getattr(data, s)) for s in ("train", "validation", "test")}
        some = data.test[:POINTS]
        features = features_of(some[:1], task.extractor).shape[1]
        self.rates = _Rates(
            features=_seconds(lambda: features_of(some, task.extractor)) / len(some),
            among_features=self._search(features),
            among_images=self._search(some[0].numel()),
        )
        generator = torch.Generator().manual_seed(0)
        made, real = (torch.randn(k, features, generator=generator) for k in (n, len(data.test)))
        reference = Reference(real)
        self.reference = _seconds(lambda: fidelity(made[: features + 2], reference))
        self.fid = _seconds(lambda: reference.fid(made))
        self.row = _seconds(lambda: fidelity(made, reference))
        self.row += _seconds(lambda: fid_at_infinity(made, real, generator))
        x, y = (torch.randn(k, *data.shape, generator=generator) for k in (n, n))
        self.row += _seconds(lambda: distances(x, y, generator, spec.w2_points))

    def _search(self, width: int) -> float:
        few, many = torch.zeros(POINTS, width), torch.zeros(16 * POINTS, width)
        return _seconds(lambda: nearest_among(few, many)) / (len(few) * len(many))

    def once(self, times: int) -> float:
        """Seconds of what a process measures of the data, for so many values of t_trunc."""
        train, every, rates = self.images["train"], sum(self.images.values()), self.rates
        searched = train * train + every * self.images["test"]
        looked_up = 3 * min(JUDGED, self.images["test"]) * every * (times + 1)
        found = every * rates.features + searched * rates.among_features
        return found + looked_up * rates.among_images + FLOOR_DRAWS * self.fid + self.reference

    def cell(self, spec: CellSpec) -> float:
        """Seconds of measuring the samples of ``spec``."""
        rates, real = self.rates, self.images["train"] + self.images["test"]
        judged = min(JUDGED, spec.n_samples) * sum(self.images.values()) * rates.among_images
        test = self.row + spec.n_samples * (rates.features + real * rates.among_features)
        others = sum(n * rates.features + self.fid for _, n in spec.splits[1:])
        return judged + self.row + len(spec.solvers) * (SETTING + test + others)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started

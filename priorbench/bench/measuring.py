"""How long measuring takes, tried on random features and images."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..metrics.fid_infinity import fid_at_infinity
from ..metrics.fidelity import FLOOR_DRAWS, features_of, fidelity
from ..metrics.neighbours import nearest_among
from ..metrics.reference import Reference
from ..metrics.wasserstein import Cloud, distances
from ..plan.spec import CellSpec
from ..task import JUDGED, Task

SETTING = 1.0  # seconds of a solver setting that nothing here measures
POINTS = 256  # what is searched for neighbours, to see how long that takes


@dataclass(frozen=True)
class _Rates:
    """Seconds: of the features of an image; and of a search, for each point and each candidate."""

    features: float
    among_features: float
    among_images: float


class Measuring:
    """How long it takes to measure samples, found out on random features and images.

    Attributes:
        kept: seconds of what is kept of the test images, for all cells.
        fid, row, at_t: seconds of an FID, of a row, of a cell's x_{t_trunc}.
    """

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

        def random(count: int, *shape: int) -> torch.Tensor:
            return torch.randn(count, *shape, generator=generator)

        made, real = random(n, features), random(len(data.test), features)
        reference = Reference(real)
        self.kept = _seconds(lambda: fidelity(made[: features + 2], reference))
        self.fid = _seconds(lambda: reference.fid(made))
        self.row = _seconds(lambda: fidelity(made, reference))
        self.row += _seconds(lambda: fid_at_infinity(made, real, generator))
        x, y = random(n, *data.shape), random(n, *data.shape)
        test = Cloud(random(len(data.test), *data.shape))
        self.kept += _seconds(lambda: test.factor)
        self.at_t = _seconds(lambda: distances(x, y, generator, spec.w2_points))
        self.row += _seconds(lambda: distances(x, test, generator, spec.w2_points))

    def _search(self, width: int) -> float:
        few, many = torch.zeros(POINTS, width), torch.zeros(16 * POINTS, width)
        return _seconds(lambda: nearest_among(few, many)) / (len(few) * len(many))

    def once(self, times: int) -> float:
        """Seconds of what a process measures of the data, for so many values of t_trunc."""
        train, every, rates = self.images["train"], sum(self.images.values()), self.rates
        searched = train * train + every * self.images["test"]
        looked_up = 3 * min(JUDGED, self.images["test"]) * every * (times + 1)
        found = every * rates.features + searched * rates.among_features
        found += looked_up * rates.among_images + FLOOR_DRAWS * self.fid
        return found + self.kept

    def cell(self, spec: CellSpec) -> float:
        """Seconds of measuring the samples of ``spec``."""
        rates, real = self.rates, self.images["train"] + self.images["test"]
        judged = min(JUDGED, spec.n_samples) * sum(self.images.values()) * rates.among_images
        test = self.row + spec.n_samples * (rates.features + real * rates.among_features)
        others = sum(n * rates.features + self.fid for _, n in spec.splits[1:])
        return judged + self.at_t + len(spec.solvers) * (SETTING + test + others)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started

"""Times measured again while nothing else runs, for cells that were computed side by side."""

from collections.abc import Callable

from ..isolation import standard
from ..plan.spec import CellSpec
from ..store.fits import Fits
from ..tables.columns import Row
from ..task import Task
from .cell import samplers_of, task_of
from .guard import Guard
from .measure import machine
from .sampling import Chain, Drawn, denoised, drawn


def retimed(spec: CellSpec, rows: list[Row], fits: Fits, note: Callable[[str], None]) -> list[Row]:
    """``rows`` of ``spec``, with sampling and denoising timed again while nothing else runs.

    The seconds of the fit stay as they were. All rows do where the fit is no longer there.
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
            samplers = samplers_of(kept.prior, task, spec)
        chains = {
            one.cell: denoised(samples.x_t, samplers[one.solvers[0]], spec) for one in spec.results
        }
    return [
        row | _timing(row, task, samples, chains[row["cell"]])
        for row in rows
        if row["cell"] in chains
    ]


def _timing(row: Row, task: Task, samples: Drawn, chain: Chain) -> Row:
    found: Row = {"prior_seconds": samples.seconds, "denoise_seconds": chain.seconds}
    found |= machine(task) | {"concurrency": 1}
    if "images_per_second" in row:  # a reported row, not one that settings are chosen by
        found["images_per_second"] = 1 / (samples.seconds + chain.seconds)
        found |= {"prior_batches": samples.batches, "denoise_batches": chain.batches}
    return found

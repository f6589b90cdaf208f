"""Seconds and memory, as the table reports them."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import psutil
import torch
from torch import Tensor

from ..data.dataset import batch_sizes
from ..store.provenance import processor

Draw = Callable[[int, torch.Generator], Tensor]


def clock(device: torch.device) -> float:
    """Seconds, read once everything that was queued on ``device`` is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def hardware(device: torch.device) -> str:
    """What computes on ``device``: the name of the GPU, else that of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


class PeakMemory:
    """The most memory in use while inside.

    Attributes:
        megabytes: allocated on a CUDA device, else resident in this process.
    """

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.cuda:
            self.megabytes = torch.cuda.max_memory_allocated(self.device) / 2**20
        else:
            self._done.set()
            self._thread.join()


@dataclass(frozen=True)
class Timing:
    """How long it took to draw.

    Attributes:
        total: seconds of all draws that count, from the first call on.
        batches: seconds per image of each batch of full size.
    """

    total: float
    batches: list[float]


def timed(
    draw: Draw,
    generator: torch.Generator,
    count: int,
    batch_size: int,
    device: torch.device,
    least: int = 1,
) -> tuple[Tensor, Timing]:
    """``count`` draws in batches, and how long they took.

    Arguments:
        draw: called with the size of a batch and ``generator``.
        least: if fewer full batches are timed, further ones are drawn, timed and dropped.
    """
    drawn, seconds = [], []
    sizes = batch_sizes(count, batch_size)
    for size in sizes:
        started = clock(device)
        drawn.append(draw(size, generator))
        seconds.append(clock(device) - started)
    batches = [s / size for s, size in zip(seconds, sizes, strict=True) if size == sizes[0]]
    while len(batches) < least:
        started = clock(device)
        draw(sizes[0], generator)
        batches.append((clock(device) - started) / sizes[0])
    return torch.cat(drawn), Timing(sum(seconds), batches)

"""Seconds and memory, as the table reports them."""

import threading
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import psutil
import torch
from torch import Tensor

TIMINGS = 3  # at least so many timed batches, of which the median counts

Draw = Callable[[int, torch.Generator], Tensor]


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


def timed(
    draw: Draw, generator: torch.Generator, count: int, batch_size: int, device: torch.device
) -> tuple[Tensor, float]:
    """``count`` draws by batches, and the median seconds an image over the full ones, at least ``TIMINGS`` of them."""
    batches, seconds = [], []
    sizes = [len(chunk) for chunk in torch.arange(count).split(batch_size)]
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

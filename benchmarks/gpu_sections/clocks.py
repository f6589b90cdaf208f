"""Seconds: by a clock that waits for the device, by CUDA events, and by the profiler."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from priorbench.bench.timing import clock


def seconds(program: Callable[[], Any], device: torch.device, repeats: int, warm: int = 1) -> float:
    """The median time of ``program``, after ``warm`` calls to warm up."""
    for _ in range(warm):
        program()
    taken = []
    for _ in range(repeats):
        started = clock(device)
        program()
        taken.append(clock(device) - started)
    return median(taken)


class Span:
    """The seconds between ``begin`` and ``end`` as the device itself measures them.

    They are those of CUDA events on the current stream; on a CPU those of a clock.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.cuda = device, device.type == "cuda"
        if self.cuda:
            self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        self._times = [0.0, 0.0]

    def begin(self) -> None:
        """Mark the beginning, once all that is queued before it is done."""
        self._mark(0)

    def end(self) -> None:
        """Mark the end, once all that is queued before it is done."""
        self._mark(1)

    def _mark(self, which: int) -> None:
        if self.cuda:
            self._events[which].record()
        self._times[which] = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Between the marks; it waits for the second."""
        if not self.cuda:
            return self._times[1] - self._times[0]
        self._events[1].synchronize()
        return self._events[0].elapsed_time(self._events[1]) / 1000


def busy(profile: torch.profiler.profile) -> float:
    """The seconds for which a GPU ran kernels or copies: the union of their intervals.

    Without a GPU it is that of the operators on the CPU.
    """
    events: Any = [e for e in profile.events() or [] if not getattr(e, "is_user_annotation", False)]
    wanted = torch.autograd.DeviceType.CUDA if torch.cuda.is_available() else None
    ranges = sorted(
        (e.time_range.start, e.time_range.end)
        for e in events
        if wanted is None or e.device_type == wanted
    )
    total, reached = 0.0, float("-inf")
    for start, end in ranges:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1e6


def profiler(device: torch.device) -> torch.profiler.profile:
    """A profiler of what runs on ``device``."""
    kind = torch.profiler.ProfilerActivity
    # The kernels alone: recording every operator of the CPU would slow down their launches.
    return torch.profiler.profile(activities=[kind.CUDA if device.type == "cuda" else kind.CPU])

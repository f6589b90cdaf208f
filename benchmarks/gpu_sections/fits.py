"""Fast, the fits: steps a second of each prior, and how long the GPU is idle meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from helpers.models import QUICK

from priorbench import FitRun, FrozenDiffusion, TruncatedMarginal
from priorbench.bench.timing import clock
from priorbench.data.dataset import to_float
from priorbench.data.loading import load_dataset
from priorbench.plugin_manager import load_plugins

from .clocks import busy, profiler
from .section import Figures, Section, require
from .sizes import Size

T_TRUNC = 400


def run(section: Section) -> None:
    """Every built-in prior that takes steps, with its default settings."""
    for name, registered in sorted(load_plugins().of_kind("prior").items()):
        if not registered.control and registered.load().takes_budget:
            section.check(f"fit of {name}", fit, section, name, needs=8.0)


@dataclass
class Watch:
    """Called before each step of a fit: times some steps, and profiles those after them.

    Attributes:
        seconds: of the timed steps.
        busy: seconds for which the device worked in the profiled ones.
    """

    device: torch.device
    size: Size
    seconds: float = 0.0
    busy: float = 0.0
    began: float = 0.0
    profile: torch.profiler.profile = field(init=False)

    def __post_init__(self) -> None:
        self.profile = profiler(self.device)

    def __call__(self, run: FitRun, finish: Callable[[], None] | None) -> bool:
        """Whether it looked at the prior: it never does."""
        size = self.size
        if run.taken == size.first_steps:
            self.began = clock(self.device)
        elif run.taken == size.first_steps + size.timed_steps:
            self.seconds = clock(self.device) - self.began
            self.profile.start()
        elif run.taken == size.first_steps + size.timed_steps + size.profiled_steps:
            clock(self.device)
            self.profile.stop()
            self.busy = busy(self.profile)
        return False


def fit(section: Section, name: str) -> Figures:
    """Steps a second; the share of it that the device is busy, by a few profiled steps."""
    size = section.size
    data = load_dataset(size.data, {})
    diffusion = FrozenDiffusion.from_pretrained(size.data, device=section.device.type)
    images, validation = to_float(data.train), to_float(data.validation)
    marginal = TruncatedMarginal(images, diffusion, T_TRUNC, validation)
    # A CPU has no time for all the particles of the defaults.
    prior = load_plugins().find("prior", name).load()(**QUICK[name] if size.quick else {})
    watch, began = Watch(section.device, size), clock(section.device)
    # One more step than are watched, since the watch is called before each.
    steps = size.first_steps + size.timed_steps + size.profiled_steps + 1
    run = FitRun(torch.Generator().manual_seed(0), budget=steps, watch=watch)
    prior.to(section.device).fit(marginal, run)
    rate = size.timed_steps / watch.seconds
    figures = {
        "steps_per_second": rate,
        # The profiler slows the launches down, so its kernels are set beside unprofiled steps.
        "device_idle": max(0.0, 1 - watch.busy / size.profiled_steps * rate),
        "fit_seconds": clock(section.device) - began,
    }
    require(watch.busy > 0, "the profiler saw no kernel", figures)
    return figures

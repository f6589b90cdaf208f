"""Timed right: the seconds of our clock are those of the device."""

from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor

from priorbench import FitRun
from priorbench.bench.timing import clock, timed
from priorbench.plugin_manager import load_plugins
from priorbench.prior import make_prior
from priorbench.subject import example_marginal

from . import worlds
from .cells import plant, row_of, run_cell, specs
from .chains import Setting, frozen
from .clocks import Span, seconds
from .section import Figures, Section, require

CLOSE = 0.02  # by how much clock and events may differ


def run(section: Section) -> None:
    """The chain, a prior, and a prior that returns before its work is done."""
    section.check("clock of the chain", chain, section)
    section.check("clock of a prior", prior, section)
    plant()
    section.check("a prior that returns at once", hasty, section)


def chain(section: Section) -> Figures:
    """A chain of ten steps, timed as a cell times it."""
    network = worlds.tiny_unet() if section.size.quick else worlds.cifar_unet()
    diffusion, batch = frozen(network, Setting("float32"), section.device), section.size.batches[0]
    x = torch.zeros(batch, *worlds.SHAPE, device=section.device)
    diffusion.denoise(x, diffusion.T, "ddim", 10)  # kernels are chosen at the first call
    return _compared(section, lambda: diffusion.denoise(x, diffusion.T, "ddim", 10), batch)


def prior(section: Section) -> Figures:
    """A Gaussian prior that draws many samples."""
    marginal = example_marginal(section.device.type)
    cls = load_plugins().find("prior", "gaussian").load()
    fitted = make_prior(cls, "gaussian", {})
    fitted.fit(marginal, FitRun(torch.Generator().manual_seed(0)))
    count, times = (20_000, 2) if section.size.quick else (1_000_000, 20)
    generator = torch.Generator(section.device).manual_seed(0)

    def program() -> Tensor:
        """Several draws, so that a GPU takes tens of milliseconds."""
        return [fitted.sample(count, generator)[:1] for _ in range(times)][-1]

    program()
    return _compared(section, program, count)


def _compared(section: Section, program: Callable[[], Tensor], count: int) -> Figures:
    """Five calls of ``program`` in our clock, and between the events of the device."""
    spans = list[Span]()

    def draw(n: int, generator: torch.Generator) -> Tensor:
        span = Span(section.device)
        span.begin()
        found = program()[:1].clone()  # they need not all be kept
        span.end()
        spans.append(span)
        return found

    generator = torch.Generator().manual_seed(0)
    _, timing = timed(draw, generator, 5 * count, count, section.device)
    by_clock = [count * batch for batch in timing.batches]
    by_events = [span.seconds for span in spans]
    ratios = [clock / events for clock, events in zip(by_clock, by_events, strict=True)]
    figures = {
        "by_clock_ms": 1000 * median(by_clock),
        "by_events_ms": 1000 * median(by_events),
        "differ_by": abs(median(ratios) - 1),
    }
    require(figures["differ_by"] <= CLOSE, "clock and events differ", figures)
    return figures


def hasty(section: Section) -> Figures:
    """The row of a prior that launches work on a stream of its own charges it for that work."""
    size, products = (256, 40) if section.size.quick else (8192, 20)
    n, text = 40, f"hasty[size={size},products={products}]"
    (spec,) = specs([text], section.device, n).values()
    cls = load_plugins().find("prior", "hasty").load()
    alone = make_prior(cls, "hasty", {"size": size, "products": products})
    alone.build(worlds.SHAPE)
    alone.to(section.device)
    work = seconds(alone.work, section.device, 5)
    started = clock(section.device)
    alone.work()
    launched = seconds_since(started)
    row = row_of(run_cell(replace(spec, w2_points=20)))
    charged = row["prior_seconds"] * n
    # Other work on the machine may have begun or ended meanwhile.
    work = min(work, seconds(alone.work, section.device, 5))
    figures = {
        "launched_in_ms": 1000 * launched,
        "work_ms": 1000 * work,
        "charged_ms": 1000 * charged,
    }
    # In small the work takes 20 ms, which other work on the machine may shorten or stretch.
    share = 0.5 if section.size.quick else 0.9
    require(charged >= share * work, "it was not charged for its work", figures)
    return figures


def seconds_since(started: float) -> float:
    """The seconds since ``started`` by a clock that does not wait for the device."""
    return clock(torch.device("cpu")) - started

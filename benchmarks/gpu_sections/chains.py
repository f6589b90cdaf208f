"""Fast, the chain: images a second of each setting, beside a bare loop of ``diffusers``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from shutil import which

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn

from priorbench import FrozenDiffusion

from . import worlds
from .clocks import seconds
from .section import Figures, NotRun, Section, require

STEPS, T_TRUNC = 5, 400  # of DDIM
LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
COMPILES = {"tiny": 15.0, "small": 20.0, "cifar": 30.0}  # seconds, roughly
SHOWN = 64  # images that are compared with float32's: the least batch on a GPU


@dataclass(frozen=True)
class Setting:
    """How a network is run.

    Attributes:
        arithmetic: ``float32``, ``tf32`` or ``bfloat16`` (mixed precision).
        layout: ``channels first`` or ``channels last`` in memory; empty for the library's choice.
        mode: of torch.compile; empty for none. ``reduce-overhead`` is CUDA graphs.
    """

    arithmetic: str
    layout: str = ""
    mode: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.arithmetic, self.layout, self.mode)))


Rates = dict[tuple[str, str, int], float]
FLOAT32, TF32, BFLOAT16 = (Setting(name) for name in ("float32", "tf32", "bfloat16"))


@dataclass
class Points:
    """The points of one measurement.

    Attributes:
        rates: images a second, by network, setting and batch.
        known: the samples of each network in float32.
    """

    section: Section
    rates: Rates = field(default_factory=dict)
    known: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.batches = self.section.size.batches
        self.middle = self.batches[len(self.batches) // 2]
        self.networks = ("tiny",) if self.section.size.quick else ("cifar", "small")

    def plain(self) -> None:
        """Every point that compiles nothing."""
        for network in self.networks:
            self.ours(network, FLOAT32, self.middle)
            self.bare(network, "float32", self.middle)
            self.bare(network, "bfloat16", self.middle)
            for batch in self.batches:
                self.ours(network, TF32, batch)
                self.bare(network, "tf32", batch)
                self.ours(network, BFLOAT16, batch)
        other = "channels last" if self.section.cuda else "channels first"
        for kind in ("tf32", "bfloat16"):
            self.ours(self.networks[0], Setting(kind, other), self.middle)
        self.section.check("no slower than bare diffusers", beside, self.section, self.rates)

    def compiled(self) -> None:
        """Those that compile: each takes half a minute, so the most telling come first."""
        graphs = Setting("bfloat16", mode="reduce-overhead")
        self.ours(self.networks[0], graphs, self.middle)
        if not self.section.size.quick:
            self.ours("small", graphs, self.batches[0])
            self.ours("cifar", Setting("bfloat16", mode="default"), self.middle)
        self.section.check("fastest", fastest, self.rates)

    def ours(self, network: str, setting: Setting, batch: int) -> None:
        """A point of the library's chain."""
        needs = COMPILES[network] if setting.mode else 2.0
        found = self.section.check(
            f"{network} {setting} x{batch}", ours, self.section, network, setting, batch,
            self.known, needs=needs,
        )  # fmt: skip
        self.rates[network, str(setting), batch] = found.get("images_per_second", 0.0)

    def bare(self, network: str, kind: str, batch: int) -> None:
        """A point of the bare loop."""
        found = self.section.check(
            f"{network} bare diffusers {kind} x{batch}", bare, self.section, network, kind, batch,
            needs=2.0,
        )  # fmt: skip
        self.rates[network, f"bare {kind}", batch] = found.get("images_per_second", 0.0)


def network_of(name: str) -> nn.Module:
    """A fresh network, with the same random weights each time."""
    made: Callable[[], nn.Module] = getattr(worlds, f"{name}_unet")
    return made()


def frozen(network: nn.Module, setting: Setting, device: torch.device) -> FrozenDiffusion:
    """``network`` as the library runs it under ``setting``, its arithmetic aside."""
    precision = "bf16" if setting.arithmetic == "bfloat16" else "fp32"
    found = FrozenDiffusion(network, DDPMScheduler(), device, precision, setting.mode or False)
    if setting.layout:
        found.network.to(memory_format=LAYOUTS[setting.layout])
    return found


@contextmanager
def arithmetic(name: str) -> Iterator[None]:
    """Float32 products by the tensor cores' tf32, or exactly."""
    # torch.compile reads the older switches, and refuses to if the newer ones were set.
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = name != "float32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def noise(batch: int, device: torch.device) -> Tensor:
    """x_t; the first images are the same for every size of a batch."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, *worlds.SHAPE, generator=generator).to(device)


def ours(
    section: Section, network: str, setting: Setting, batch: int, known: dict[str, Tensor]
) -> Figures:
    """The library's chain; samples are compared with those of the first point, in float32."""
    if setting.mode and which("g++") is None and which("gcc") is None:
        raise NotRun("torch.compile needs a C++ compiler")
    diffusion = frozen(network_of(network), setting, section.device)
    x = noise(batch, section.device)
    run = partial(diffusion.denoise, x, T_TRUNC, "ddim", STEPS)
    torch.compiler.reset()  # what an earlier point compiled would count against a limit
    with arithmetic(setting.arithmetic):
        shown = run()[:SHOWN]
        spent = seconds(run, section.device, 3)
    exact = known.setdefault(network, shown)[: len(shown)]
    return _rate(section, batch, spent) | {
        "differs_by": float((shown - exact).norm() / exact.norm())
    }


def bare(section: Section, network: str, kind: str, batch: int) -> Figures:
    """What anybody would write: a scheduler, a network and a loop."""
    model = network_of(network).to(section.device).eval()
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(STEPS)
    start = noise(batch, section.device)
    cast = torch.autocast(section.device.type, torch.bfloat16)

    @torch.no_grad()
    def run() -> Tensor:
        x = start
        with cast if kind == "bfloat16" else nullcontext():
            for timestep in scheduler.timesteps:
                x = scheduler.step(model(x, timestep).sample, timestep, x).prev_sample
        return x

    with arithmetic(kind):
        return _rate(section, batch, seconds(run, section.device, 3))


def _rate(section: Section, batch: int, spent: float) -> Figures:
    figures = {"images_per_second": batch / spent, "evaluations_per_second": STEPS * batch / spent}
    if section.cuda:
        figures["peak_gb"] = torch.cuda.max_memory_allocated(section.device) / 2**30
        torch.cuda.reset_peak_memory_stats(section.device)
    return figures


def beside(section: Section, rates: Rates) -> Figures:
    """Ours over the bare loop at the same arithmetic and batch; below 0.9 fails on a GPU."""
    figures = {
        f"{network} {kind.removeprefix('bare ')} x{batch}": rates[network, kind[5:], batch] / rate
        for (network, kind, batch), rate in rates.items()
        if kind.startswith("bare ") and rate and rates.get((network, kind[5:], batch))
    }
    slow = [name for name, ratio in figures.items() if ratio < 0.9]
    require(not slow or not section.cuda, f"slower than bare diffusers: {', '.join(slow)}", figures)
    return figures


def fastest(rates: Rates) -> Figures:
    """The best setting of each network."""
    figures: Figures = {}
    for network in dict.fromkeys(network for network, _, _ in rates):
        mine = {key: rate for key, rate in rates.items() if key[0] == network}
        _, setting, batch = max(mine, key=lambda key: mine[key])
        figures[network] = f"{setting} x{batch}"
    return figures

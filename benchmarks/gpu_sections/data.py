"""Data: what metrics cost on the device and on a CPU, and what a cell copies from the device."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import ot
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from priorbench.bench.timing import clock
from priorbench.metrics.fidelity import features_of, fid
from priorbench.metrics.loading import load_extractor
from priorbench.metrics.wasserstein import exact_w2

from .cells import row_of, run_cell, specs
from .clocks import seconds
from .section import Figures, Section, require

CPU = torch.device("cpu")


def run(section: Section) -> None:
    """Features, FID, W2, and the bytes that a cell copies to the host."""
    section.check("features", features, section, needs=5)
    for count in section.size.features:
        section.check(f"FID of {count} features", frechet, section, count, needs=8)
    section.check("Gaussian W2", gaussian, section, needs=5)
    section.check("exact W2", exact, section, needs=5)
    section.check("bytes from the device in a cell", copied, section, needs=8)


def features(section: Section) -> Figures:
    """Those of the shipped extractor, by torch-fidelity's loop."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 8, 8) if section.size.data == "digits" else (1, 28, 28)
    images = torch.randint(
        256, (section.size.images, *shape), dtype=torch.uint8, generator=generator
    )
    here, there = (
        partial(features_of, images, load_extractor(section.size.data, {}).to(device))
        for device in (CPU, section.device)
    )
    # Convolutions are in tf32 unless torch is told otherwise.
    return _both(section, here, there, limit=5e-3)


def frechet(section: Section, count: int) -> Figures:
    """FID by torch-fidelity on a CPU, and by eigenvalues in float64 on the device."""
    generator = torch.Generator().manual_seed(0)
    n = 10 * count if section.size.quick else 10_000
    mixing = torch.randn(count, count, generator=generator) / count**0.5
    x, y = (torch.randn(n, count, generator=generator) @ mixing + shift for shift in (0.0, 0.1))
    there = partial(squared_distance, x.to(section.device), y.to(section.device))
    return _both(section, partial(fid, x, y), there, limit=1e-4)


def squared_distance(x: Tensor, y: Tensor) -> float:
    r"""The squared Fréchet distance of the Gaussians with the moments of (N, F) and (M, F).

    The trace of the root of :math:`\Sigma_x \Sigma_y` is the sum of the roots of the eigenvalues of
    the symmetric :math:`\Sigma_x^{1/2} \Sigma_y \Sigma_x^{1/2}`.
    """
    x, y = x.double(), y.double()
    of_x, of_y = torch.cov(x.T), torch.cov(y.T)
    values, vectors = torch.linalg.eigh(of_x)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ of_y @ root).clamp(min=0).sqrt().sum()
    between = (x.mean(0) - y.mean(0)).square().sum()
    return float(between + of_x.trace() + of_y.trace() - 2 * shared)


def _clouds(section: Section, d: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = (
        torch.randn(section.size.points, d, generator=generator, dtype=torch.float64)
        for _ in range(2)
    )
    return x, 1.5 * y + 0.5


def gaussian(section: Section) -> Figures:
    """W2 of two clouds' moments, by POT in float64."""
    x, y = _clouds(section, 16 if section.size.quick else 784)
    here, there = (
        partial(ot.gaussian.empirical_bures_wasserstein_distance, x.to(device), y.to(device))
        for device in (CPU, section.device)
    )
    return _both(section, here, there, limit=1e-4)


def exact(section: Section) -> Figures:
    """W2 by the linear programme, which is solved on the CPU: the costs alone move."""
    x, y = _clouds(section, 16 if section.size.quick else 784)
    points, others = x.to(section.device), y.to(section.device)
    weights = ot.unif(len(x))

    def there() -> float:
        cost = torch.cdist(points, others).square().cpu().numpy()
        return float(ot.emd2(weights, weights, cost, numItermax=10_000_000) ** 0.5)

    return _both(section, partial(exact_w2, x, y), there, limit=1e-6)


def _both(
    section: Section, here: Callable[[], Any], there: Callable[[], Any], limit: float
) -> Figures:
    """The seconds of a program on a CPU and of one on the device, and how far results differ."""
    device, started = section.device, clock(CPU)
    wanted = torch.as_tensor(here()).double()
    spent = clock(CPU) - started  # once: on a CPU some take seconds
    found = torch.as_tensor(there()).double().cpu()
    figures = {
        "on_cpu_ms": 1000 * spent,
        "on_device_ms": 1000 * seconds(there, device, section.size.repeats, warm=0),
        "differ_by": float((found - wanted).norm() / wanted.norm()),
    }
    require(figures["differ_by"] < limit, "another result than on a CPU", figures)
    return figures


class HostCopies(TorchDispatchMode):
    """Counts what is copied from a device to the host inside.

    Attributes:
        copies, bytes: how many copies, and of how much.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copies, self.bytes = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        source = args[1] if func is torch.ops.aten.copy_.default else (args or (None,))[0]
        if isinstance(source, Tensor) and source.device.type not in ("cpu", "meta"):
            scalar = func is torch.ops.aten._local_scalar_dense.default
            if scalar or (isinstance(found, Tensor) and found.device.type == "cpu"):
                self.copies += 1
                self.bytes += source.numel() * source.element_size()
        return found


def copied(section: Section) -> Figures:
    """What a cell of digits with a Gaussian prior copies, beside its own images."""
    n = 40 if section.size.quick else 1500
    (spec,) = specs(["gaussian"], section.device, n).values()
    spec = replace(spec, w2_points=20)
    row_of(run_cell(spec))  # loads what all cells share
    with HostCopies() as copies:
        row_of(run_cell(spec))
    return {
        "copies": copies.copies,
        "megabytes": copies.bytes / 2**20,
        "megabytes_of_its_samples": n * 64 * 4 / 2**20,
    }

"""Right: what is computed on the device is what a CPU computes."""

import gc
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from helpers.gaussian_world import GaussianWorld
from priorbench_ot import sliced_wasserstein
from scipy import stats
from torch import Tensor

from priorbench.isolation import SETTINGS
from priorbench.plan.spec import CellSpec

from . import conformance, reference
from .cells import plant, row_of, run_cell, specs
from .section import Figures, Section, require

SOLVERS = ("ddim", "ddpm", "dpm++", "dpm++sde", "unipc")


def run(section: Section) -> None:
    """All checks, the short ones first."""
    for solver in SOLVERS:
        section.check(f"law of {solver} on Gaussian data", law, section, solver)
    for n, m, p in ((500, 500, 2), (500, 300, 2), (500, 500, 1)):
        name = f"sliced_wasserstein N={n} M={m} p={p}"
        section.check(name, sliced, section.device, n, m, float(p))
    plant()
    section.check("out of memory", out_of_memory, section, needs=10)
    section.check("same seed twice", twice, section, needs=10)
    reference.run(section, early=True)
    conformance.run(section)
    reference.run(section, early=False)
    conformance.run_processes(section)


def law(section: Section, solver: str) -> Figures:
    """Exact draws of x_t go to the data's law, by the least p-value of a pixel; and with the same
    noise to a CPU's x_0.
    """
    t, n, found = 200, 2000, list[Tensor]()
    for device in (section.device, torch.device("cpu")):
        world = GaussianWorld(spread=4.0, device=device)
        generator = torch.Generator().manual_seed(4)
        x_t = world.draw(n, t, seed=3)
        found.append(world.diffusion.denoise(x_t, t, solver, None, generator).cpu())
    z = ((found[0] - world.mean) / world.deviation).flatten(1).numpy()
    figures = {
        "p_value": float(min(stats.kstest(pixel, "norm").pvalue for pixel in z.T)),
        "differs_from_cpu_by": float((found[0] - found[1]).abs().max()),
    }
    require(figures["differs_from_cpu_by"] < 1e-4, "other samples than on a CPU", figures)
    require(figures["p_value"] > 1e-3 / z.shape[1], "another law than the data's", figures)
    return figures


def sliced(device: torch.device, n: int, m: int, p: float, d: int = 64, k: int = 64) -> Figures:
    """Value and gradient in float32 on ``device`` against float64 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(rows, d, generator=generator) for rows in (n, m))
    theta = torch.nn.functional.normalize(torch.randn(k, d, generator=generator), dim=1)

    def of(kind: Any) -> tuple[float, Tensor]:
        points = x.to(**kind).requires_grad_()
        value = sliced_wasserstein(points, y.to(**kind), directions=theta.to(**kind), p=p)
        (slope,) = torch.autograd.grad(value, points)
        return value.item(), slope.cpu().double()

    value, slope = of({"device": device})
    exact, exact_slope = of({"dtype": torch.float64})
    figures = {
        "value_differs_by": abs(value - exact) / exact,
        "gradient_differs_by": float((slope - exact_slope).norm() / exact_slope.norm()),
    }
    require(figures["value_differs_by"] < 1e-5, "another value than in float64", figures)
    require(figures["gradient_differs_by"] < 1e-3, "another gradient than in float64", figures)
    return figures


def out_of_memory(section: Section) -> Figures:
    """A prior asks for 200 GB, on a CPU for a million: its row says so, and the next cell runs."""
    gigabytes = 200 if section.cuda else 10**6
    found = specs([f"greedy[gigabytes={gigabytes}]", "gaussian"], section.device, 40)
    greedy, after = found.values()
    held = partial(torch.cuda.memory_allocated, section.device) if section.cuda else lambda: 0
    row_of(run_cell(small(after)))  # loads what all cells share
    before = held()
    (row,) = run_cell(small(greedy)).rows
    gc.collect()
    left = held() - before
    figures = {"error": row["error"][:90], "bytes_left": left}
    said = "memory" in str(row["error"])
    require(row["status"] == "failed" and said, "its row does not say so", figures)
    require(left < 2**20, "memory is not back", figures)
    row_of(run_cell(small(after)))
    return figures


def small(spec: CellSpec) -> CellSpec:
    """``spec`` with few points for W2, which is not what is checked."""
    return replace(spec, w2_points=20)


def twice(section: Section) -> Figures:
    """A cell with a trained prior, twice by one seed; and global state is as it was."""
    steps = 1 if section.size.quick else 100
    (spec,) = specs(["vae"], section.device, 40, fit_budget=f"{steps} steps").values()
    first = run_cell(small(spec))  # imports and first calls may set what they find unset
    before = _state(section)
    second = run_cell(small(spec))
    after = _state(section)
    changed = ", ".join(name for name, value in before.items() if after[name] != value)
    columns = ("fid", "sw2_xt", "w2_xt", "w2_x0")
    differ = [c for c in columns if row_of(first)[c] != row_of(second)[c]]
    differ += [k for k, v in first.images.items() if (v != second.images[k]).any()]
    figures: Figures = {"differ": ", ".join(differ) or "nothing", "changed": changed or "nothing"}
    require(not differ, "the same seed gave something else", figures)
    require(not changed, "global state was changed", figures)
    return figures


def _state(section: Section) -> dict[str, Any]:
    """Every global setting that a run puts back, and the random state of the device."""
    found = {setting.name: setting.read() for setting in SETTINGS}
    if section.cuda:
        found["random state on CUDA"] = torch.cuda.get_rng_state(section.device).tolist()
    return found

"""What a cell measures, by hand: evaluations counted, seconds charged, floors, medians, what every
cell relies on.
"""

import copy
from dataclasses import replace

import pytest
import torch
from helpers.faults import Good
from helpers.measures import SMALL
from torch import nn

from priorbench import FrozenDiffusion, TruncPrior, randn
from priorbench.bench import sampling, timing
from priorbench.bench.executors import serial
from priorbench.bench.work import Work
from priorbench.diffusion.solvers import Chain
from priorbench.isolation import isolated
from priorbench.plan import layout as plan
from priorbench.plan.layout import read_plan
from priorbench.sampler import TruncatedSampler
from priorbench.task import load_task

# --- evaluations ----------------------------------------------------------------------------------


def fresh(**options):
    from diffusers import DDPMScheduler
    from helpers.models import tiny_unet

    return FrozenDiffusion(
        tiny_unet((1, 8, 8)), DDPMScheduler(num_train_timesteps=100), device="cpu", **options
    )


def test_whoever_calls_the_network_is_counted():
    diffusion = fresh()
    x, t = torch.zeros(3, 1, 8, 8), torch.zeros(3)
    with torch.no_grad():
        diffusion.denoise(x, 50, "ddim", 4)
        assert (diffusion.evaluations, diffusion.evaluated_images) == (4, 12)
        diffusion.network(x, t)
        diffusion.network(sample=x[:2], timestep=t[:2])
        assert (diffusion.evaluations, diffusion.evaluated_images) == (6, 17)
        diffusion.features(x, 50)
        assert (diffusion.evaluations, diffusion.evaluated_images) == (7, 20)


def test_a_students_copy_of_the_network_is_its_own():
    diffusion = fresh()
    student = copy.deepcopy(diffusion.network)
    student(torch.zeros(2, 1, 8, 8), torch.zeros(2))
    assert diffusion.evaluations == 0


@pytest.mark.slow
def test_a_compiled_network_is_counted_once(monkeypatch):
    compiler = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda module, mode: compiler(module, backend="eager", mode=mode)
    )
    diffusion = fresh(compile=True)
    for _ in range(2):
        diffusion.denoise(torch.zeros(3, 1, 8, 8), 50, "ddim", 4)
    assert (diffusion.evaluations, diffusion.evaluated_images) == (8, 24)


# --- seconds --------------------------------------------------------------------------------------


def test_calls_a_prior_only_once_its_clock_runs(monkeypatch):
    calls, before = [], []

    class Eager(TruncPrior):
        def fit(self, marginal, run):
            pass

        def sample(self, n, generator):
            calls.append(n)
            return randn((n, 1, 8, 8), generator)

    def watched(draw, *rest):
        before.extend(calls)
        return timing.timed(draw, *rest)

    monkeypatch.setattr(sampling, "timed", watched)
    spec = next(
        s for s in read_plan(None, {"priors": "gaussian"}, SMALL).cells if s.prior == "gaussian"
    )
    task = load_task(spec.dataset, spec.backbone, spec.extractor, spec.device)
    prior = Eager()
    prior.fitted.fill_(True)
    found = sampling.drawn(prior, task, spec, 30)
    assert (before, calls) == ([], [12, 12, 6])
    assert found.nfe == 0


def test_a_chain_is_timed_by_full_batches_alone(monkeypatch):
    """Of 20 images in batches of 12, the further batch for the time is of 12 too, not of 8."""
    spec = next(
        s for s in read_plan(None, {"priors": "gaussian"}, SMALL).cells if s.prior == "gaussian"
    )
    spec = replace(spec, n_samples=20)
    task, sizes = load_task(spec.dataset, spec.backbone, spec.extractor, spec.device), []
    run = Chain.run
    monkeypatch.setattr(sampling, "TIMINGS", 3)
    monkeypatch.setattr(
        Chain, "run", lambda chain, predict, x, g: sizes.append(len(x)) or run(chain, predict, x, g)
    )
    x_t = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    prior = Good()  # which is not asked
    sampler = TruncatedSampler(prior, task.diffusion, spec.t_trunc, "ddim", 2, spec.batch_size)
    found = sampling.denoised(x_t, sampler, spec)
    assert sizes[1:] == [12, 8, 12, 12]  # after the warm-up
    assert len(found.batches) == 3
    assert (found.nfe, len(found.x_0)) == (2, 20)


# --- what every cell relies on --------------------------------------------------------------------


@pytest.mark.slow
def test_a_script_with_another_default_dtype_gets_the_same_figures_and_keeps_it():
    plan = read_plan(None, {"priors": "gaussian"}, SMALL)
    spec = next(spec for spec in plan.cells if spec.prior == "gaussian")
    (once,) = serial(Work(), [spec])
    with isolated():
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        (again,) = serial(Work(), [spec])
        assert torch.get_default_dtype() == torch.float64
        assert not torch.is_grad_enabled()
    assert (once.rows[0]["fid"], once.rows[0]["w2_xt"]) == (
        again.rows[0]["fid"],
        again.rows[0]["w2_xt"],
    )


def test_names_what_earlier_code_measured_otherwise(monkeypatch):
    now = read_plan(None, {"priors": "gaussian"}, SMALL).cells[-1]
    monkeypatch.setattr(plan, "MEASUREMENT", "1")
    then = read_plan(None, {"priors": "gaussian"}, SMALL).cells[-1]
    assert now.cell != then.cell
    assert now.fit == then.fit


@pytest.mark.slow
def test_rows_warn_of_a_model_that_knows_nothing_at_T(pipeline):
    folder = str(pipeline(rescale_betas_zero_snr=True))
    spec = read_plan(None, {"priors": "gaussian", "backbone": folder}, SMALL).cells[0]
    (result,) = serial(Work(), [spec])
    assert "alpha_bar_T is 0 and the model predicts epsilon" in result.rows[0]["warning"]


def test_a_model_is_put_back_as_it_was_made():
    diffusion = fresh()
    before = diffusion.layers()
    assert diffusion.refreeze() == []
    diffusion.network.train()
    diffusion.network.conv_in.register_forward_pre_hook(lambda module, args: None)
    diffusion.network.requires_grad_(True)
    diffusion.config = {}
    assert diffusion.refreeze() == ["other attributes", "training mode", "hooks", "gradients"]
    assert diffusion.refreeze() == []
    assert not any(module.training for module in diffusion.network.modules())
    diffusion.denoise(torch.zeros(2, 1, 8, 8), 10, "ddim", 1)
    assert diffusion.evaluations == 1  # the count's own hook is left on
    diffusion.network.conv_act = nn.Identity()
    assert diffusion.layers() != before

"""What a cell measures, by hand: evaluations counted, seconds charged, floors, medians, what every
cell relies on.
"""

import copy
import json
import os
import subprocess
import sys

import helpers
import pytest
import torch
from torch import nn

import priorbench
from priorbench import FrozenDiffusion, TruncPrior, randn
from priorbench import runner as run
from priorbench.bench import sampling, timing
from priorbench.bench.executors import serial
from priorbench.bench.work import Work
from priorbench.isolation import isolated
from priorbench.metrics.fidelity import FLOOR_DRAWS, fid, fid_floor
from priorbench.metrics.memorisation import neighbour_ratio
from priorbench.plan import layout as plan
from priorbench.plan.layout import read_plan
from priorbench.task import load_task

FAULTY = helpers.FOLDER / "faulty.py"
SMALL = ["n_samples=24", "n_validation=0", "batch_size=12", "w2_points=20", "steps=2", "controls=[]", "rivals=[]",
         "full_chain.steps=2", "t_trunc=100"]  # fmt: skip


def normal(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- evaluations -------------------------------------------------------------------------------------------


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


def test_a_compiled_network_is_counted_once(monkeypatch):
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: compiler(module, backend="eager"))
    diffusion = fresh(compile=True)
    for _ in range(2):
        diffusion.denoise(torch.zeros(3, 1, 8, 8), 50, "ddim", 4)
    assert (diffusion.evaluations, diffusion.evaluated_images) == (8, 24)


# --- seconds -----------------------------------------------------------------------------------------------


def scripted(monkeypatch, seconds):
    """A clock on which each draw takes as long as the script says."""
    readings = iter([t for s in seconds for t in (0.0, s)])
    monkeypatch.setattr(timing, "clock", lambda device: next(readings))


def test_the_whole_draw_is_charged(monkeypatch):
    """A first call that works ahead is no warm-up: 4 s for 10 images, not the median batch's."""
    scripted(monkeypatch, [3.7, 0.1, 0.2])
    calls = []
    draw = lambda n, generator: calls.append(n) or torch.zeros(n, 1)  # noqa: E731
    x, found = timing.timed(draw, torch.Generator(), 10, 4, torch.device("cpu"))
    assert (len(x), calls) == (10, [4, 4, 2])
    assert found.total == pytest.approx(4.0)
    assert found.batches == pytest.approx([3.7 / 4, 0.1 / 4])


def test_a_chain_is_timed_by_three_batches_at_least(monkeypatch):
    scripted(monkeypatch, [1.0, 2.0, 3.0])
    x, found = timing.timed(
        lambda n, g: torch.zeros(n, 1), torch.Generator(), 5, 5, torch.device("cpu"), least=3
    )
    assert len(x) == 5
    assert found.batches == pytest.approx([0.2, 0.4, 0.6])
    assert found.total == 1.0


def test_a_prior_is_not_called_before_its_clock_runs(monkeypatch):
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


def test_a_runs_seconds_are_by_a_clock_that_nobody_sets(monkeypatch, tmp_path):
    readings = iter([100.0, 107.5])
    monkeypatch.setattr(run.time, "monotonic", lambda: next(readings, 0.0))
    plan = read_plan(None, {"priors": "noise"}, [*SMALL, "t_trunc=1000"])
    monkeypatch.setattr(run, "_compute", lambda *_: {})
    monkeypatch.setattr(run, "_write_tables", lambda *_: None)
    run.execute(plan, run.Store(tmp_path), report=False)
    assert json.loads((tmp_path / "run.json").read_text())["seconds"] == 7.5


# --- figures -----------------------------------------------------------------------------------------------


def test_the_floor_is_a_mean_over_draws_with_its_error():
    train, test = normal(900, 8, 0), normal(300, 8, 1)
    mean, error = fid_floor(train, test, 150)
    generator = torch.Generator().manual_seed(2)
    draws = [fid(train[torch.randperm(900, generator=generator)[:150]], test) for _ in range(200)]
    spread = torch.tensor(draws).std()
    assert error == pytest.approx(float(spread) / FLOOR_DRAWS**0.5, rel=0.8)
    assert mean == pytest.approx(sum(draws) / 200, abs=4 * error)
    assert (mean, error) == fid_floor(train, test, 150)


def test_the_floor_of_all_training_images_is_one_draw():
    train, test = normal(100, 4, 0), normal(300, 4, 1)
    mean, error = fid_floor(train, test, 500)
    assert mean == pytest.approx(fid(train, test))
    assert error != error


def test_the_neighbour_ratio_is_the_middle_of_the_two_middle_ones():
    samples, train, test = (
        torch.tensor([[1.0], [2.0]]),
        torch.tensor([[0.0]]),
        torch.tensor([[3.0]]),
    )
    ratio, _ = neighbour_ratio(samples, train, test)  # 1 / 2 and 2 / 1
    assert ratio == pytest.approx(1.25)


def test_the_error_of_the_neighbour_ratio_is_that_of_a_median():
    train, test = normal(300, 6, 0), normal(200, 6, 1)
    found = [neighbour_ratio(normal(200, 6, seed), train, test) for seed in range(2, 42)]
    medians, errors = torch.tensor(found).T
    assert float(errors.mean()) == pytest.approx(float(medians.std()), rel=0.35)


# --- what every cell relies on -----------------------------------------------------------------------------


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


def test_what_earlier_code_measured_is_not_taken_for_this_codes(monkeypatch):
    now = read_plan(None, {"priors": "gaussian"}, SMALL).cells[-1]
    monkeypatch.setattr(plan, "MEASUREMENT", "1")
    then = read_plan(None, {"priors": "gaussian"}, SMALL).cells[-1]
    assert now.cell != then.cell
    assert now.fit == then.fit


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


def test_a_crash_of_the_process_is_told_when_the_run_is_taken_up(tmp_path):
    def start(priors):
        arguments = [
            "--plugin",
            str(FAULTY),
            "--priors",
            priors,
            "--output",
            str(tmp_path),
            "--no-report",
        ]
        sets = [part for setting in SMALL for part in ("--set", setting)]
        return subprocess.run([sys.executable, "-m", "priorbench", "run", *arguments, *sets], capture_output=True,
                              text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip

    assert start("killed").returncode == -9
    said = "the last run here ended without a word while it computed killed t_trunc 100 seed 0"
    again = start("gaussian")
    assert again.returncode == 0
    assert said in " ".join(again.stderr.split())
    assert "without a word" not in start("gaussian").stderr
    assert not (tmp_path / "under-way.json").exists()


def test_an_interrupted_run_is_not_said_to_have_crashed(tmp_path):
    class Stop(priorbench.runner.Observer):
        def cell(self, spec):
            raise KeyboardInterrupt

    plan = read_plan(None, {"priors": "gaussian"}, SMALL)
    store = run.Store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run.execute(plan, store, observer=Stop())
    assert list(store.broken_off()) == []

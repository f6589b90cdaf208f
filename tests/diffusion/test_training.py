"""Training a denoiser: what is learned, and what a kill costs."""

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from priorbench import Dataset, FrozenDiffusion
from priorbench.data.loading import load_dataset
from priorbench.diffusion.process import ForwardProcess
from priorbench.diffusion.training import TrainingSettings, target, train
from priorbench.errors import UserError

SETTINGS = TrainingSettings(
    steps=6, batch_size=8, channels=(8, 16), evaluate_every=2, validation_draws=64, T=50
)


@pytest.fixture
def data():
    images = torch.randint(0, 256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    return Dataset("noise", images[:20], images[20:30], images[30:])


class Killed(Exception):
    pass


def killed_at(n):
    def progress(step, total, loss):
        if step == n:
            raise Killed

    return progress


def weights(folder):
    return FrozenDiffusion.from_pretrained(folder, device="cpu").digest()


@pytest.mark.parametrize("kill", [2, 4])
def test_a_killed_training_goes_on_as_if_nothing_had_happened(data, tmp_path, kill):
    whole = train(data, tmp_path / "whole", SETTINGS)
    with pytest.raises(Killed):
        train(data, tmp_path / "killed", SETTINGS, killed_at(kill))
    assert not (tmp_path / "killed/training.json").exists()
    state = torch.random.get_rng_state()
    steps = []
    again = train(data, tmp_path / "killed", SETTINGS, lambda step, total, loss: steps.append(step))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert steps == list(range(kill + 2, 7, 2))
    assert (tmp_path / "killed/loss.csv").read_text() == (tmp_path / "whole/loss.csv").read_text()
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}
    assert not (tmp_path / "killed/checkpoint.safetensors").exists()


def test_a_training_killed_at_any_moment_goes_on(data, tmp_path):
    """SIGKILL, at random moments, to the command itself; the weights are those of an undisturbed
    run.
    """
    np.savez(
        tmp_path / "data.npz",
        train=data.train.numpy(),
        validation=data.validation.numpy(),
        test=data.test.numpy(),
    )
    options = (
        "backbone", "train", "--dataset", str(tmp_path / "data.npz"), "--steps", "90", "--batch-size", "8",
        "--channels", "8,16", "--timesteps", "50", "--mixed-precision", "bf16", "--evaluate-every", "3",
        "--validation-draws", "64",
    )  # fmt: skip
    run = [sys.executable, "-c", "from priorbench.cli import main; main()", *options]
    draw, kills = random.Random(0), 0
    for _ in range(3):
        process = subprocess.Popen(
            [*run, "--output", str(tmp_path / "a")], stderr=subprocess.PIPE, text=True
        )
        for line in process.stderr:  # wait until it has begun, then a moment longer
            if " of 90" in line:
                time.sleep(draw.uniform(0, 0.4))
                break
        process.kill()
        process.wait()
        kills += not (tmp_path / "a" / "training.json").exists()
    assert kills == 3
    for name in "ab":
        done = subprocess.run(
            [*run, "--output", str(tmp_path / name)], capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout)["steps"] == 90
    assert (tmp_path / "a/loss.csv").read_text() == (tmp_path / "b/loss.csv").read_text()
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_a_finished_training_is_not_done_again(data, tmp_path):
    first = train(data, tmp_path, SETTINGS)
    steps = []
    assert train(data, tmp_path, SETTINGS, lambda *a: steps.append(a)) == first
    assert not steps
    again = train(data, tmp_path, SETTINGS, lambda *a: steps.append(a), fresh=True)
    assert len(steps) == 3
    assert again["validation_loss"] == first["validation_loss"]


@pytest.mark.parametrize("finished", [True, False])
def test_another_training_in_the_folder_is_refused(data, tmp_path, finished):
    if finished:
        train(data, tmp_path, SETTINGS)
    else:
        with pytest.raises(Killed):
            train(data, tmp_path, SETTINGS, killed_at(2))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=r"learning_rate = 0\.002, not 0\.001"):
        train(data, tmp_path, replace(SETTINGS, learning_rate=1e-3))
    other = replace(data, train=255 - data.train)
    with pytest.raises(UserError, match="dataset_sha256"):
        train(other, tmp_path, SETTINGS)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_somebody_elses_model_is_not_overwritten(data, pipeline):
    folder = pipeline()
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="was not trained here"):
        train(data, folder, SETTINGS)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_damaged_checkpoint_is_one_line(data, tmp_path):
    with pytest.raises(Killed):
        train(data, tmp_path, SETTINGS, killed_at(2))
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot resume from") as caught:
        train(data, tmp_path, SETTINGS)
    assert "\n" not in str(caught.value)


def test_two_processes_share_the_batch_that_one_would_have(data, tmp_path):
    """With gradients averaged over two processes, the loss curve is that of one, but for rounding."""
    settings = replace(SETTINGS, dropout=0.0)
    np.savez(
        tmp_path / "data.npz",
        train=data.train.numpy(),
        validation=data.validation.numpy(),
        test=data.test.numpy(),
    )
    train(load_dataset(str(tmp_path / "data.npz")), tmp_path / "one", settings)
    script = tmp_path / "train.py"
    script.write_text(
        "import sys; from dataclasses import replace; from pathlib import Path\n"
        "import torch; torch.set_num_threads(1)\n"
        "from priorbench.data.loading import load_dataset\n"
        "from priorbench.diffusion.training import TrainingSettings, train\n"
        f"settings = {settings!r}\n"
        f"about = train(load_dataset({str(tmp_path / 'data.npz')!r}), Path({str(tmp_path / 'two')!r}), settings)\n"
        "assert about['processes'] == 2\n"
    )
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(script),
    ]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    one, two = (
        np.loadtxt(tmp_path / n / "loss.csv", delimiter=",", skiprows=1) for n in ("one", "two")
    )
    assert np.allclose(one, two, atol=2e-4)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_training_learns(tmp_path, kind):
    """One grey level for all pixels of an image: after a few steps the loss is far below that of
    knowing nothing.
    """
    levels = torch.linspace(0, 255, 48).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    flat = Dataset("flat", levels[:32].clone(), levels[32:40].clone(), levels[40:].clone())
    settings = replace(SETTINGS, steps=60, evaluate_every=20, batch_size=32, prediction_type=kind)
    about = train(flat, tmp_path, settings)
    curve = np.loadtxt(tmp_path / "loss.csv", delimiter=",", skiprows=1)
    assert curve[-1, 1] < 0.6 * curve[0, 1]
    assert about["validation_loss"] == pytest.approx(curve[:, 2].min())
    assert about["kept_step"] == curve[curve[:, 2].argmin(), 0]
    assert FrozenDiffusion.from_pretrained(tmp_path, device="cpu").config["prediction_type"] == kind


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_the_three_targets_are_of_one_x_t(kind):
    process = ForwardProcess(torch.linspace(0.99, 0.1, 50))
    x_0, noise = torch.randn(2, 7, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.arange(1, 50, 7)
    x_t, wanted = target(process, kind, x_0, noise, t)
    a = process.alpha_bar[t].float().view(-1, 1, 1, 1)
    recovered = {
        "epsilon": (x_t - (1 - a).sqrt() * wanted) / a.sqrt(),
        "sample": wanted,
        "v_prediction": a.sqrt() * x_t - (1 - a).sqrt() * wanted,
    }[kind]
    assert torch.allclose(recovered, x_0, atol=1e-5)


def test_a_training_may_start_from_another_model(data, tmp_path, pipeline):
    folder = pipeline((1, 8, 8), prediction_type="v_prediction", num_train_timesteps=30)
    start = FrozenDiffusion.from_pretrained(folder, device="cpu")
    before = start.digest()
    settings = replace(SETTINGS, learning_rate=1e-9)
    about = train(data, tmp_path, settings, start=start)
    assert start.digest() == before
    assert about["settings"]["start_from"] == before
    tuned = FrozenDiffusion.from_pretrained(tmp_path, device="cpu")
    assert (tuned.T, tuned.config["prediction_type"]) == (30, "v_prediction")
    for a, b in zip(tuned.network.parameters(), start.network.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    with pytest.raises(UserError, match="start_from"):
        train(data, tmp_path, settings)

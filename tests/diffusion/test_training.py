"""Training a denoiser: what is learned, and what a kill costs."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.trainings import SETTINGS

from priorbench import Dataset, FrozenDiffusion
from priorbench.data.loading import load_dataset
from priorbench.diffusion.process import ForwardProcess
from priorbench.diffusion.training import target, train
from priorbench.errors import UserError


@pytest.mark.slow
def test_two_processes_share_the_batch_that_one_would_have(data, tmp_path):
    """With gradients averaged over two processes, the loss curve is that of one, but for
    rounding.
    """
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
        f"data = load_dataset({str(tmp_path / 'data.npz')!r})\n"
        f"about = train(data, Path({str(tmp_path / 'two')!r}), settings)\n"
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


@pytest.mark.slow
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

"""Training a denoiser: what is learned, and what a kill costs."""

import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from helpers.trainings import SETTINGS

from priorbench import Dataset, FrozenDiffusion
from priorbench.data.loading import load_dataset
from priorbench.diffusion.process import ForwardProcess
from priorbench.diffusion.training import Trainer, target, train, unet
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
    a = process.alpha_bar[t].float().view(-1, 1, 1, 1)
    x_t, wanted = target(kind, x_0, noise, a.sqrt(), (1 - a).sqrt())
    recovered = {
        "epsilon": (x_t - (1 - a).sqrt() * wanted) / a.sqrt(),
        "sample": wanted,
        "v_prediction": a.sqrt() * x_t - (1 - a).sqrt() * wanted,
    }[kind]
    assert torch.allclose(recovered, x_0, atol=1e-5)


def test_half_of_the_images_are_mirrored_if_asked(data, monkeypatch):
    """One half of each image is black, so a mirrored one shows it on the other side."""
    images = torch.zeros(8, 1, 8, 8, dtype=torch.uint8)
    images[..., :4] = 255
    seen = []
    monkeypatch.setattr(Trainer, "_loss", lambda self, model, images, t, noise: seen.append(images))
    for flip in (False, True):
        settings = replace(SETTINGS, flip=flip, batch_size=1000)
        trainer = Trainer(replace(data, train=images), settings, None, Accelerator(cpu=True))
        trainer._step_loss(1)
    plain, mirrored = ((each[..., 0] == 0).any((1, 2)).float().mean() for each in seen)
    assert plain == 0
    assert mirrored == pytest.approx(0.5, abs=0.06)
    assert bool((images[..., :4] == 255).all()), "the data set itself was mirrored"


def test_layers_and_attention_are_where_the_settings_say():
    settings = replace(SETTINGS, channels=(8, 16, 32), layers=2, attention_levels=2, heads=4)
    network = unet((3, 16, 16), settings)
    config = network.config
    assert config.layers_per_block == 2
    assert config.down_block_types == ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")
    assert config.up_block_types == ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    assert network(torch.zeros(1, 3, 16, 16), 1).sample.shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"attention_levels": 4}, "4 levels of attention are too many for 3"),
        ({"attention_levels": 3, "heads": 1}, "a head is 32 channels wide.*divide 8"),
        ({"channels": (8,) * 6}, "6 levels of channels are too many for images of 16x16"),
    ],
)
def test_an_architecture_that_cannot_be_is_refused(changed, match):
    settings = replace(SETTINGS, channels=(8, 16, 32)) if "channels" not in changed else SETTINGS
    with pytest.raises(UserError, match=match):
        unet((3, 16, 16), replace(settings, **changed))


def test_the_learning_rate_rises_then_falls(data):
    settings = replace(SETTINGS, steps=10, warmup=4, learning_rate=1.0)
    trainer = Trainer(data, settings, None, Accelerator(cpu=True))
    rates = []
    for _ in range(10):
        rates += trainer.learner.cosine.get_last_lr()
        trainer.learner.optimizer.step()
        trainer.learner.cosine.step()
    assert rates[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert rates[5:] == pytest.approx([0.5 * (1 + math.cos(math.pi * i / 6)) for i in range(1, 6)])


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

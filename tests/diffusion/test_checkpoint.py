"""Trainings that are killed go on from their checkpoint, and no other training is overwritten."""

import json
import random
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from helpers.commands import call
from helpers.trainings import SETTINGS, Killed, killed_at, weights

from priorbench.diffusion.checkpoint import Checkpoint
from priorbench.diffusion.training import Trainer, train
from priorbench.errors import UserError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kill", [2, 4])
def test_resumes_after_a_kill_as_if_nothing_had_happened(data, tmp_path, kill):
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


def test_what_is_restored_lies_in_memory_as_the_weights_do(data, tmp_path):
    """The fused optimiser of a GPU refuses moments with other strides than the weights."""
    with pytest.raises(Killed):
        train(data, tmp_path, SETTINGS, killed_at(2))
    trainer = Trainer(data, SETTINGS, None, Accelerator())
    identity = {**asdict(SETTINGS), "channels": list(SETTINGS.channels)}
    identity["dataset_sha256"] = data.digest()
    assert Checkpoint(tmp_path, identity).restore(trainer.learner, False).step == 2
    learner = trainer.learner
    strides = [p.stride() for p in learner.network.parameters()]
    assert [s.stride() for s in learner.averaged.shadow_params] == strides
    for name in ("exp_avg", "exp_avg_sq"):
        moments = [learner.optimizer.state[p][name] for p in learner.network.parameters()]
        assert [m.stride() for m in moments] == strides
        assert any(m.abs().max() > 0 for m in moments)


@pytest.fixture
def own_accelerator():
    """accelerate keeps the precision that a process first trained in."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def test_resumes_after_a_sigkill_at_any_moment(data, tmp_path, own_accelerator):
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
        "backbone", "train", "--dataset", str(tmp_path / "data.npz"), "--steps", "60",
        "--batch-size", "8",
        "--channels", "8,16", "--timesteps", "50", "--mixed-precision", "bf16", "--evaluate-every",
        "3", "--validation-draws", "64",
    )  # fmt: skip
    run = [sys.executable, "-c", "from priorbench.cli import main; main()", *options]
    draw, kills = random.Random(0), 0
    for _ in range(2):
        process = subprocess.Popen(
            [*run, "--output", str(tmp_path / "a")], stderr=subprocess.PIPE, text=True
        )
        told = draw.randint(1, 5)
        for line in process.stderr:  # wait until it has begun, then a few lines longer
            told -= " of 60" in line
            if told == 0:
                break
        process.kill()
        process.wait()
        kills += not (tmp_path / "a" / "training.json").exists()
    assert kills == 2
    for name in "ab":
        done = call(*options, "--output", str(tmp_path / name))
        assert json.loads(done.stdout)["steps"] == 60
    assert (tmp_path / "a/loss.csv").read_text() == (tmp_path / "b/loss.csv").read_text()
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


def test_takes_a_finished_training_as_it_is(data, tmp_path):
    first = train(data, tmp_path, SETTINGS)
    steps = []
    assert train(data, tmp_path, SETTINGS, lambda *a: steps.append(a)) == first
    assert not steps
    again = train(data, tmp_path, SETTINGS, lambda *a: steps.append(a), fresh=True)
    assert len(steps) == 3
    assert again["validation_loss"] == first["validation_loss"]


@pytest.mark.parametrize("finished", [True, False])
def test_refuses_another_training_in_the_folder(data, tmp_path, finished):
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


def test_refuses_to_overwrite_somebody_elses_model(data, pipeline):
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

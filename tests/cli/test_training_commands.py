"""``priorbench backbone train`` and ``priorbench extractor train``."""

import json

import pytest
from helpers.commands import call

import priorbench

pytestmark = pytest.mark.slow


def test_training_commands_write_what_loads(tmp_path):
    trained = call(
        "backbone", "train", "--steps", "2", "--channels", "8,16", "--timesteps", "20",
        "--prediction", "v_prediction", "--output", str(tmp_path / "backbone"),
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    diffusion = priorbench.FrozenDiffusion.from_pretrained(tmp_path / "backbone", device="cpu")
    assert (diffusion.T, diffusion.config["prediction_type"]) == (20, "v_prediction")
    trained = call(
        "extractor",
        "train",
        "--epochs",
        "1",
        "--features",
        "8",
        "--output",
        str(tmp_path / "extractor"),
    )
    assert trained.returncode == 0, trained.stderr
    about = json.loads((tmp_path / "extractor" / "extractor.json").read_text())
    assert about["features"] == 8
    assert 0 < about["accuracy"]["test"] <= 1

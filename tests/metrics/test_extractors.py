"""The extractor's folder: what is refused, and what torch-fidelity takes it for."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from priorbench import UserError
from priorbench.assets import folder
from priorbench.data.dataset import to_float
from priorbench.data.digits import load
from priorbench.metrics.extractors import LAYER, from_folder
from priorbench.metrics.fidelity import features_of
from priorbench.metrics.loading import digits


def test_the_shipped_extractor_is_accurate_and_guarded(tmp_path):
    data, extractor = load(), digits()
    right = extractor.classifier(to_float(data.test)).argmax(1) == data.labels["test"]
    assert right.double().mean() >= 0.98
    with pytest.raises(UserError, match="takes bytes of 8x8 pixels"):
        extractor(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    copy = tmp_path / "extractor"
    shutil.copytree(folder("digits/extractor"), copy)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match="sha256"):
        from_folder(copy)
    with pytest.raises(UserError, match="holds no extractor"):
        from_folder(tmp_path / "nowhere")


@pytest.fixture
def copied(tmp_path):
    """A copy of the shipped extractor, with changes to extractor.json."""

    def copy(place, **changes):
        target = tmp_path / place
        shutil.copytree(folder("digits/extractor"), target)
        about = json.loads((target / "extractor.json").read_text())
        (target / "extractor.json").write_text(json.dumps(about | changes))
        return target

    return copy


def test_an_untouched_copy_is_the_same_extractor(copied):
    images = load().test[:20]
    assert torch.equal(
        features_of(images, from_folder(copied("same"))), features_of(images, digits())
    )


@pytest.mark.parametrize("place", [0, 8, 2000, -1])
def test_a_flipped_byte_anywhere_is_refused(copied, place):
    target = copied("flipped")
    weights = bytearray((target / "model.safetensors").read_bytes())
    weights[place] ^= 0x10
    (target / "model.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match=r"model\.safetensors.*sha256"):
        from_folder(target)


def test_truncated_weights_are_refused(copied):
    target = copied("short")
    weights = (target / "model.safetensors").read_bytes()
    (target / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UserError, match="sha256"):
        from_folder(target)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "sha256 alone"])
def test_a_description_that_says_too_little_is_one_line(copied, content):
    target = copied("odd")
    if content == "sha256 alone":
        content = json.dumps(
            {"sha256": json.loads((target / "extractor.json").read_text())["sha256"]}
        )
    (target / "extractor.json").write_text(content)
    with pytest.raises(UserError):
        from_folder(target)


def test_a_description_of_another_architecture_is_one_line(copied):
    with pytest.raises(UserError):
        from_folder(copied("narrow", width=16, name="narrow-test"))


@pytest.mark.parametrize(
    "shape",
    [(2, 3, 16, 16), (2, 1, 7, 8), (2, 1, 8, 9), (2, 3, 8, 4), (3, 8, 8)],
    ids=lambda s: "x".join(map(str, s)),
)
def test_images_of_another_size_are_refused(shape):
    with pytest.raises(UserError, match="takes bytes of 8x8 pixels"):
        digits()(torch.zeros(shape, dtype=torch.uint8))


def test_floats_are_refused():
    with pytest.raises(UserError, match=r"takes bytes .* got torch\.float32"):
        digits()(torch.zeros(2, 1, 8, 8))


def test_grey_may_come_as_three_equal_channels_and_colour_may_not():
    """An extractor of grey images that looked at the red ones alone would give colour images a
    number.
    """
    grey = load().test[:5]
    assert torch.equal(digits()(grey.expand(-1, 3, -1, -1))[0], digits()(grey)[0])
    colour = torch.cat([grey, 255 - grey, grey], dim=1)
    with pytest.raises(UserError):
        digits()(colour)


def test_torch_fidelity_never_takes_one_extractor_for_another_of_its_name(copied):
    """The same name with other weights: refused, or what torch-fidelity finds by the name is the
    one just made.
    """
    name = "shared-name-test"
    from_folder(copied("first", name=name))
    weights = load_file(copied("second") / "model.safetensors")
    second = copied("third", name=name)
    save_file(
        {k: v + 1 if v.is_floating_point() else v for k, v in weights.items()},
        second / "model.safetensors",
    )
    about = json.loads((second / "extractor.json").read_text())
    about["sha256"] = hashlib.sha256((second / "model.safetensors").read_bytes()).hexdigest()
    (second / "extractor.json").write_text(json.dumps(about))
    try:
        made = from_folder(second)
    except UserError:
        return
    assert (
        FEATURE_EXTRACTORS_REGISTRY[made.get_name()](made.get_name(), [LAYER]).digest == made.digest
    )

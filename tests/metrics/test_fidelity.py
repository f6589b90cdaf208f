"""FID, KID, precision and recall against torch-fidelity and closed forms, and the floor."""

import pytest
import torch
import torch_fidelity
from helpers.draws import gaussian, normal
from PIL import Image

from priorbench.data.dataset import to_bytes, to_float
from priorbench.data.digits import load
from priorbench.metrics.fidelity import FLOOR_DRAWS, features_of, fid, fid_floor, fidelity
from priorbench.metrics.loading import digits
from priorbench.metrics.reference import KID_SUBSET


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


def save(images, path):
    path.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(path / f"{i:05d}.png")
    return str(path)


@pytest.mark.parametrize("n", [pytest.param(500, marks=pytest.mark.slow), 120])
def test_equal_a_direct_call_of_torch_fidelity_on_saved_images(tmp_path, n):
    """More images than the reference has, and fewer."""
    data, extractor = load(), digits()
    noisy = to_float(data.train[:n]) + 0.4 * torch.randn(
        n, 1, 8, 8, generator=torch.Generator().manual_seed(0)
    )
    generated, reference = to_bytes(noisy), data.test
    ours = fidelity(features_of(generated, extractor), features_of(reference, extractor))
    theirs = torch_fidelity.calculate_metrics(
        input1=save(generated, tmp_path / "generated"),
        input2=save(reference, tmp_path / "reference"),
        feature_extractor=extractor.get_name(), fid=True, kid=True, prc=True, cuda=False,
        cache=False, verbose=False,
        kid_subset_size=min(KID_SUBSET, len(generated), len(reference)), samples_shuffle=False,
    )  # fmt: skip
    # It reads the images in smaller batches, for which some processors round features otherwise.
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert ours["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-6)
    assert ours["precision"] == pytest.approx(theirs["precision"], abs=1e-6)
    assert ours["recall"] == pytest.approx(theirs["recall"], abs=1e-6)
    assert ours["fid"] > 1  # the noise is seen


def test_a_set_against_itself_is_perfect():
    x = gaussian(60)
    found = fidelity(x, x)
    assert found["fid"] == pytest.approx(0, abs=1e-4)
    assert found["kid"] <= 1e-6
    assert (found["precision"], found["recall"]) == (1, 1)


def test_fid_is_its_closed_form_for_a_shift():
    x, c = gaussian(80).double(), torch.tensor([1.0, -2.0, 0.5]).double()
    assert fidelity(x, x + c)["fid"] == pytest.approx(c.square().sum().item(), rel=1e-4)


def test_precision_is_of_the_generated_and_recall_of_the_reference():
    """Samples of one of two modes: each is like the data, half of the data is missed. And the other
    way round.
    """
    left, right = gaussian(50), gaussian(50, seed=1) + 100
    both = torch.cat([left, right])
    one_mode, extra_mode = fidelity(left + 1e-3, both), fidelity(both, left + 1e-3)
    assert (one_mode["precision"], one_mode["recall"]) == (1, 0.5)
    assert (extra_mode["precision"], extra_mode["recall"]) == (0.5, 1)


def test_fid_and_kid_grow_with_the_noise_on_the_images():
    data, extractor = load(), digits()
    reference = features_of(data.test, extractor)
    noise = torch.randn(data.validation.shape, generator=torch.Generator().manual_seed(0))
    found = [
        fidelity(features_of(to_bytes(to_float(data.validation) + s * noise), extractor), reference)
        for s in (0, 0.3, 1)
    ]
    assert found[0]["fid"] < found[1]["fid"] / 2 < found[2]["fid"] / 4
    assert found[0]["kid"] < found[1]["kid"] < found[2]["kid"]


def test_features_do_not_depend_on_the_batches():
    data, extractor = load(), digits()
    whole, parts = (features_of(data.test[:50], extractor, batch_size=b) for b in (256, 7))
    assert whole.shape == (50, 64)
    assert torch.allclose(whole, parts, atol=1e-5)
    assert whole.std(0).mean() > 0.1  # and they see something

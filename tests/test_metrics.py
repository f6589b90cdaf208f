"""The measures against the libraries that define them, and against closed forms."""

import shutil

import numpy as np
import ot
import pytest
import torch
import torch_fidelity
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from priorbench import UserError
from priorbench.assets import folder
from priorbench.data.dataset import Dataset, to_bytes, to_float
from priorbench.data.digits import load
from priorbench.metrics.extractors import from_folder
from priorbench.metrics.fidelity import KID_SUBSET, features_of, fidelity
from priorbench.metrics.memorisation import authenticity
from priorbench.metrics.shipped import digits
from priorbench.metrics.wasserstein import distances, exact_w2, gaussian_w2, sliced_w2


def save(images, path):
    path.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(path / f"{i:05d}.png")
    return str(path)


def test_equal_a_direct_call_of_torch_fidelity_on_saved_images(tmp_path):
    data, extractor = load(), digits()
    noisy = to_float(data.train[:500]) + 0.4 * torch.randn(500, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    generated, reference = to_bytes(noisy), data.test
    ours = fidelity(features_of(generated, extractor), features_of(reference, extractor))
    theirs = torch_fidelity.calculate_metrics(
        input1=save(generated, tmp_path / "generated"), input2=save(reference, tmp_path / "reference"),
        feature_extractor=extractor.get_name(), fid=True, kid=True, prc=True, cuda=False, cache=False, verbose=False,
        kid_subset_size=min(KID_SUBSET, len(generated), len(reference)), samples_shuffle=False,
    )  # fmt: skip
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], abs=1e-6)
    assert ours["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-6)
    assert ours["precision"] == pytest.approx(theirs["precision"], abs=1e-6)
    assert ours["recall"] == pytest.approx(theirs["recall"], abs=1e-6)
    assert ours["fid"] > 1  # the noise is seen


def test_exact_w2_is_pots_and_a_shift_is_its_length():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 1, 3, 3, generator=generator), torch.rand(50, 1, 3, 3, generator=generator)
    cost = ot.dist(x.flatten(1).double().numpy(), y.flatten(1).double().numpy())
    assert exact_w2(x, y) == pytest.approx(ot.emd2([], [], cost) ** 0.5, abs=1e-6)
    assert exact_w2(x, x + 0.5) == pytest.approx(0.5 * 9**0.5, rel=1e-5)


def test_gaussian_w2_of_commuting_covariances():
    """W2^2 = |m - n|^2 + sum (s_i - r_i)^2 for diagonal covariances, reached exactly by rescaled copies of
    one cloud.
    """
    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)).double()
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    s, r, c = torch.tensor([1.0, 2.0, 3.0, 0.5]), torch.tensor([2.0, 2.0, 1.0, 0.1]), torch.full((4,), 0.3)
    wanted = (c.square().sum() + (s - r).square().sum()).sqrt().item()
    assert gaussian_w2(x * s, x * r + c) == pytest.approx(wanted, rel=1e-5)
    # The diagonal map is optimal for the points themselves too, whose variance is 1 by the divisor 499.
    points = (c.square().sum() + (s - r).square().sum() * 499 / 500).sqrt().item()
    assert exact_w2(x * s, x * r + c) == pytest.approx(points, rel=1e-5)


def test_sliced_w2_in_one_dimension_is_sorting():
    x = torch.tensor([[3.0], [1.0], [2.0]])
    y = torch.tensor([[10.0], [12.0], [11.5]])
    wanted = np.sqrt(np.mean([(1 - 10) ** 2, (2 - 11.5) ** 2, (3 - 12) ** 2]))
    assert sliced_w2(x, y, torch.Generator().manual_seed(0)) == pytest.approx(wanted, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_distances_are_zero_on_copies_symmetric_and_ordered(seed, n):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(n, 3, generator=generator), torch.rand(n, 3, generator=generator)
    assert exact_w2(x, x.flip(0)) == pytest.approx(0, abs=1e-6)
    assert exact_w2(x, y) == pytest.approx(exact_w2(y, x), rel=1e-6)
    found = distances(x, y, torch.Generator().manual_seed(0), n)
    assert found["sw2"] <= found["w2"] + 1e-9


def test_authenticity_counts_copies():
    training = torch.arange(10.0)[:, None] * torch.ones(1, 2)
    assert authenticity(training + 1e-3, training) == 0
    assert authenticity(training + torch.tensor([100.0, -100.0]), training) == 1
    half = torch.cat([training[:5], training[:5] + torch.tensor([50.0, -50.0])])
    assert authenticity(half, training) == 0.5


def test_no_measure_touches_the_global_random_state():
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    data = load()
    features = features_of(data.test, digits())
    fidelity(features, features[:200])
    distances(to_float(data.test[:50]), to_float(data.train[:50]), torch.Generator().manual_seed(0), 50)
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()  # noqa: NPY002


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


def test_digits_are_split_once():
    data = load()
    assert [len(s) for s in (data.train, data.validation, data.test)] == [1077, 360, 360]
    for split, size in (("train", 1077), ("validation", 360), ("test", 360)):
        share = data.labels[split].bincount(minlength=10) / size
        assert (share - 0.1).abs().max() < 0.01  # stratified
    rows = torch.cat([data.train, data.validation, data.test]).flatten(1)
    assert len(rows.unique(dim=0)) == len(rows)  # so no image stands in two splits


def test_bytes_and_floats_round_trip():
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_bytes(to_float(every)), every)
    assert to_bytes(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_a_dataset_with_splits_of_different_sizes_is_refused():
    a, b = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, 1, 5, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="test must be uint8"):
        Dataset("odd", a, a, b)

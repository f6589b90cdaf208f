"""The measures against the libraries that define them, and against closed forms."""

import hashlib
import json
import random
import shutil

import numpy as np
import ot
import pytest
import torch
import torch_fidelity
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from priorbench import UserError
from priorbench.assets import folder
from priorbench.data.dataset import Dataset, to_bytes, to_float
from priorbench.data.digits import load
from priorbench.metrics.extractors import LAYER, from_folder
from priorbench.metrics.fidelity import KID_SUBSET, features_of, fidelity
from priorbench.metrics.loading import digits
from priorbench.metrics.memorisation import authenticity
from priorbench.metrics.wasserstein import distances, exact_w2, gaussian_w2, sliced_w2


def save(images, path):
    path.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(path / f"{i:05d}.png")
    return str(path)


@pytest.mark.parametrize("n", [500, 120])
def test_equal_a_direct_call_of_torch_fidelity_on_saved_images(tmp_path, n):
    """More images than the reference has, and fewer."""
    data, extractor = load(), digits()
    noisy = to_float(data.train[:n]) + 0.4 * torch.randn(
        n, 1, 8, 8, generator=torch.Generator().manual_seed(0)
    )
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
    x, y = (
        torch.randn(50, 1, 3, 3, generator=generator),
        torch.rand(50, 1, 3, 3, generator=generator),
    )
    cost = ot.dist(x.flatten(1).double().numpy(), y.flatten(1).double().numpy())
    assert exact_w2(x, y) == pytest.approx(ot.emd2([], [], cost) ** 0.5, abs=1e-6)
    assert exact_w2(x, x + 0.5) == pytest.approx(0.5 * 9**0.5, rel=1e-5)


def test_gaussian_w2_of_commuting_covariances():
    """W2^2 = |m - n|^2 + sum (s_i - r_i)^2 for diagonal covariances, reached exactly by rescaled
    copies of one cloud.
    """
    x = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)).double()
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    s, r, c = (
        torch.tensor([1.0, 2.0, 3.0, 0.5]),
        torch.tensor([2.0, 2.0, 1.0, 0.1]),
        torch.full((4,), 0.3),
    )
    wanted = (c.square().sum() + (s - r).square().sum()).sqrt().item()
    assert gaussian_w2(x * s, x * r + c) == pytest.approx(wanted, rel=1e-5)
    # The diagonal map is optimal for the points themselves too, whose variance is 1 by the divisor
    # 499.
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
    distances(
        to_float(data.test[:50]), to_float(data.train[:50]), torch.Generator().manual_seed(0), 50
    )
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


# --- fidelity, on features of its own ----------------------------------------------------------------------


def gaussian(n, d=3, seed=0, **like):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), **like)


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


# --- Wasserstein distances ---------------------------------------------------------------------------------

seeds = st.integers(0, 10**6)


def fixed_sw2(x, y):
    return sliced_w2(x, y, torch.Generator().manual_seed(0), 16)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, n=st.integers(2, 10), scale=st.floats(0.1, 10))
@pytest.mark.parametrize("distance", [exact_w2, gaussian_w2, fixed_sw2])
def test_metric_axioms(distance, seed, n, scale):
    """Of points for the first and third, of moments for the second."""
    x, y, z = (gaussian(n, seed=seed + i) * s for i, s in enumerate((1, 2, 0.5)))
    xy, yz, xz = distance(x, y), distance(y, z), distance(x, z)
    assert min(xy, yz, xz) > 1e-4
    assert xz <= xy + yz + 1e-6
    assert distance(y, x) == pytest.approx(xy, rel=1e-6)
    assert distance(x, x.flip(0)) == pytest.approx(0, abs=1e-5)
    assert distance(scale * x, scale * y) == pytest.approx(scale * xy, rel=1e-4)
    assert distance(x + 3, y + 3) == pytest.approx(xy, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, n=st.integers(3, 12))
def test_the_gaussian_distance_is_a_lower_bound(seed, n):
    """Gelbrich's bound, for the moments of the clouds themselves: the divisor n - 1 adds at most n
    / (n - 1).
    """
    x, y = gaussian(n, seed=seed), torch.rand(n, 3, generator=torch.Generator().manual_seed(seed))
    assert gaussian_w2(x, y) ** 2 <= exact_w2(x, y) ** 2 * n / (n - 1) + 1e-6


def test_gaussian_w2_of_commuting_covariances_that_are_not_diagonal():
    """A rotation common to both clouds changes nothing; a closed form with eigenvalues s^2 and r^2
    in any basis.
    """
    x = gaussian(500, 4).double()
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    rotation, _ = torch.linalg.qr(gaussian(4, 4, seed=1).double())
    s, r, c = (
        torch.tensor([1.0, 2.0, 3.0, 0.5]),
        torch.tensor([2.0, 2.0, 1.0, 0.0]),
        torch.full((4,), 0.3),
    )
    wanted = (c.square().sum() + (s - r).square().sum()).sqrt().item()
    # Another cloud with the same moments: only moments count.
    other = x.flip(0) * torch.tensor([1.0, -1.0, 1.0, -1.0])
    other = (other - other.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(other.T))).T
    assert gaussian_w2(x * s @ rotation, (other * r + c) @ rotation) == pytest.approx(
        wanted, rel=1e-4
    )


def test_gaussian_w2_of_fewer_points_than_dimensions():
    """Singular covariances, as those of digits are, whose corners are always white."""
    x = gaussian(5, 9)
    assert gaussian_w2(x, x + 1) == pytest.approx(3, rel=1e-4)
    assert gaussian_w2(torch.ones(4, 3), torch.zeros(4, 3)) == pytest.approx(3**0.5, rel=1e-6)


def test_exact_w2_of_unequal_sizes():
    """{0, 6} and {0, 3, 6}: a third of the mass stays at each end, and two sixths go 3 to the
    middle.
    """
    x, y = torch.tensor([[0.0], [6.0]]), torch.tensor([[6.0], [0.0], [3.0]])
    assert exact_w2(x, y) == pytest.approx(3**0.5)
    assert fixed_sw2(x, y) == pytest.approx(3**0.5)


def test_exact_w2_finds_the_best_pairing_and_not_the_given_one():
    """Two points that swap places: no distance; the nearest neighbour of both is one point: one has
    to go far.
    """
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert exact_w2(x, x.flip(0)) == 0
    assert exact_w2(x, torch.tensor([[1.0, 0.0], [5.0, 0.0]])) == pytest.approx(
        (17 / 2) ** 0.5
    )  # 1, 16 beats 0, 25


@pytest.mark.parametrize("c", [[2.0, 2, 2, 2], [2.0, -2, 2, -2], [0.0, 0, 4, 0]])
def test_sliced_w2_of_a_shift_is_its_mean_square_over_the_sphere(c):
    """The mean of <theta, c>^2 over uniform directions in R^d is |c|^2 / d, wherever c points."""
    x = gaussian(10, 4)
    found = sliced_w2(x, x + torch.tensor(c), torch.Generator().manual_seed(0), 50_000)
    assert found == pytest.approx(4 / 2, rel=0.01)


def test_the_directions_come_from_the_generator():
    x, y = gaussian(20), gaussian(20, seed=1)
    a, b, c = (sliced_w2(x, y, torch.Generator().manual_seed(s), 4) for s in (1, 1, 2))
    assert a == b != c


def test_exact_points_bound_the_linear_programme_alone():
    x, y = gaussian(30), gaussian(20, seed=1)
    found = distances(x, y, torch.Generator().manual_seed(0), 10)
    assert found["w2"] == exact_w2(x[:10], y[:10])
    assert found["sw2"] == sliced_w2(x, y, torch.Generator().manual_seed(0))
    assert found["w2_gaussian"] == gaussian_w2(x, y)
    assert distances(x, y, torch.Generator().manual_seed(0), 100)["w2"] == exact_w2(x[:20], y)


# --- authenticity ------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=seeds, n=st.integers(3, 30), jitter=st.sampled_from([0.0, 0.1, 0.4]))
def test_copies_are_found_through_jitter_below_half_the_gap(seed, n, jitter):
    training = gaussian(n, seed=seed).double()
    gap = torch.cdist(training, training).fill_diagonal_(float("inf")).min()
    step = torch.nn.functional.normalize(gaussian(n, seed=seed + 1).double(), dim=1) * jitter * gap
    assert authenticity(training + step, training) == 0
    assert authenticity(training + 1e3, training) == 1
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert authenticity(training[order], training[order.flip(0)]) == 0


def test_copies_of_a_training_set_with_duplicates_are_copies():
    """The neighbour of a duplicated image is at distance 0: Alaa et al. count a sample as authentic
    only if it is farther than that.
    """
    training = torch.arange(6.0)[:, None] * torch.ones(1, 2)
    assert authenticity(training, training.repeat(2, 1)) == 0


def test_fresh_draws_of_the_same_law_are_mostly_no_copies():
    assert 0.3 < authenticity(gaussian(400, seed=1), gaussian(400)) < 0.8


def test_authenticity_of_the_digits_splits():
    data, extractor = load(), digits()
    training = features_of(data.train, extractor)
    assert authenticity(training, training) == 0
    assert 0.4 < authenticity(features_of(data.test, extractor), training) < 0.8


# --- random state ------------------------------------------------------------------------------------------

X, Y = gaussian(12), gaussian(12, seed=1)
MEASURES = {
    "exact": lambda: exact_w2(X, Y),
    "gaussian": lambda: gaussian_w2(X, Y),
    "sliced": lambda: sliced_w2(X, Y, torch.Generator().manual_seed(0)),
    "authenticity": lambda: authenticity(X, Y),
    "fidelity": lambda: tuple(fidelity(X, Y).values()),
    "features": lambda: features_of(load().test[:20], digits()).sum().item(),
    "extractor": lambda: digits().classifier.last.weight.sum().item(),
    "digits": lambda: load().digest(),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_neither_changes_nor_reads_the_global_random_states(name):
    def states():
        numpy_state = np.random.get_state()  # noqa: NPY002
        return (
            torch.get_rng_state().tolist(),
            numpy_state[1].tolist(),
            numpy_state[2],
            random.getstate(),
        )

    before = states()
    first = MEASURES[name]()
    assert states() == before
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        assert MEASURES[name]() == first


# --- the extractor's folder --------------------------------------------------------------------------------


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


# --- digits ------------------------------------------------------------------------------------------------

DIGEST = "8662596594a310b4e5823dd824b62a4cfe31f8b25649e9a235bd800e6ae4d7f4"


def test_the_split_is_the_one_that_the_shipped_models_saw():
    assert load().digest() == DIGEST
    assert (
        json.loads((folder("digits/extractor") / "extractor.json").read_text())["dataset"] == DIGEST
    )
    assert DIGEST in (folder("digits/backbone") / "training.json").read_text()


def test_the_digest_sees_every_split_and_every_pixel():
    data = load()
    seen = {data.digest(), Dataset("d", data.train, data.test, data.validation).digest()}
    for split in ("train", "validation", "test"):
        splits = {s: getattr(data, s).clone() for s in ("train", "validation", "test")}
        splits[split][-1, 0, 4, 4] ^= 1
        seen.add(Dataset("d", **splits).digest())
    assert len(seen) == 5


def test_a_split_that_moved_is_refused(monkeypatch):
    import sklearn.model_selection

    real = sklearn.model_selection.train_test_split
    monkeypatch.setattr(
        "sklearn.model_selection.train_test_split",
        lambda *a, **k: real(*a, **(k | {"random_state": 1})),
    )
    with pytest.raises(UserError, match="splits digits otherwise"):
        load()


def test_every_image_of_scikit_learn_is_there_with_its_label():
    data = load()
    pixels, labels = load_digits(return_X_y=True)
    wanted = sorted(
        (tuple(np.rint(p * 255 / 16).astype(int)), int(k))
        for p, k in zip(pixels, labels, strict=True)
    )
    found = sorted(
        (tuple(image.flatten().tolist()), int(label))
        for split in ("train", "validation", "test")
        for image, label in zip(getattr(data, split), data.labels[split], strict=True)
    )
    assert found == wanted


def test_gaussian_w2_of_few_points_in_many_dimensions_is_pots():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(8, 60, generator=generator), 2 * torch.rand(10, 60, generator=generator) + 1
    moments = [m for p in (x.double(), y.double()) for m in (p.mean(0), torch.cov(p.T))]
    wanted = ot.gaussian.bures_wasserstein_distance(moments[0], moments[2], moments[1], moments[3])
    assert gaussian_w2(x, y) == pytest.approx(float(wanted), rel=1e-6)

"""The sliced Wasserstein loss against POT and against what is known in closed form."""

import ot
import pytest
import torch
from priorbench_ot import sliced_wasserstein
from priorbench_ot.loss import random_directions, sliced_power


def clouds(n=40, m=40, d=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(k, d, generator=generator, dtype=torch.float64) for k in (n, m))
    return x, 0.5 * y + 1, random_directions(30, d, generator).double()


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 60), (7, 40), (1, 5), (33, 32)])
def test_equals_pot(n, m, p):
    x, y, directions = clouds(n, m)
    theirs = ot.sliced_wasserstein_distance(x, y, projections=directions.T, p=p)
    assert sliced_wasserstein(x, y, directions=directions, p=p).item() == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("m", [6, 9])
def test_gradients(m):
    x, y, directions = clouds(6, m, 3)
    assert torch.autograd.gradcheck(
        lambda a, b: sliced_power(a, b, directions, 2), (x.requires_grad_(), y.requires_grad_())
    )


def test_a_translation_is_its_mean_square_along_the_directions():
    x, _, directions = clouds()
    c = torch.arange(6, dtype=torch.float64)
    found = sliced_wasserstein(x, x + c, directions=directions)
    assert found.item() == pytest.approx((directions @ c).square().mean().sqrt().item())


def test_zero_for_a_permuted_copy_and_symmetric():
    x, y, directions = clouds(40, 25)
    assert sliced_wasserstein(x, x.flip(0), directions=directions).item() == pytest.approx(0, abs=1e-12)
    there, back = (sliced_wasserstein(a, b, directions=directions).item() for a, b in ((x, y), (y, x)))
    assert there == pytest.approx(back)


def test_repeating_points_changes_nothing():
    """Unequal sizes: every point twice is the same measure."""
    x, y, directions = clouds(12, 30)
    once, twice = (sliced_wasserstein(z, y, directions=directions).item() for z in (x, x.repeat(2, 1)))
    assert once == pytest.approx(twice)


def test_the_generator_decides_and_the_global_state_is_untouched():
    x, y, _ = clouds()
    before = torch.get_rng_state()
    a, b, c = (
        sliced_wasserstein(x, y, n_projections=8, generator=torch.Generator().manual_seed(s)).item() for s in (1, 1, 2)
    )
    assert a == b != c
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("changes", "message"), [
    ({"p": 0.5}, "p must be at least 1, got 0.5"),
    ({"directions": None}, "directions or a generator"),
    ({"y": torch.zeros(3, 5)}, r"got \(40, 6\) and \(3, 5\)"),
    ({"directions": None, "generator": torch.Generator(), "n_projections": 0}, "at least 1, got 0"),
])  # fmt: skip
def test_errors(changes, message):
    x, y, directions = clouds()
    arguments = {"x": x, "y": y, "directions": directions} | changes
    with pytest.raises(ValueError, match=message):
        sliced_wasserstein(arguments.pop("x"), arguments.pop("y"), **arguments)

"""The sliced Wasserstein loss against POT and against what is known in closed form."""

import math

import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from priorbench_ot import sliced_wasserstein
from priorbench_ot.directions import make_directions
from priorbench_ot.loss import ascend, sliced_power
from priorbench_ot.sorting import sort_rows


def clouds(n=40, m=40, d=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(k, d, generator=generator, dtype=torch.float64) for k in (n, m))
    return x, 0.5 * y + 1, make_directions("gaussian", 30, d, generator).double()


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 60), (7, 40), (1, 5), (33, 32)])
def test_equals_pot(n, m, p):
    x, y, directions = clouds(n, m)
    theirs = ot.sliced_wasserstein_distance(x, y, projections=directions.T, p=p)
    assert sliced_wasserstein(x, y, directions=directions, p=p).item() == pytest.approx(
        float(theirs), rel=1e-5
    )


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
    assert sliced_wasserstein(x, x.flip(0), directions=directions).item() == pytest.approx(
        0, abs=1e-12
    )
    there, back = (
        sliced_wasserstein(a, b, directions=directions).item() for a, b in ((x, y), (y, x))
    )
    assert there == pytest.approx(back)


def test_repeating_points_changes_nothing():
    """Unequal sizes: every point twice is the same measure."""
    x, y, directions = clouds(12, 30)
    once, twice = (
        sliced_wasserstein(z, y, directions=directions).item() for z in (x, x.repeat(2, 1))
    )
    assert once == pytest.approx(twice)


def test_the_generator_decides_and_the_global_state_is_untouched():
    x, y, _ = clouds()
    before = torch.get_rng_state()
    a, b, c = (
        sliced_wasserstein(x, y, n_projections=8, generator=torch.Generator().manual_seed(s)).item()
        for s in (1, 1, 2)
    )
    assert a == b != c
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("changes", "message"), [
    ({"p": 0.5}, "p must be at least 1 and finite, got 0.5"),
    ({"directions": None}, "directions or a generator"),
    ({"y": torch.zeros(3, 5)}, r"got \(40, 6\) and \(3, 5\)"),
    ({"directions": None, "generator": torch.Generator(), "n_projections": 0}, "at least 1, got 0"),
])  # fmt: skip
def test_errors(changes, message):
    x, y, directions = clouds()
    arguments = {"x": x, "y": y, "directions": directions} | changes
    with pytest.raises(ValueError, match=message):
        sliced_wasserstein(arguments.pop("x"), arguments.pop("y"), **arguments)


# --- against POT, and properties ------------------------------------------------------------------

seeds, sizes, orders = st.integers(0, 10**6), st.integers(1, 25), st.sampled_from([1, 1.5, 2, 3])


@settings(max_examples=60, deadline=None)
@given(seed=seeds, n=sizes, m=sizes, d=st.integers(1, 8), p=orders)
def test_equals_pot_for_any_sizes(seed, n, m, d, p):
    x, y, directions = clouds(n, m, d, seed)
    weights = [torch.full((k,), 1 / k, dtype=torch.float64) for k in (n, m)]
    theirs = ot.sliced_wasserstein_distance(x, y, *weights, projections=directions.T, p=p)
    found = sliced_wasserstein(x, y, directions=directions, p=p)
    assert found.item() == pytest.approx(float(theirs), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
@pytest.mark.parametrize(("n", "m"), [(200, 200), (128, 50)])
def test_equals_pot_in_single_precision(n, m, p):
    x, y, directions = (z.float() for z in clouds(n, m, 64))
    weights = [torch.full((k,), 1 / k) for k in (n, m)]
    theirs = ot.sliced_wasserstein_distance(x, y, *weights, projections=directions.T, p=p)
    found = sliced_wasserstein(x, y, directions=directions, p=p)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(float(theirs), rel=1e-5)


def test_unequal_sizes_by_hand():
    """{0, 6} and {0, 3, 6}: two sixths of the mass go 3, the rest stays."""
    x, y, line = torch.tensor([[6.0], [0.0]]), torch.tensor([[3.0], [0.0], [6.0]]), torch.ones(1, 1)
    assert sliced_wasserstein(x, y, directions=line, p=1).item() == pytest.approx(1)
    assert sliced_wasserstein(x, y, directions=line, p=2).item() == pytest.approx(math.sqrt(3))
    assert sliced_wasserstein(x, y, directions=line, p=3).item() == pytest.approx(9 ** (1 / 3))


def test_the_mean_over_directions_stands_inside_the_root():
    """Along (1, 0) the distance is 3, along (0, 1) it is 4."""
    x, y = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    assert sliced_wasserstein(x, y, directions=torch.eye(2)).item() == pytest.approx(
        math.sqrt(12.5)
    )
    assert sliced_wasserstein(x, y, directions=torch.eye(2), p=1).item() == pytest.approx(3.5)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=sizes, m=sizes, p=orders, scale=st.floats(0.1, 10))
def test_metric_axioms(seed, n, m, p, scale):
    x, y, directions = clouds(n, m, 4, seed)
    z = clouds(7, 7, 4, seed + 1)[0]

    def distance(a, b):
        return sliced_wasserstein(a, b, directions=directions, p=p).item()

    assert distance(x, y) == pytest.approx(distance(y, x))
    assert distance(x, y) > 0
    assert distance(x, z) <= distance(x, y) + distance(y, z) + 1e-9
    assert distance(scale * x, scale * y) == pytest.approx(scale * distance(x, y))
    assert distance(x + 5, y + 5) == pytest.approx(distance(x, y), rel=1e-6)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert distance(x, x[order]) == pytest.approx(0, abs=1e-9)
    assert distance(x[order], y) == pytest.approx(distance(x, y))
    assert distance(x, x[order].repeat(3, 1)) == pytest.approx(0, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, n=sizes, m=sizes)
def test_grows_with_the_order(seed, n, m):
    x, y, directions = clouds(n, m, 3, seed)
    found = [sliced_wasserstein(x, y, directions=directions, p=p).item() for p in (1, 1.5, 2, 3)]
    assert all(a <= b + 1e-12 for a, b in zip(found[:-1], found[1:], strict=True))


@pytest.mark.parametrize("c", [[0.0] * 6, [1.0, 0, 0, 0, 0, 0], [1.0, -2, 3, -4, 5, -6]])
def test_a_translation_along_given_directions(c):
    x, _, directions = clouds()
    c = torch.tensor(c, dtype=torch.float64)
    found = sliced_wasserstein(x, x + c, directions=directions).item()
    assert found == pytest.approx((directions @ c).square().mean().sqrt().item(), abs=1e-12)


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
@pytest.mark.parametrize("m", [5, 8])
def test_gradients_of_the_distance(m, p):
    x, y, directions = clouds(5, m, 3)
    assert torch.autograd.gradcheck(
        lambda a, b: sliced_wasserstein(a, b, directions=directions, p=p),
        (x.requires_grad_(), y.requires_grad_()),
    )


def test_the_gradient_by_hand():
    """In one dimension d SW_2^2 / dx_i = 2 (x_i - its partner) / n, the partner by rank."""
    x = torch.tensor([[5.0], [1.0]], requires_grad=True)
    sliced_power(x, torch.tensor([[2.0], [9.0]]), torch.ones(1, 1), 2).backward()
    assert x.grad.flatten().tolist() == pytest.approx([5 - 9, 1 - 2])


def test_the_inputs_are_not_changed():
    x, y, directions = clouds(9, 5)
    copies = [z.clone() for z in (x, y, directions)]
    sliced_wasserstein(x, y, directions=directions)
    assert all(torch.equal(a, b) for a, b in zip(copies, (x, y, directions), strict=True))


# --- directions -----------------------------------------------------------------------------------


def test_directions_are_uniform_on_the_sphere():
    theta = make_directions("gaussian", 40_000, 3, torch.Generator().manual_seed(0))
    assert theta.shape == (40_000, 3)
    assert theta.norm(dim=1).sub(1).abs().max() < 1e-6
    assert theta.mean(0).abs().max() < 0.02
    assert (theta.T @ theta / len(theta) - torch.eye(3) / 3).abs().max() < 0.01
    # Archimedes: a coordinate of a uniform point of the sphere in R^3 is uniform on [-1, 1].
    assert torch.histc(theta[:, 0], 4, -1, 1).div(len(theta)).sub(0.25).abs().max() < 0.01


def test_left_out_directions_are_512_from_the_generator():
    x, y, _ = clouds()
    drawn = make_directions("gaussian", 512, 6, torch.Generator().manual_seed(3))
    wanted = sliced_wasserstein(x, y, directions=drawn)
    assert torch.equal(sliced_wasserstein(x, y, generator=torch.Generator().manual_seed(3)), wanted)
    few = sliced_wasserstein(x, y, generator=torch.Generator().manual_seed(3), n_projections=5)
    five = make_directions("gaussian", 5, 6, torch.Generator().manual_seed(3))
    assert torch.equal(few, sliced_wasserstein(x, y, directions=five))


def test_given_directions_leave_the_generator_alone():
    x, y, directions = clouds()
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    found = sliced_wasserstein(x, y, directions=directions, generator=generator, n_projections=3)
    assert torch.equal(found, sliced_wasserstein(x, y, directions=directions))
    assert torch.equal(before, generator.get_state())


def test_the_global_state_is_not_read():
    x, y, _ = clouds()
    with torch.random.fork_rng(devices=[]):
        found = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            found.append(
                sliced_wasserstein(
                    x, y, generator=torch.Generator().manual_seed(0), n_projections=4
                ).item()
            )
    assert found[0] == found[1]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "points",
    [torch.zeros(6), torch.zeros(0, 6), torch.zeros(2, 3, 6), torch.zeros(3, 5)],
    ids=lambda z: str(z.shape),
)
def test_points_of_another_shape_are_refused_on_either_side(points):
    x, _, directions = clouds()
    for pair in ((x, points), (points, x)):
        with pytest.raises(ValueError, match=r"must be \(N, d\) and \(M, d\)"):
            sliced_wasserstein(*pair, directions=directions)


@pytest.mark.parametrize("shape", [(30, 5), (6,), (0, 6), (2, 30, 6)], ids=str)
def test_directions_of_another_shape_are_refused(shape):
    x, y, _ = clouds()
    with pytest.raises(ValueError, match="directions"):
        sliced_wasserstein(x, y, directions=torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("p", [0, 0.99, -1, math.inf, math.nan])
def test_an_order_that_has_no_mean_is_refused(p):
    """Infinity too: a mean of infinite powers, taken to the power 0, would be 1 whatever the points
    are.
    """
    x, y, directions = clouds()
    with pytest.raises(ValueError, match=r"^p must be"):
        sliced_wasserstein(x, y, directions=directions, p=p)


@pytest.mark.parametrize("p", [1, 1.5, 2])
def test_whole_numbers_are_refused_or_measured(p):
    """Bytes of images: directions cut down to whole numbers would all be zero, and so would the
    distance.
    """
    x, y, directions = clouds()
    x, y = (10 * x).round(), (10 * y).round()
    wanted = sliced_wasserstein(x, y, directions=directions, p=p).item()
    try:
        found = sliced_wasserstein(x.long(), y.long(), directions=directions, p=p).item()
    except (ValueError, TypeError, RuntimeError):
        return
    assert found == pytest.approx(wanted, rel=1e-5)


def test_orthogonal_directions_are_orthogonal_in_blocks_and_uniform():
    theta = make_directions("orthogonal", 7, 5, torch.Generator().manual_seed(0)).double()
    assert (theta[:5] @ theta[:5].T - torch.eye(5)).abs().max() < 1e-6
    assert (theta[5:] @ theta[5:].T - torch.eye(2)).abs().max() < 1e-6
    few = make_directions("orthogonal", 2, 5, torch.Generator().manual_seed(0))
    assert few.shape == (2, 5)
    many = torch.cat(
        [make_directions("orthogonal", 3, 3, torch.Generator().manual_seed(s)) for s in range(3000)]
    )
    assert torch.histc(many[:, 0], 4, -1, 1).div(len(many)).sub(0.25).abs().max() < 0.02


def test_orthogonal_directions_are_a_way_to_draw_them():
    x, y, _ = clouds()
    given = make_directions("orthogonal", 12, 6, torch.Generator().manual_seed(4))
    found = sliced_wasserstein(
        x, y, directions="orthogonal", n_projections=12, generator=torch.Generator().manual_seed(4)
    )
    assert torch.equal(found, sliced_wasserstein(x, y, directions=given))
    with pytest.raises(ValueError, match="'gaussian' or 'orthogonal', got 'sideways'"):
        sliced_wasserstein(x, y, directions="sideways", generator=torch.Generator())


def test_ascent_finds_the_direction_that_tells_the_batches_apart():
    """Two clouds that differ along one axis of twenty: the max-sliced distance is the shift."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 20, generator=generator)
    y = x + 3 * torch.eye(20)[4]
    start = make_directions("gaussian", 8, 20, generator)
    found = ascend(x, y, start, steps=20)
    assert found.norm(dim=1).sub(1).abs().max() < 1e-5
    assert found[:, 4].abs().min() > 0.95
    assert sliced_wasserstein(x, y, directions=found) > 2.5 * sliced_wasserstein(
        x, y, directions=start
    )


# --- chunks, precision, sorting -------------------------------------------------------------------


@pytest.mark.parametrize("m", [40, 23])
@pytest.mark.parametrize("chunk", [1, 7, 30, 100])
def test_chunks_change_memory_and_nothing_else(m, chunk):
    x, y, directions = clouds(40, m)
    results = []
    for size in (None, chunk):
        a, b, theta = (z.clone().requires_grad_() for z in (x, y, directions))
        value = sliced_wasserstein(a, b, directions=theta, chunk=size)
        value.backward()
        results.append([value.detach(), a.grad, b.grad, theta.grad])
    for whole, pieces in zip(*results, strict=True):
        assert torch.allclose(whole, pieces, rtol=1e-12, atol=1e-14)


def test_gradients_in_the_directions():
    x, y, directions = clouds(6, 9, 3)
    theta = directions[:4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: sliced_power(x, y, t, 2), (theta,))


def test_nothing_of_the_size_of_the_projections_is_kept():
    """What the graph holds after the forward pass is the gradient, not 2,000 projections of every
    point.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 4, generator=generator).requires_grad_()
    y = torch.randn(60, 4, generator=generator)
    value = sliced_power(x, y, make_directions("gaussian", 2000, 4, generator), chunk=16)
    kept = [g for g in value.grad_fn.gradients if g is not None]
    assert [tuple(g.shape) for g in kept] == [(50, 4)]


def test_projections_in_half_precision_are_near():
    x, y, directions = (z.float() for z in clouds(200, 150, 16))
    x.requires_grad_()
    exact = sliced_wasserstein(x, y, directions=directions)
    (wanted,) = torch.autograd.grad(exact, x)
    half = sliced_wasserstein(x, y, directions=directions, dtype=torch.bfloat16)
    (found,) = torch.autograd.grad(half, x)
    assert half.dtype == found.dtype == torch.float32
    assert half.item() == pytest.approx(exact.item(), rel=2e-2)
    assert torch.nn.functional.cosine_similarity(found.flatten(), wanted.flatten(), dim=0) > 0.99


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40),
    st.integers(1, 5),
    st.booleans(),
)
def test_rows_are_sorted_as_torch_sorts_them(values, rows, order):
    """Infinities, subnormal numbers, zeros of both signs and ties included."""
    x = torch.tensor([values] * rows)
    x = torch.stack([row.roll(i) for i, row in enumerate(x)])
    found, places = sort_rows(x, order)
    assert torch.equal(found, x.sort(dim=1).values)
    assert (places is None) is not order
    if order:
        assert torch.equal(x.gather(1, places), found)
        assert torch.equal(places.sort(dim=1).values, torch.arange(len(values)).expand(rows, -1))


def test_many_rows_are_sorted_by_threads():
    x = torch.randn(300, 700, generator=torch.Generator().manual_seed(0))
    found, places = sort_rows(x, True)
    assert torch.equal(found, x.sort(dim=1).values)
    assert torch.equal(x.gather(1, places), found)


def test_a_value_that_is_no_number_makes_the_distance_none():
    x, y, directions = (z.float() for z in clouds())
    x[3, 2] = float("nan")
    assert sliced_wasserstein(x, y, directions=directions).isnan()

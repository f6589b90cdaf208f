"""Shards: every cell belongs to one, and what shares a fit is not divided."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from priorbench import UserError
from priorbench.plan.layout import read_plan
from priorbench.plan.shards import WHOLE, Shard

SETS = ["priors=[gaussian,mixture,vae,gan]", "n_samples=100", "t_trunc=[100,200,400]", "seeds=5"]


@pytest.fixture(scope="module")
def cells():
    return read_plan("digits", {}, SETS).cells


@settings(max_examples=20)
@given(count=st.integers(1, 150))
def test_every_cell_belongs_to_one_shard(cells, count):
    parts = [Shard(k, count).of(cells) for k in range(1, count + 1)]
    titles = [spec.long_title for part in parts for spec in part]
    assert sorted(titles) == sorted(spec.long_title for spec in cells)
    for part in parts:
        assert part == [spec for spec in cells if spec in part], "the order is kept"


@settings(max_examples=11)
@given(count=st.integers(2, 12))
def test_shards_are_about_equal_and_no_prior_has_one_to_itself(cells, count):
    sizes = [len(Shard(k, count).of(cells)) for k in range(1, count + 1)]
    assert max(sizes) - min(sizes) <= 3  # the cells of a shared fit are three
    for k in range(1, count + 1):
        assert len({spec.prior for spec in Shard(k, count).of(cells)}) > 1


@settings(max_examples=20)
@given(count=st.integers(2, 50))
def test_the_cells_of_a_shared_fit_are_together(cells, count):
    owner = {}
    for k in range(1, count + 1):
        for spec in Shard(k, count).of(cells):
            if spec.prior in ("vae", "mixture", "oracle"):
                owner.setdefault((spec.prior, spec.seed), set()).add(k)
    assert all(len(shards) == 1 for shards in owner.values())


def test_what_is_added_to_cells_later_does_not_move_them(cells):
    """Rivals that a fitted prior asks for are other settings of the same cells."""
    plan = read_plan("digits", {}, SETS)
    later = plan.matched([7]).cells
    assert [spec.title for spec in Shard(2, 5).of(later)] == [
        spec.title for spec in Shard(2, 5).of(cells)
    ]
    assert WHOLE.of(cells) == cells


@pytest.mark.parametrize("text", ["2/8", " 1/1 ", "8/8"])
def test_shards_are_read(text):
    shard = Shard.parse(text)
    assert f"{shard.number}/{shard.count}" == text.strip()
    assert shard.name == ("" if shard.count == 1 else text)


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "-1/3", "a/b", "1/2/3", "1.5/2", "1/0"])
def test_what_is_no_shard_is_named(text):
    with pytest.raises(UserError, match="--shard takes K/N with K from 1 to N, such as 2/8, got"):
        Shard.parse(text)

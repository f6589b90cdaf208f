"""What a prior has stored, by the split that it comes from, and the noise level of its x_t."""

import numpy as np
import pytest
import torch
from helpers.draws import generator, normal

from priorbench.metrics.leakage import NoiseLevel, Stored, quiet_directions

SPLITS = {"train": 400, "validation": 100, "test": 150}


@pytest.fixture(scope="module")
def world():
    """Images of three splits of one law, and draws with noise at signal 0.8."""
    images = {
        s: 0.5 * normal(n, 36, i).view(-1, 1, 6, 6).float()
        for i, (s, n) in enumerate(SPLITS.items())
    }

    def noised(x, seed):
        return 0.8 * x + 0.6 * torch.randn(x.shape, generator=generator(seed))

    draws = {
        s: noised(x.repeat(-(-800 // len(x)), 1, 1, 1)[:800], 10 + i)
        for i, (s, x) in enumerate(images.items())
    }
    return (
        images,
        noised,
        Stored({s: 0.8 * x for s, x in images.items()}, draws),
        Stored(images, images),
    )


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_stored_is_told_by_its_split(world, split):
    images, noised, at_t, clean = world
    x = images[split].repeat(20, 1, 1, 1)[:800]
    for found in (at_t.judge(noised(x, 99)), clean.judge(x)):
        assert found[f"stored_{split}"] == pytest.approx(1, abs=0.25)
        assert all(found[f"stored_{s}"] < 0.3 for s in SPLITS if s != split)


def test_what_nobody_stored_is_not(world):
    _, noised, at_t, clean = world
    fresh = 0.5 * normal(800, 36, 77).view(-1, 1, 6, 6).float()
    for found in (at_t.judge(noised(fresh, 98)), clean.judge(fresh)):
        assert all(abs(found[f"stored_{s}"]) < 0.25 for s in SPLITS)
        assert found["distinct"] == 1


def test_a_blurred_law_is_not_taken_for_a_stored_one(world):
    """The mean image is nearer to every training image than they are to each other, and as near to
    every test image.
    """
    *_, clean = world
    found = clean.judge(0.05 * normal(800, 36, 78).view(-1, 1, 6, 6).float())
    assert all(abs(found[f"stored_{s}"]) < 0.3 for s in SPLITS)


def test_near_pure_noise_nothing_can_be_told(world):
    images, *_ = world
    draws = {s: torch.randn(500, 1, 6, 6, generator=generator(i)) for i, s in enumerate(SPLITS)}
    found = Stored({s: 0.01 * x for s, x in images.items()}, draws).judge(draws["train"])
    assert all(np.isnan(found[f"stored_{s}"]) for s in SPLITS)


def test_repeated_samples_are_not_distinct(world):
    images, noised, at_t, _ = world
    once = noised(images["train"][:10], 5)
    assert at_t.judge(once.repeat(30, 1, 1, 1))["distinct"] == 0
    assert at_t.judge(torch.cat([once, noised(images["train"], 6)]))["distinct"] == 1
    near = once[:1] + torch.linspace(0, 1, 5).view(-1, 1, 1, 1) * at_t.apart * torch.eye(36)[
        0
    ].view(1, 1, 6, 6)
    assert at_t.judge(near)["distinct"] == 1  # a quarter of the least distance apart
    assert at_t.judge(once[:1] + 0.3 * (near - once[:1]))["distinct"] == 0


@pytest.mark.parametrize("level", [0.8, 1.0, 1.25])
def test_the_noise_level_is_a_ratio_of_variances(level):
    """Images that vary in 27 of 36 directions only: in the others x_t is nothing but noise."""
    flat = torch.zeros(500, 36)
    flat[:, :27] = normal(500, 27, 0).float()
    draws = 0.8 * flat + 0.6 * normal(500, 36, 1).float()
    judge = NoiseLevel(quiet_directions(flat.view(-1, 1, 6, 6)), draws.view(-1, 1, 6, 6))
    found = judge.judge(
        (0.8 * flat + 0.6 * level**0.5 * normal(500, 36, 2).float()).view(-1, 1, 6, 6)
    )
    assert found["noise_xt"] == pytest.approx(level, abs=5 * found["noise_se"] * level)
    assert found["noise_se"] == pytest.approx((2 / 9 * (2 / 500)) ** 0.5)

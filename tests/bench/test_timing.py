"""Seconds of draws, on a clock that the test sets."""

import pytest
import torch

from priorbench.bench import timing


def scripted(monkeypatch, seconds):
    """A clock on which each draw takes as long as the script says."""
    readings = iter([t for s in seconds for t in (0.0, s)])
    monkeypatch.setattr(timing, "clock", lambda device: next(readings))


def test_the_whole_draw_is_charged(monkeypatch):
    """A first call that works ahead is no warm-up: 4 s for 10 images, not the median batch's."""
    scripted(monkeypatch, [3.7, 0.1, 0.2])
    calls = []
    draw = lambda n, generator: calls.append(n) or torch.zeros(n, 1)  # noqa: E731
    x, found = timing.timed(draw, torch.Generator(), 10, 4, torch.device("cpu"))
    assert (len(x), calls) == (10, [4, 4, 2])
    assert found.total == pytest.approx(4.0)
    assert found.batches == pytest.approx([3.7 / 4, 0.1 / 4])


def test_a_chain_is_timed_by_three_batches_at_least(monkeypatch):
    scripted(monkeypatch, [1.0, 2.0, 3.0])
    x, found = timing.timed(
        lambda n, g: torch.zeros(n, 1), torch.Generator(), 5, 5, torch.device("cpu"), least=3
    )
    assert len(x) == 5
    assert found.batches == pytest.approx([0.2, 0.4, 0.6])
    assert found.total == 1.0

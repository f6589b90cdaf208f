"""The nearest of many images."""

import pytest
import torch

from priorbench.metrics.neighbours import nearest, nearest_distances


def test_nearest_distances_by_hand():
    points, among = torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0], [5.0]])
    assert nearest_distances(points, among).tolist() == pytest.approx([1, 2])


def test_the_nearest_training_image_is_the_nearest():
    features = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    assert nearest(features[[4, 17, 2]] + 1e-3, features).tolist() == [4, 17, 2]

"""Images as bytes and as floats, in splits of one shape."""

import pytest
import torch

from priorbench.data.dataset import Dataset, to_bytes, to_float


def test_bytes_and_floats_round_trip():
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_bytes(to_float(every)), every)
    assert to_bytes(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_a_dataset_with_splits_of_different_sizes_is_refused():
    a, b = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, 1, 5, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="test must be uint8"):
        Dataset("odd", a, a, b)

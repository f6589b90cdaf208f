"""Shared by the tests of trainings."""

import pytest
import torch

from priorbench import Dataset


@pytest.fixture
def data():
    images = torch.randint(0, 256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    return Dataset("noise", images[:20], images[20:30], images[30:])

"""The networks that priors are made of."""

import pytest
import torch
from torch import nn

from priorbench import decoder, encoder
from priorbench.networks import SMALL, halvings

SHAPES = [(1, 8, 8), (3, 9, 7), (1, 28, 28), (3, 32, 32), (1, 33, 47), (2, 35, 90), (3, 64, 64)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_decoder_makes_images_of_any_size_and_an_encoder_reads_them(shape):
    make, read = decoder(shape, 5, width=64), encoder(shape, 3, width=64)
    x = make(torch.zeros(2, 5))
    assert x.shape == (2, *shape)
    assert read(x).shape == (2, 3)
    for network in (make, read):
        convolutional = any(isinstance(m, nn.Conv2d) for m in network.modules())
        assert convolutional == (min(shape[1:]) >= SMALL)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 36)])
def test_the_last_layer_of_a_decoder_is_linear_or_a_convolution(shape):
    """Priors set it to zero to start from a closed form."""
    make = decoder(shape, 5, width=64)
    last = list(make.modules())[-1 if min(shape[1:]) >= SMALL else -2]
    assert isinstance(last, nn.Linear | nn.Conv2d)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    assert make(torch.ones(2, 5)).abs().max() == 0


def test_sizes_are_halved_and_rounded_up():
    assert halvings(33, 90) == [(33, 90), (17, 45), (9, 23), (5, 12)]

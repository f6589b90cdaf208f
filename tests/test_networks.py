"""The networks that priors are made of."""

import pytest
import torch
from torch import nn

from priorbench import FitRun, cosine, decoder, encoder
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


def rates_of(run, own, full):
    """The learning rate at each step of a fit that asks for a rate of 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    schedule, rates = cosine(optimizer, run, own, full), []
    for _ in run.steps(own):
        rates += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    return torch.tensor(rates)


@pytest.mark.parametrize(("full", "start"), [(None, 1.0), (100, 0.5), (400, 1.0), (900, 1.0)])
def test_a_rate_falls_along_a_cosine_that_begins_lower_beyond_full(full, start):
    """Four times as long as ``full``, a fit begins at half of the rate."""
    wanted = (1 + torch.cos(torch.pi * torch.arange(400) / 400)) / 2 * start
    for run, own in ((FitRun(torch.Generator(), budget=400), 7), (FitRun(torch.Generator()), 400)):
        assert torch.allclose(rates_of(run, own, full), wanted, atol=1e-5)
    assert rates_of(FitRun(torch.Generator(), budget=100), 7, full)[0] == 1


def test_a_share_of_the_steps_has_the_whole_cosine():
    rates = rates_of(FitRun(torch.Generator(), own_share=0.25), 400, None)
    assert len(rates) == 100
    assert rates[-1] < 1e-3


def test_by_the_clock_a_rate_follows_what_is_known_of_the_length():
    run = FitRun(torch.Generator(), deadline=float("inf"))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    schedule = cosine(optimizer, run, 7, full=100)
    for share, total, wanted in ((0.0, 50, 1.0), (0.0, 400, 0.5), (0.5, 400, 0.25), (1.0, 90, 0.0)):
        run.share, run.total = share, total
        optimizer.step()
        schedule.step()
        assert schedule.get_last_lr()[0] == pytest.approx(wanted)

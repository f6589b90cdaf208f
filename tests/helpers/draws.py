"""Draws from the normal law, by a seed."""

import torch


def normal(n, d, seed, scale=1.0, shift=0.0):
    return shift + scale * torch.randn(
        n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(n, d=3, seed=0, **like):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), **like)

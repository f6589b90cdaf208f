"""Built-in priors, fitted quickly, and images of two kinds to fit them to."""

import torch

from helpers.models import QUICK
from priorbench import FitRun, randn
from priorbench.plugin_manager import load_plugins


def make(name, **params):
    return load_plugins().find("prior", name).load()(**(QUICK[name] | params))


def fitted(name, marginal, seed=0, **params):
    prior = make(name, **params)
    prior.fit(marginal, FitRun(torch.Generator().manual_seed(seed)))
    return prior


def draw(prior, n, seed=1):
    return prior.sample(n, torch.Generator().manual_seed(seed))


def blobs(n, seed, spread=0.05):
    """Images of two kinds, bright and dark, in equal numbers."""
    g = torch.Generator().manual_seed(seed)
    return (torch.arange(n) % 2 * 1.6 - 0.8).view(-1, 1, 1, 1) + spread * randn((n, 1, 8, 8), g)

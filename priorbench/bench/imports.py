"""Everything slow that a cell imports, for the process that workers are forked from."""

import gc

import diffusers
import ot
import sklearn.mixture
import torch.utils.data
import torch_fidelity
from diffusers import UNet2DModel

from . import work

__all__ = ["UNet2DModel", "diffusers", "ot", "sklearn", "torch", "torch_fidelity", "work"]

# What is imported is never garbage: neither workers nor the end of the process need look for any.
gc.freeze()

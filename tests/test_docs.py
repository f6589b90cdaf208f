"""The priors that the documentation shows do what it says."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import priorbench
from priorbench import FitRun
from priorbench.plugin_manager import Plugins

ROOT = Path(priorbench.__file__).parents[1]


@pytest.mark.parametrize(("page", "name"), [("README.md", "mine"), ("docs/plugins.md", "resampler")])
def test_the_shown_plugin_registers_fits_and_samples(page, name, marginal, monkeypatch):
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S) if "hookimpl" in b]
    module = ModuleType("my_prior")
    monkeypatch.setitem(sys.modules, "my_prior", module)
    exec(compile(block, page, "exec"), module.__dict__)
    plugins = Plugins()
    plugins.add(module, "shown", "shown", "1")
    prior = plugins.find("prior", name).load()()
    prior.fit(marginal, FitRun(torch.Generator().manual_seed(0)))
    assert prior.sample(5, torch.Generator().manual_seed(1)).shape == (5, 1, 8, 8)
    assert list(prior.params()) == ["width"]

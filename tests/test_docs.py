"""The documentation does what it says: its blocks are run, and nothing that plugins can do is left
out of it.
"""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import priorbench
from priorbench import FitRun, hookspecs
from priorbench.plugin_manager import Plugins

ROOT = Path(priorbench.__file__).parents[1]
PAGE = (ROOT / "docs/plugins.md").read_text()
HOOKS = {name: f for name, f in vars(hookspecs).items() if hasattr(f, "priorbench_spec")}


def test_the_plugin_of_the_readme_registers_fits_and_samples(marginal, monkeypatch):
    (block,) = [
        b
        for b in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
        if "hookimpl" in b
    ]
    module = ModuleType("my_prior")
    monkeypatch.setitem(sys.modules, "my_prior", module)
    exec(compile(block, "README.md", "exec"), module.__dict__)
    plugins = Plugins()
    plugins.add(module, "shown", "shown", "1")
    prior = plugins.find("prior", "mine").load()()
    prior.fit(marginal, FitRun(torch.Generator().manual_seed(0)))
    assert prior.sample(5, torch.Generator().manual_seed(1)).shape == (5, 1, 8, 8)
    assert list(prior.params()) == ["width"]


def test_every_block_of_the_tutorial_runs(tmp_path):
    """Files are written under the name in their first line, shell blocks run, in the order of the
    page.
    """
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "priorbench").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m priorbench "$@"\n')
    (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    folder = tmp_path / "work"
    folder.mkdir()
    path = os.pathsep.join(
        [str(ROOT), str(ROOT / "plugins"), str(folder), str(folder / "my-prior")]
    )
    environment = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": path,
        "COLUMNS": "160",
    }
    printed, shells = "", 0
    for language, block in re.findall(r"```(\w+)\n(.*?)```", PAGE, re.S):
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", block)
            assert name, block
            (folder / name[1]).write_text(block)
        elif language == "sh":
            shells += 1
            done = subprocess.run(
                ["bash", "-e", "-c", block],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, block + done.stdout + done.stderr
            printed += done.stdout
        else:
            assert language == "toml"
            assert block in (folder / "my-prior/pyproject.toml").read_text()
    assert shells == 5
    assert "hello world" in printed
    assert "torch.Size([3, 1, 8, 8])" in printed
    assert "all 16 checks are as they should be" in printed
    for name in ("resampler", "resampler[width=1.0]", "gaussian", "6 cells to come", "18 rows"):
        assert name in printed


def test_no_hook_and_no_argument_is_undocumented():
    assert len(HOOKS) >= 10
    examples = "".join(re.findall(r"```python\n(.*?)```", PAGE, re.S))
    for name, hook in HOOKS.items():
        arguments = ", ".join(inspect.signature(hook).parameters)
        assert (
            f"`{name}({arguments})" in PAGE
            or f"{name}({arguments})`" in PAGE
            or name == "register_priors"
        ), name
        assert f"def {name}({arguments}):" in examples, f"no example implements {name}"
        assert hook.__doc__
    signature = inspect.signature(hookspecs.Register.__call__)
    for argument in list(signature.parameters)[1:]:
        assert re.search(rf"register\([^)]*{argument}", PAGE), argument


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target

"""The documentation does what it says: its blocks are run, its links lead somewhere, and nothing
that users can do is left out of it.
"""

import inspect
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import click
import jsonschema
import pytest
import ray
import torch
import yaml

import priorbench
from priorbench import FitRun, hookspecs
from priorbench.cli import cli
from priorbench.plan.config import RunConfig
from priorbench.plan.mistakes import problems_of
from priorbench.plan.reading import make_config
from priorbench.plugin_manager import Plugins
from priorbench.tables.columns import ROLES, SCHEMA

ROOT = Path(priorbench.__file__).parents[1]
PAGE = (ROOT / "docs/plugins.md").read_text()
README = (ROOT / "README.md").read_text()
HOOKS = {name: f for name, f in vars(hookspecs).items() if hasattr(f, "priorbench_spec")}
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "plugins/*/README.md", "priorbench/assets/**/README.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)
WIDTH = 200  # characters of a line of prose; one sentence a line keeps far below it


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


def without_code(text):
    """Markdown without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)


def test_the_plugin_of_the_readme_registers_fits_and_samples(marginal, monkeypatch):
    (block,) = [b for b in blocks(README, "python") if "hookimpl" in b]
    module = ModuleType("my_prior")
    monkeypatch.setitem(sys.modules, "my_prior", module)
    exec(compile(block, "README.md", "exec"), module.__dict__)
    plugins = Plugins()
    plugins.add(module, "shown", "shown", "1")
    prior = plugins.find("prior", "mine").load()()
    prior.fit(marginal, FitRun(torch.Generator().manual_seed(0)))
    assert prior.sample(5, torch.Generator().manual_seed(1)).shape == (5, 1, 8, 8)
    assert list(prior.params()) == ["width"]


def test_the_other_python_of_the_readme_runs(tmp_path, monkeypatch):
    """With less of everything; the block for diffusers after the export that it needs."""
    monkeypatch.chdir(tmp_path)
    less = {"full_chain.steps": 2, "rivals": [], "rival_timesteps": ["uniform"]}
    less |= {"controls": ["noise"], "solver": "dpm++", "n_validation": 20}
    small = partial(
        priorbench.run, priors=["ot"], t_trunc=200, n_samples=100, steps=2, fit_budget="1 steps",
        settings=less, report=False,
    )  # fmt: skip
    monkeypatch.setattr(priorbench, "run", small)
    there, here = (b for b in blocks(README, "python") if "hookimpl" not in b)
    names = {}
    exec(compile(here, "README.md", "exec"), names)
    assert set(names["table"].prior) == {"ot", "noise"}
    assert names["sampler"].prior.emits == "x_0"  # the default of ot
    assert names["x_0"].shape == (16, 1, 8, 8)
    priorbench.save_pipeline(names["sampler"], "winner")
    check = f"{there}\nprint(len(images), images[0].size)"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True,
        env=os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")},
    )  # fmt: skip
    assert done.stdout == "16 (8, 8)\n"


def run_blocks(page, folder):
    """What the shell blocks of a page print, in its order; Python is written to the file in its
    first line.
    """
    tools, work = folder / "bin", folder / "work"
    tools.mkdir()
    work.mkdir()
    (tools / "priorbench").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m priorbench "$@"\n')
    (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins"), str(work), str(work / "my-prior")])
    environment = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": path,
        "COLUMNS": "160",
        "HF_MODULES_CACHE": str(folder / "modules"),
    }
    printed = []
    for language, block in re.findall(r"```(\w+)\n(.*?)```", page, re.S):
        if language == "python":
            name = re.match(r"# (\w+\.py)\n", block)
            assert name, block
            (work / name[1]).write_text(block)
        elif language == "sh":
            done = subprocess.run(
                ["bash", "-e", "-c", block], cwd=work, env=environment, capture_output=True,
                text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, block + done.stdout + done.stderr
            printed.append(done.stdout)
        else:
            assert language == "toml"
            assert block in (work / "my-prior/pyproject.toml").read_text()
    return printed


@pytest.mark.slow
def test_every_block_of_the_tutorial_runs(tmp_path):
    shells = run_blocks(PAGE, tmp_path)
    printed = "".join(shells)
    assert len(shells) == 6
    assert "1 passed, 3 deselected" in printed
    assert "hello world" in printed
    assert "torch.Size([3, 1, 8, 8])" in printed
    assert "all 18 checks are as expected" in printed
    for name in ("resampler", "resampler[width=1.0]", "gaussian", "7 cells to come", "24 rows"):
        assert name in printed


@pytest.mark.slow
def test_every_block_of_the_page_on_sampling_runs(tmp_path):
    page = (ROOT / "docs/sampling.md").read_text()
    _, commands, sampled, by_hand, export, elsewhere = run_blocks(page, tmp_path)
    assert "16 images by seed 0" in commands
    assert "1000 images by seed 0" in commands
    assert "Picked" in sampled
    assert sampled.count("torch.Size([250, 1, 8, 8])") == 4
    assert "x_0 200 digits 0" in by_hand
    assert "torch.Size([16, 1, 8, 8])" in by_hand
    assert export.endswith("winner\n")
    assert elsewhere == "16 (8, 8)\n"
    assert len(list((tmp_path / "work/samples").iterdir())) == 17


CLUSTER = (ROOT / "docs/cluster.md").read_text()


@pytest.mark.parametrize("script", blocks(CLUSTER, "sh"))
def test_the_scripts_for_schedulers_are_bash(script, tmp_path):
    """With a priorbench that notes how it is called."""
    tool = tmp_path / "priorbench"
    tool.write_text('#!/bin/sh\necho "$@" >> called\n')
    (tmp_path / "srun").write_text('#!/bin/sh\nexec "$@"\n')
    for path in tmp_path.iterdir():
        path.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "4"}
    subprocess.run(
        ["bash", "-eu", "-c", script], check=True, cwd=tmp_path,
        env=environment | {"SLURM_ARRAY_TASK_ID": "3"},
    )  # fmt: skip
    called = (tmp_path / "called").read_text().splitlines()
    shards = sorted(words.rpartition("--shard ")[2] for words in called if "--shard" in words)
    assert shards in (["3/8"], ["1/2", "2/2"])
    assert len(called) == len(shards) + (len(shards) > 1)  # the second script collects too
    for words in called:
        context = click.Context(cli)
        run = cli.get_command(context, "run")
        assert run.make_context("run", words.split()[1:], resilient_parsing=True)


def test_the_configs_of_the_page_on_clusters_are_valid():
    executor, cluster = (yaml.safe_load(block) for block in blocks(CLUSTER, "yaml"))
    config = make_config(executor | {"name": "shown"})
    assert config.executor_options == {"num_cpus": 4, "num_gpus": 0.5}
    assert problems_of(config) == []
    schema = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    jsonschema.validate(cluster, json.loads(schema.read_text()))
    assert "bogus" not in cluster
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster | {"bogus": 1}, json.loads(schema.read_text()))


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


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """To a file that exists, and to a heading of it where one is named."""
    path = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text())):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file if file else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text()), target


def anchors(text):
    """The anchors of a page's headings, as GitHub and the site name them."""
    headings = re.findall(r"^#+ (.*)$", without_code(text), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES)
def test_lines_of_prose_are_short_and_hold_one_sentence(page):
    for line in without_code((ROOT / page).read_text()).splitlines():
        if not line.startswith(("|", "    ", "![")):
            assert len(line) <= WIDTH, line
            assert not re.search(r"[^\d\s][.?!] [A-Z`]", line), line


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page):
    """Every line of code that begins with priorbench."""
    text = (ROOT / page).read_text()
    for line in re.findall(r"^(?: {4})?priorbench ([a-z].*)$", text, re.M):
        words = shlex.split(line, comments=True)
        if words[0] == "greet":  # the command of a plugin
            continue
        command, context = cli, click.Context(cli)
        while isinstance(command, click.Group):
            command = command.get_command(context, words.pop(0))
            assert command, line
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        known |= {"--plugin", "--plugins-dir"}  # anywhere on the command line
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, line


@pytest.mark.parametrize("page", PAGES)
def test_files_of_the_repository_that_are_named_exist(page):
    """Such as `tests/test_docs.py`."""
    text = (ROOT / page).read_text()
    for path in re.findall(r"`((?:tests|benchmarks|configs|priorbench|plugins)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"`make ([a-z-]+)`", text):
        rule = rf"^([\w-]+ )*{target}( [\w-]+)*:"
        assert re.search(rule, (ROOT / "Makefile").read_text(), re.M), target


def test_every_column_has_a_meaning_and_is_on_its_page():
    for column in SCHEMA:
        assert re.fullmatch(r"[^|\n]{3,}[.]", column.meaning), column.name
        assert set(column.roles.split()) <= ROLES.keys(), column.name
    site = runpy.run_path(str(ROOT / "docs/conf.py"))
    columns, roles = site["column_table"](), site["role_table"]()
    shown = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", columns, re.M)
    assert shown == [(c.name, c.meaning, c.roles.replace(" ", ", ")) for c in SCHEMA]
    assert re.findall(r"^\| (\w+) \| The column ", roles, re.M) == list(ROLES)
    assert site["myst_substitutions"] == {"columns": columns, "roles": roles}
    for placeholder in ("{{ columns }}", "{{ roles }}"):
        assert f"\n{placeholder}\n" in (ROOT / "docs/columns.md").read_text()


def test_every_public_name_is_on_the_page_of_the_api():
    text = (ROOT / "docs/api.md").read_text()
    for name in priorbench.__all__:
        assert re.search(rf"^\.\. (auto)?\w+:: {name}\b", text, re.M), name


def test_every_key_and_preset_is_in_the_reference():
    text = (ROOT / "docs/reference.md").read_text()
    rows = ", ".join(re.findall(r"^\| ([^|]*) \|", text, re.M)).split(", ")
    for key in RunConfig.model_fields:
        assert key in rows, key
    for preset in (ROOT / "configs").glob("*.yaml"):
        assert f"`{preset.stem}`" in rows, preset.stem


def test_the_glossary_has_the_words():
    words = re.findall(r"^### (.*)$", (ROOT / "docs/glossary.md").read_text(), re.M)
    named = {w.strip("`").lower() for heading in words for w in heading.split(", ")}
    expected = (
        "t, T, alpha_bar, t_trunc, prior, emits, marginal, solver, steps, control, contender, "
        "rival, nfe, cell, oracle, floor, excess, memoriser, noise, setting, split, verdict"
    )
    assert {w.lower() for w in expected.split(", ")} <= named


def test_every_page_is_in_the_index():
    listed = (ROOT / "docs/index.md").read_text().split()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem == "index" or page.stem in listed, page.name


def test_the_citation_is_of_this_version():
    about = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert about["version"] == priorbench.__version__

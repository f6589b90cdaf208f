"""run.json: enough to do a run again."""

import json
import shlex
import shutil
import subprocess
import sys

import pytest
from helpers.commands import ROOT
from helpers.survival import assert_same

import priorbench
from priorbench.store.provenance import command

pytestmark = pytest.mark.slow


def test_a_run_is_done_again_from_its_run_json(kept_run, tmp_path):
    folder, first = kept_run
    about = json.loads((folder / "run.json").read_text())
    assert set(about) >= {
        "command",
        "commit",
        "config",
        "versions",
        "machine",
        "hashes",
        "cells",
        "seconds",
    }
    assert set(about["hashes"]) == {"dataset", "backbone", "network", "extractor"}
    assert set(about["cells"]) == set(first.cell)
    if shutil.which("git") and (ROOT / ".git").exists():
        git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        head = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
        assert about["commit"].removesuffix("-dirty") == head
    again = priorbench.run(about["config"], output=tmp_path)
    assert_same(again, first)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (["run", "digits", "--shard", "2/8", "--fresh"], "priorbench run digits"),
        (["run", "--shard=2/8", "--set", "name=a b"], "priorbench run --set 'name=a b'"),
        (["run", "--shard"], "priorbench run"),
    ],
)
def test_the_command_without_options(monkeypatch, given, left):
    monkeypatch.setattr(sys, "argv", ["priorbench", *given])
    assert command("--shard", "--fresh") == left
    assert command() == shlex.join(["priorbench", *given])

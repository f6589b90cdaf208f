"""Shards of one run in one folder: at once, killed, and collected."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from helpers.commands import PATHS, call
from helpers.survival import FAULTY, Watcher, assert_same, small_run

from priorbench import UserError
from priorbench.plugin_files import FILES
from priorbench.plugin_manager import load_plugins
from priorbench.store.lock import locked

pytestmark = pytest.mark.slow

RUN = {"priors": "vae[iterations=6,width=8],gaussian,mixture[components=2]", "seeds": 2}


def test_shards_come_to_the_table_of_the_whole_run(tmp_path):
    whole = small_run(tmp_path / "whole", **RUN)
    folder, watcher = tmp_path / "parts", Watcher()
    small_run(folder, shard="2/3", **RUN)
    assert not (folder / "comparison.csv").exists()
    small_run(folder, watcher=watcher, collect=True, **RUN)
    (said,) = watcher.notes
    assert "of 10 results are there; the tables lack " in said
    assert "seed" in said
    small_run(folder, shard="1/3", **RUN)
    small_run(folder, shard="3/3", **RUN)
    told = Watcher()
    assert_same(small_run(folder, watcher=told, collect=True, **RUN), whole)
    assert told.notes == []
    assert "shard" not in json.loads((folder / "run.json").read_text())
    about = [json.loads(p.read_text()) for p in sorted(folder.glob("shards/*/run.json"))]
    assert [one["shard"] for one in about] == ["1/3", "2/3", "3/3"]
    cells = [cell for one in about for cell in one["cells"]]
    assert len(cells) == len(set(cells)) == 10


def test_what_fails_in_a_shard_is_a_row_until_a_whole_run_mends_it(tmp_path, monkeypatch):
    monkeypatch.setenv(FILES, str(FAULTY))
    load_plugins.cache_clear()
    options = {"priors": "raises,gaussian"}
    for shard in ("1/2", "2/2"):
        small_run(tmp_path, shard=shard, **options)
    watcher = Watcher()
    found = small_run(tmp_path, watcher=watcher, collect=True, **options)
    assert found[found.status != "ok"].prior.tolist() == ["raises"]
    assert watcher.notes == ["3 of 4 results are there; 1 failed"]
    small_run(tmp_path, **options)
    assert not list(tmp_path.glob("shards/*/failed.json"))
    load_plugins.cache_clear()


def start(folder, shard):
    """A shard as a process."""
    code = (
        "from helpers.survival import small_run\n"
        f"small_run({str(folder)!r}, shard={shard!r}, **{RUN!r})\n"
    )
    here = os.pathsep.join([*sys.path, PATHS])
    return subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": here}, stderr=subprocess.PIPE
    )


def test_two_shards_at_once_one_of_them_killed_and_run_again(tmp_path, looks_as_users_do):
    whole = small_run(tmp_path / "whole", **RUN)
    folder = tmp_path / "parts"
    one, other = start(folder, "1/2"), start(folder, "2/2")
    waited = time.monotonic() + 120
    while not (folder / "shards/2-of-2/under-way.json").exists():
        assert time.monotonic() < waited
        time.sleep(0.05)
    time.sleep(0.3)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    assert one.wait(120) == 0, one.stderr.read()
    watcher = Watcher()
    small_run(folder, shard="2/2", watcher=watcher, **RUN)
    assert any("ended without a word" in line for line in watcher.notes)
    assert_same(small_run(folder, collect=True, **RUN), whole)
    assert not list(folder.rglob("*.tmp.*"))


def test_a_shard_keeps_out_itself_and_whole_runs(tmp_path):
    with locked(tmp_path, "1/2"):
        with locked(tmp_path, "2/2"):
            pass
        with pytest.raises(UserError, match=r"in use by shard 1/2 \(pid \d+ on "), locked(tmp_path):
            pass
        again = locked(tmp_path, "1/2")
        with pytest.raises(UserError, match="in use by shard 1/2"), again:
            pass
    with locked(tmp_path):
        part = locked(tmp_path, "1/2")
        with pytest.raises(UserError, match="in use by another run"), part:
            pass
    with locked(tmp_path, "1/2"):
        pass


def test_the_command_says_how_far_all_shards_are(tmp_path):
    options = ["run", "--priors", "gaussian", "--t-trunc", "100", "--steps", "2", "--n-samples"]
    options += ["24", "--output", str(tmp_path / "out")]
    sets = {
        "full_chain.steps": 2, "rivals": "[]", "n_validation": 0, "controls": "[]",
        "rival_timesteps": "[uniform]",
    }  # fmt: skip
    options += [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    first = call(*options, "--shard", "1/2")
    assert first.returncode == 0, first.stderr
    assert "shard 1/2: 1 of 1 cells done; of all shards 1 of 2. When all are: " in first.stdout
    assert first.stdout.rstrip().endswith("--collect")
    assert "--shard" not in first.stdout
    assert call(*options, "--shard", "2/2").returncode == 0
    assert call(*options, "--collect").returncode == 0
    assert len(pd.read_csv(tmp_path / "out/comparison.csv")) == 3
    both = call(*options, "--collect", "--shard", "2/2")
    assert both.returncode == 2
    assert "--collect and --shard cannot be given together" in both.stderr
    bad = call(*options, "--shard", "3/2")
    assert bad.returncode == 2
    said = "priorbench: error: --shard takes K/N with K from 1 to N, such as 2/8, got '3/2'\n"
    assert bad.stderr == said

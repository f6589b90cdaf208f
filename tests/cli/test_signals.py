"""Ctrl-C and SIGTERM: what is done is kept, and the message says how to go on."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.survival import FAULTY, SMALL, small_run

from priorbench import UserError
from priorbench.store.lock import locked

pytestmark = pytest.mark.slow


def start(*arguments, cwd):
    sets = [f"--set={k}={json.dumps(v)}" for k, v in SMALL.items()]
    line = ["run", "--t-trunc", "100", "--steps", "2", "--n-samples", "24", *sets, *arguments]
    return subprocess.Popen(
        [sys.executable, "-m", "priorbench", f"--plugin={FAULTY}", *line], cwd=cwd,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # what is started in the background ignores it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def until(condition, patience=300):
    ends = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < ends, "it never came to that"
        time.sleep(0.05)


def test_a_folder_in_use_says_by_whom_and_a_stop_says_how_to_go_on(tmp_path):
    first = start("--priors", "hangs", "--output", "out", "--fresh", cwd=tmp_path)
    try:
        until(
            lambda: list(tmp_path.glob("out/cells/*.json"))
        )  # the full chain is done, and the fit hangs
        with pytest.raises(
            UserError, match=rf"out is in use by another run \(pid {first.pid} on .*, since 2"
        ):
            small_run(tmp_path / "out")
        second = start("--priors", "gaussian", "--output", "out", cwd=tmp_path)
        _, said = second.communicate(timeout=300)
        assert second.returncode == 2
        assert said.count("\n") == 1
        assert f"pid {first.pid}" in said
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=300)
        assert first.returncode == 130
        assert "stopped; 1 of 2 cells are done and kept in out; to resume: priorbench " in said
        assert "--fresh" not in said
        assert "Traceback" not in said
        with locked(tmp_path / "out"):
            pass
    finally:
        first.kill()
        first.wait()


@pytest.mark.parametrize(
    "executor", [["process", "--workers", "2"], ["ray"]], ids=lambda words: words[0]
)
def test_sigterm_ends_a_run_and_its_processes(tmp_path, executor):
    first = start("--priors", "hangs", "--output", "out", "--executor", *executor, cwd=tmp_path)
    try:
        until(lambda: list(tmp_path.glob("out/cells/*.json")))
        found = subprocess.run(
            ["pgrep", "-P", str(first.pid)], capture_output=True, text=True, check=False
        ).stdout.split()
        first.send_signal(signal.SIGTERM)
        _, said = first.communicate(timeout=300)
        assert first.returncode == 143
        assert "1 of 2 cells are done" in said
        assert "Traceback" not in said
        assert len(found) >= 2
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found))
    finally:
        first.kill()
        first.wait()

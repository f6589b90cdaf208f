"""Nothing that was done is lost, and nothing damaged is trusted: fits, processes, locks, signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from helpers.survival import FAULTY, SMALL, Watcher, assert_same, small_run
from safetensors.torch import load_file, save_file

import priorbench
from priorbench import UserError
from priorbench.bench import cell, work
from priorbench.files import CannotWrite
from priorbench.plugin_files import FILES
from priorbench.plugin_manager import load_plugins
from priorbench.store.lock import locked


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    return folder, small_run(folder)


@pytest.fixture
def faulty(monkeypatch):
    """The plugin of tests/faulty.py, here and in every process started from here."""
    monkeypatch.setenv(FILES, str(FAULTY))
    load_plugins.cache_clear()
    yield
    load_plugins.cache_clear()


class FittedAgain(CannotWrite):
    """What a cell raises and does not take for a prior's own mistake."""


def fits_are_forbidden(monkeypatch):
    def make_prior(*_):
        raise FittedAgain("fitted again")

    monkeypatch.setattr(cell, "make_prior", make_prior)


# --- what is kept -------------------------------------------------------------------------------------------


def test_another_step_count_computes_the_new_rows_alone_from_the_fit_that_is_there(
    done, monkeypatch, tmp_path
):
    folder, first = done
    before = {p: p.stat().st_mtime_ns for p in folder.glob("cells/*")}
    fits_are_forbidden(monkeypatch)
    watcher = Watcher()
    more = small_run(folder, steps=[2, 3], watcher=watcher)
    assert watcher.cells == [("noise", (("dpm++", 3),)), ("vae", (("dpm++", 3),))]
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert (
        more[more.prior == "vae"].fit_seconds == first[first.prior == "vae"].fit_seconds.iloc[0]
    ).all()
    assert (more[more.prior == "vae"].fit_steps == 6).all()
    monkeypatch.undo()
    assert_same(more, small_run(tmp_path, steps=[2, 3]))


@pytest.mark.parametrize(
    "change", [{"n_samples": 25}, {"solver": "ddim"}, {"settings": {"w2_points": 21}}]
)
def test_what_the_fit_does_not_depend_on_takes_the_fit(done, monkeypatch, change):
    fits_are_forbidden(monkeypatch)
    small_run(done[0], **change)


def test_another_seed_fits_again(done, monkeypatch):
    fits_are_forbidden(monkeypatch)
    with pytest.raises(FittedAgain):
        small_run(done[0], seed=5)


def test_fresh_fits_again_to_the_same(done):
    folder, first = done
    watcher = Watcher()
    assert_same(small_run(folder, fresh=True, watcher=watcher), first)
    assert [p for p, _ in watcher.cells] == ["noise", "vae"]
    assert ("vae", 6) in watcher.steps or ("vae", 5) in watcher.steps


@pytest.mark.parametrize("damage", ["header", "weights", "other", "json"])
def test_a_damaged_fit_is_named_set_aside_and_fitted_again(damage, tmp_path):
    first = small_run(tmp_path)
    (folder,) = tmp_path.glob("priors/vae-*")
    weights = folder / "prior.safetensors"
    if damage == "header":
        weights.write_bytes((2**62).to_bytes(8, "little") + weights.read_bytes()[8:])
    elif damage == "weights":
        weights.write_bytes(weights.read_bytes()[:-5] + b"\0\0\0\0\1")
    elif damage == "other":
        save_file(
            {k: v + 1 if v.is_floating_point() else v for k, v in load_file(weights).items()},
            weights,
        )
    else:
        (folder / "prior.json").write_text('{"fit": ')
    kept = weights.read_bytes()
    watcher = Watcher()
    for path in tmp_path.glob("cells/*"):
        path.unlink()
    assert_same(small_run(tmp_path, watcher=watcher), first)
    (line,) = watcher.notes
    assert str(folder) in line
    assert "set aside" in line
    assert (tmp_path / "set-aside" / folder.name / "prior.safetensors").read_bytes() == kept
    assert folder.is_dir()


def test_a_prior_that_its_weights_do_not_bring_back_is_fitted_anew(faulty, tmp_path):
    first = small_run(tmp_path, priors="forgets")
    (about,) = tmp_path.glob("priors/forgets-*/prior.json")
    assert json.loads(about.read_text())["reusable"] is False
    assert_same(small_run(tmp_path, priors="forgets", steps=[2, 3]).query("nfe == 2"), first)


def test_collect_tables_what_is_there_and_computes_nothing(done, monkeypatch, tmp_path):
    folder, first = done
    monkeypatch.setattr(work, "run_cell", lambda *_: pytest.fail("computed"))
    about = (folder / "run.json").read_bytes()
    found = small_run(
        folder, priors="gaussian,vae[iterations=6,width=8]", steps=[2, 7], collect=True
    )
    assert_same(found, first)
    assert len(pd.read_csv(folder / "comparison.csv")) == len(first)
    assert (folder / "run.json").read_bytes() == about
    with pytest.raises(UserError, match="holds no result of this plan yet"):
        small_run(tmp_path / "nothing", collect=True)
    assert not (tmp_path / "nothing").exists()


# --- processes ----------------------------------------------------------------------------------------------


def test_processes_come_to_the_serial_results_and_what_dies_in_them_is_a_row(faulty, tmp_path):
    """One pool for all: two workers, a prior that exits, one that is killed, and the events of the
    rest.
    """
    options = {"priors": "dies,killed,vae[iterations=6,width=8],gaussian"}
    watcher = Watcher()
    found = small_run(tmp_path / "a", {"executor": "process", "workers": 2}, watcher, **options)
    bad = found[found.status == "failed"].set_index("prior").error
    assert bad.to_dict() == {
        "dies": "its process ended by itself, with exit code 7",
        "killed": "its process was killed by SIGKILL (out of memory?)",
    }
    assert set(found[found.status == "ok"].prior) == {"noise", "vae", "gaussian"}
    assert set(found.concurrency) == {2}
    assert {p for p, _ in watcher.cells} == {"noise", "dies", "killed", "vae", "gaussian"}
    assert "vae" in {p for p, _ in watcher.steps}
    (log,) = (tmp_path / "a" / "logs").iterdir()
    assert "exit code 7" in log.read_text()
    options["priors"] = "vae[iterations=6,width=8],gaussian"
    alone = small_run(tmp_path / "b", **options)
    assert_same(found[found.status == "ok"], alone)
    assert set(alone.concurrency) == {1}
    fits = found[found.status == "ok"].fit_seconds.tolist()
    again = small_run(tmp_path / "a", {"exclusive_timing": True}, **options)
    assert_same(again, alone)
    assert set(again.concurrency) == {1}
    assert again.fit_seconds.tolist() == fits
    assert not set(again.denoise_seconds) & set(found.denoise_seconds)


def test_a_fit_that_never_looks_at_its_deadline_is_stopped(faulty, tmp_path):
    started = time.monotonic()
    found = small_run(tmp_path, {"timeout": "6s"}, priors="hangs,gaussian")
    row = found[found.prior == "hangs"].iloc[0]
    assert row.error == "timeout: not done after 6 s, and stopped"
    assert (found[found.prior != "hangs"].status == "ok").all()
    assert time.monotonic() - started < 300


# --- one run at a time, and the end of it ---------------------------------------------------------------------


def start(*arguments, cwd):
    sets = [f"--set={k}={json.dumps(v)}" for k, v in SMALL.items()]
    line = ["run", "--t-trunc", "100", "--steps", "2", "--n-samples", "24", *sets, *arguments]
    return subprocess.Popen(
        [sys.executable, "-m", "priorbench", f"--plugin={FAULTY}", *line], cwd=cwd, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what is started in the background ignores it
    )  # fmt: skip


def until(condition, patience=120):
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
        _, said = second.communicate(timeout=120)
        assert second.returncode == 2
        assert said.count("\n") == 1
        assert f"pid {first.pid}" in said
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=60)
        assert first.returncode == 130
        assert "stopped; 1 of 2 cells are done and kept in out; to resume: priorbench " in said
        assert "--fresh" not in said
        assert "Traceback" not in said
        with locked(tmp_path / "out"):
            pass
    finally:
        first.kill()
        first.wait()


def test_sigterm_ends_a_run_and_its_processes(tmp_path):
    first = start(
        "--priors",
        "hangs",
        "--output",
        "out",
        "--executor",
        "process",
        "--workers",
        "2",
        cwd=tmp_path,
    )
    try:
        until(lambda: list(tmp_path.glob("out/cells/*.json")))
        children = subprocess.run(
            ["pgrep", "-P", str(first.pid)], capture_output=True, text=True, check=False
        ).stdout
        first.send_signal(signal.SIGTERM)
        _, said = first.communicate(timeout=60)
        assert first.returncode == 143
        assert "1 of 2 cells are done" in said
        assert "Traceback" not in said
        assert len(children.split()) >= 2
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children.split()), 20)
    finally:
        first.kill()
        first.wait()


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    code = f"from pathlib import Path\nfrom priorbench.store.lock import locked\nwith locked(Path({str(tmp_path)!r})): "
    code += "print('in', flush=True); import time; time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "in\n"
    with pytest.raises(UserError, match=f"pid {holder.pid} on"), locked(tmp_path):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with locked(tmp_path):
        pass


# --- run.json -------------------------------------------------------------------------------------------------


def test_a_run_is_done_again_from_its_run_json(done, tmp_path):
    folder, first = done
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
    again = priorbench.run(about["config"], output=tmp_path)
    assert_same(again, first)

"""Runs that end before their time, and how long a run took."""

import json

import helpers
import pandas as pd
import pytest
from helpers.commands import call, command
from helpers.measures import SMALL

import priorbench
from priorbench import runner as run
from priorbench.plan.layout import read_plan

FAULTY = helpers.FOLDER / "faulty.py"


def test_a_runs_seconds_are_by_a_clock_that_nobody_sets(monkeypatch, tmp_path):
    readings = iter([100.0, 107.5])
    monkeypatch.setattr(run.time, "monotonic", lambda: next(readings, 0.0))
    plan = read_plan(None, {"priors": "noise"}, [*SMALL, "t_trunc=1000"])
    monkeypatch.setattr(run, "compute", lambda *_, **__: {})
    monkeypatch.setattr(run, "_write_tables", lambda *_: pd.DataFrame({"status": []}))
    run.execute(plan, run.Store(tmp_path), report=False)
    assert json.loads((tmp_path / "run.json").read_text())["seconds"] == 7.5


@pytest.mark.slow
def test_a_crash_of_the_process_is_told_when_the_run_is_taken_up(tmp_path):
    def start(priors, how):
        arguments = [
            "--plugin",
            str(FAULTY),
            "--priors",
            priors,
            "--output",
            str(tmp_path),
            "--no-report",
        ]
        sets = [part for setting in SMALL for part in ("--set", setting)]
        return how("run", *arguments, *sets)

    assert start("killed", command).returncode == -9
    said = "the last run here ended without a word while it computed killed t_trunc 100 seed 0"
    again = start("gaussian", call)
    assert again.returncode == 0
    assert said in " ".join(again.stderr.split())
    assert "without a word" not in start("gaussian", call).stderr
    assert not (tmp_path / "under-way.json").exists()


def test_tells_an_interruption_from_a_crash(tmp_path):
    class Stop(priorbench.runner.Observer):
        def cell(self, spec):
            raise KeyboardInterrupt

    plan = read_plan(None, {"priors": "gaussian"}, SMALL)
    store = run.Store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run.execute(plan, store, observer=Stop())
    assert list(store.broken_off()) == []

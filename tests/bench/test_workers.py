"""Worker processes that have to be stopped."""

import time

import pytest
from helpers.survival import Watcher, small_run

from priorbench.bench import forks, workers

pytestmark = pytest.mark.slow

DAY = 86400


class Impatient(Watcher):
    """Two days pass on this clock as soon as the fit that hangs has begun."""

    ahead = 0.0

    def monotonic(self):
        return time.monotonic() + self.ahead

    def cell(self, spec):
        super().cell(spec)
        if spec.prior == "hangs":
            self.ahead += 2 * DAY


def test_where_there_is_a_gpu_no_worker_is_forked(monkeypatch, tmp_path):
    monkeypatch.setattr(forks.sys, "platform", "linux")
    monkeypatch.setattr(forks, "GPUS", (str(tmp_path / "none"), str(tmp_path)))
    assert not forks.can_fork()
    monkeypatch.setattr(forks, "GPUS", (str(tmp_path / "none"),))
    assert forks.can_fork()
    monkeypatch.setattr(forks.sys, "platform", "darwin")
    assert not forks.can_fork()


def test_a_fit_that_never_looks_at_its_deadline_is_stopped(faulty, tmp_path, monkeypatch):
    watcher = Impatient()
    monkeypatch.setattr(workers, "time", watcher)
    found = small_run(tmp_path, {"timeout": f"{DAY}s"}, watcher, priors="hangs,gaussian")
    row = found[found.prior == "hangs"].iloc[0]
    assert row.error == f"timeout: not done after {DAY} s, and stopped"
    assert (found[found.prior != "hangs"].status == "ok").all()
    assert [p for p, _ in watcher.cells] == ["noise", "hangs", "gaussian"]

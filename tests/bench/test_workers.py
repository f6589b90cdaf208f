"""Worker processes that have to be stopped."""

import time

import pytest
from helpers.survival import Watcher, small_run

from priorbench.bench import workers

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


def test_a_fit_that_never_looks_at_its_deadline_is_stopped(faulty, tmp_path, monkeypatch):
    watcher = Impatient()
    monkeypatch.setattr(workers, "time", watcher)
    found = small_run(tmp_path, {"timeout": f"{DAY}s"}, watcher, priors="hangs,gaussian")
    row = found[found.prior == "hangs"].iloc[0]
    assert row.error == f"timeout: not done after {DAY} s, and stopped"
    assert (found[found.prior != "hangs"].status == "ok").all()
    assert [p for p, _ in watcher.cells] == ["noise", "hangs", "gaussian"]

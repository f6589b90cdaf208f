"""Executors: the same results in this process and in others, and what they are handed."""

import pickle
import threading

import pytest
from helpers.survival import Watcher, assert_same, small_run

from priorbench.bench.work import Nobody, Work
from priorbench.store.fits import Fits


@pytest.mark.slow
def test_processes_come_to_the_serial_results_and_what_dies_in_them_is_a_row(
    faulty, tmp_path, looks_as_users_do
):
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


def test_what_an_executor_is_handed_can_be_pickled_whoever_listens(tmp_path):
    class Terminal(Nobody):
        def __init__(self):
            self.held = threading.Lock()  # cannot be pickled, as a progress bar cannot

    work = Work(Fits(tmp_path), workers=3, timeout=5.0, at_once=3, listener=Terminal())
    copy = pickle.loads(pickle.dumps(work))  # noqa: S301 - what we have just pickled
    assert isinstance(copy.listener, Nobody)
    assert not isinstance(copy.listener, Terminal)
    assert (copy.fits, copy.workers, copy.timeout, copy.at_once) == (work.fits, 3, 5.0, 3)
    assert isinstance(work.listener, Terminal)

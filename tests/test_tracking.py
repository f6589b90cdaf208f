"""What a run tells its trackers, and when."""

import json

import pytest
from helpers.survival import FAULTY, Watcher, small_run

from priorbench import UserError
from priorbench.plugin_files import FILES
from priorbench.plugin_manager import Registration, load_plugins

pytestmark = pytest.mark.slow

RUN = {"priors": "gaussian,vae[iterations=6,width=8]"}


class Diary:
    """A tracker that writes down what it is told, and fails when it is asked to."""

    told: list  # of all diaries, set by the fixture

    def __init__(self, plan, folder, run, *, fails="", name="diary"):
        if fails == "begin":
            raise ConnectionError("nobody\nthere")
        self.run, self.fails = run or f"{name}-{len(self.told)}", fails
        self._say("begin", run)

    def _say(self, *what):
        if self.fails == what[0]:
            raise ConnectionError("gone")
        self.told.append(what)

    def cell_finished(self, result):
        settings = [(row["solver"], row["steps"]) for row in result.rows if row["split"] == "test"]
        self._say("cell", result.spec.title, settings, len(result.curve))

    def run_finished(self, comparison):
        self._say("run", len(comparison))

    def close(self, status):
        self._say("close", status)


@pytest.fixture
def told(monkeypatch):
    """What the tracker ``diary`` was told."""
    found = Registration("tracker", "diary", f"{__name__}:Diary", "", False, "diary", "1.0")
    monkeypatch.setitem(load_plugins().registrations, ("tracker", "diary"), found)
    monkeypatch.setattr(Diary, "told", [], raising=False)
    return Diary.told


def cells(told):
    return [entry[1:] for entry in told if entry[0] == "cell"]


def test_each_cell_is_told_once_over_all_runs_in_a_folder(told, tmp_path):
    small_run(tmp_path, track="diary", **RUN)
    assert told[0] == ("begin", None)
    assert told[-2][0] == "run"
    assert told[-1] == ("close", "finished")
    first = cells(told)
    titles = [title for title, *_ in first]
    assert len(set(titles)) == len(titles) == len(told) - 3
    assert [title for title, _, curve in first if curve] == [
        "vae[iterations=6,width=8] t_trunc 100 seed 0"
    ]
    # Again: the same tracked run, and nothing that is new but the tables.
    run = json.loads((tmp_path / "tracked.json").read_text())["diary"]["run"]
    told.clear()
    small_run(tmp_path, track="diary", **RUN)
    assert [entry[0] for entry in told] == ["begin", "run", "close"]
    assert told[0] == ("begin", run)
    # Another number of steps is told, and the curve of the fit is not told again.
    told.clear()
    small_run(tmp_path, track="diary", steps=[2, 3], **RUN)
    assert all(not curve for *_, curve in cells(told))
    assert {steps for _, settings, _ in cells(told) for _, steps in settings} == {3}
    # --fresh begins anew.
    told.clear()
    small_run(tmp_path, track="diary", fresh=True, **RUN)
    assert told[0] == ("begin", None)
    assert [(title, bool(curve)) for title, _, curve in cells(told)] == [
        (title, bool(curve)) for title, _, curve in first
    ]


def test_a_tracker_that_comes_late_is_told_what_was_there(told, tmp_path):
    small_run(tmp_path, track="diary[name=a]", **RUN)
    first = cells(told)
    told.clear()
    small_run(tmp_path, track="diary[name=b]", collect=True, **RUN)
    assert sorted(cells(told)) == sorted(first)
    assert told[0] == ("begin", None)


@pytest.mark.parametrize("when", ["cell", "run", "close"])
def test_a_tracker_that_fails_is_named_once_and_the_run_goes_on(told, tmp_path, when):
    watcher = Watcher()
    found = small_run(tmp_path, watcher=watcher, track=f"diary[fails={when}],diary", **RUN)
    assert (found.status == "ok").all()
    (note,) = watcher.notes
    assert note.startswith(f"tracker 'diary[fails={when}]' failed (ConnectionError: gone)")
    assert "--collect tells it the rest" in note
    assert told[-1] == ("close", "finished")


def test_what_was_not_told_because_a_tracker_failed_is_told_the_next_time(told, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Diary, "cell_finished", lambda self, result: 1 / 0)
        small_run(tmp_path, track="diary", **RUN)
    assert cells(told) == []
    small_run(tmp_path, track="diary", collect=True, **RUN)
    assert [title.split()[0] for title, *_ in cells(told)] == [
        "noise", "gaussian", "vae[iterations=6,width=8]",
    ]  # fmt: skip


def test_a_tracker_that_cannot_begin_ends_the_run_before_it_begins(told, tmp_path):
    with pytest.raises(UserError, match=r"tracker 'diary\[fails=begin\]': ConnectionError: nobody"):
        small_run(tmp_path, track="diary[fails=begin]", **RUN)
    assert not list(tmp_path.glob("cells/*"))


def test_failures_are_told_and_told_again_when_they_are_tried_again(told, tmp_path, monkeypatch):
    monkeypatch.setenv(FILES, str(FAULTY))
    load_plugins.cache_clear()
    found = Registration("tracker", "diary", f"{__name__}:Diary", "", False, "diary", "1.0")
    monkeypatch.setitem(load_plugins().registrations, ("tracker", "diary"), found)
    for _ in range(2):
        told.clear()
        small_run(tmp_path, priors="raises", track="diary")
        assert [title for title, *_ in cells(told)][-1].startswith("raises")
        assert told[-1] == ("close", "failed")
    load_plugins.cache_clear()


def test_an_interrupted_run_is_closed(told, tmp_path):
    class Impatient(Watcher):
        def finished(self, spec, result):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path, watcher=Impatient(), track="diary", **RUN)
    assert told[-1] == ("close", "stopped")
    told.clear()
    small_run(tmp_path, track="diary", **RUN)
    assert told[0][1] is not None
    assert told[-1] == ("close", "finished")


@pytest.mark.parametrize(("given", "said"), [
    ("dairy", "track[0]: there is no tracker 'dairy'; did you mean 'diary'?"),
    ("diary[fail=cell]", "track[0].fail: tracker 'diary' has no option 'fail'"),
    ("diary[fails=3]", "track[0].fails: must be a string, got 3"),
    ("diary,diary", "track: names 'diary' twice"),
])  # fmt: skip
def test_mistakes_are_named(told, tmp_path, given, said):
    with pytest.raises(UserError) as caught:
        small_run(tmp_path, track=given, **RUN)
    assert said in str(caught.value)


def test_a_shard_is_not_tracked(told, tmp_path):
    with pytest.raises(UserError, match="give --track to --collect"):
        small_run(tmp_path, shard="1/2", track="diary", **RUN)

"""What a process has loaded is loaded again once its files are other ones."""

import os

import pytest

from priorbench import task


@pytest.fixture
def forgotten(monkeypatch):
    calls = []
    monkeypatch.setattr(task, "forget", lambda: calls.append(1))
    monkeypatch.setattr(task, "_SEEN", {})
    return calls


def test_a_file_that_an_older_one_replaced_is_loaded_again(tmp_path, forgotten):
    model, other = tmp_path / "model", tmp_path / "older"
    model.mkdir()
    for file in (model / "weights", other):
        file.write_text(file.name)
    task.forget_changed(str(model))
    task.forget_changed(str(model))
    assert not forgotten
    os.utime(other, (0, 0))
    os.utime(model, (0, 0))
    other.replace(model / "weights")
    os.utime(model, (0, 0))
    task.forget_changed(str(model))
    assert forgotten


def test_a_link_to_nothing_is_no_change(tmp_path, forgotten):
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    task.forget_changed(str(tmp_path), "no such folder", "")
    task.forget_changed(str(tmp_path), "no such folder", "")
    assert not forgotten

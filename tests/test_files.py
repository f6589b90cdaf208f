"""A file is written whole or not at all."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from priorbench import UserError
from priorbench.files import sweep, write_atomically
from priorbench.store.results import FOLDERS


@settings(max_examples=20, deadline=None)
@given(old=st.binary(max_size=50), new=st.binary(max_size=50))
def test_what_is_written_replaces_what_was_there(tmp_path_factory, old, new):
    path = tmp_path_factory.mktemp("write") / "a" / "b" / "file"
    for data in (old, new):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]


def fail(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("where", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.open"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, where):
    path = tmp_path / "kept"
    write_atomically(path, b"old")
    with monkeypatch.context() as patched:
        patched.setattr(where, fail)
        with pytest.raises(UserError, match=r"cannot write .*kept: No space left on device$"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("where", ["os.fsync", "pathlib.Path.replace"])
def test_a_write_that_fails_leaves_nothing_else_behind(tmp_path, monkeypatch, where):
    path = tmp_path / "kept"
    write_atomically(path, b"old")
    with monkeypatch.context() as patched:
        patched.setattr(where, fail)
        with pytest.raises(UserError):
            write_atomically(path, b"new")
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_is_interrupted_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "kept"
    write_atomically(path, b"old")

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_everything_is_on_disk_before_the_name_moves(tmp_path, monkeypatch):
    """At the fsync a reader still sees the old file, and the new one is complete under another
    name.
    """
    path, seen = tmp_path / "kept", []
    write_atomically(path, b"old")

    def watch(descriptor):
        other = [p for p in tmp_path.iterdir() if p != path]
        seen.append(
            (path.read_bytes(), [p.read_bytes() for p in other], os.fstat(descriptor).st_size)
        )

    monkeypatch.setattr("os.fsync", watch)
    write_atomically(path, b"brand new")
    assert seen == [(b"old", [b"brand new"], 9)]
    assert path.read_bytes() == b"brand new"


def test_a_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_atomically(tmp_path / "file" / "below", b"")


def test_only_the_runs_own_folders_are_swept(tmp_path):
    mine = [tmp_path / ".run.json.12.tmp", tmp_path / "cells" / ".a.json.12.tmp"]
    others = [tmp_path / "other-run" / "cells" / ".a.json.12.tmp", tmp_path / "mine" / ".b.12.tmp"]
    for path in (*mine, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    sweep(tmp_path, FOLDERS)
    assert not any(p.exists() for p in mine)
    assert all(p.exists() for p in others)


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "kept"
    write_atomically(path, b"old")
    monkeypatch.setattr(
        "os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(UserError, match=r"cannot write .*kept: No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"

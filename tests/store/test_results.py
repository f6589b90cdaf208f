"""Results on disk: what is kept, what is missing, what is set aside."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.specs import ONE, SPEC, result

from priorbench import UserError
from priorbench.files import write_atomically
from priorbench.plan.layout import read_plan
from priorbench.store import results as store_module
from priorbench.store.results import Store, read_result


def test_a_result_comes_back_as_it_was(tmp_path):
    store, made = Store(tmp_path), result()
    store.write(made)
    assert store.missing(SPEC) == ()
    assert store.rows([SPEC]) == made.rows
    kept = read_result(store.path(SPEC))
    assert kept["log"] == made.log
    assert kept["spec"]["params"] == SPEC.params
    images = store.images(SPEC)
    assert list(images) == ["x_t", "x_0 dpm++ 5", "x_0 ddim 100"]
    for name, wanted in made.images.items():
        assert images[name].dtype == np.uint8
        np.testing.assert_array_equal(images[name], wanted)
    assert list(store.clean()) == []


def test_another_solver_setting_is_all_that_is_missing(tmp_path):
    store = Store(tmp_path)
    store.write(result(ONE, status=("ok",)))
    assert store.missing(SPEC) == (("ddim", None),)
    assert store.missing(replace(SPEC, solvers=(("ddim", 3), ("dpm++", 5)))) == (("ddim", 3),)
    assert list(store.images(SPEC)) == ["x_t", "x_0 dpm++ 5"]
    assert len(store.rows([SPEC])) == 1


def test_nothing_is_unpickled(tmp_path):
    store = Store(tmp_path)
    store.write(result())
    buffer = io.BytesIO()
    np.savez(buffer, x_t=np.array([{"an": "object"}], dtype=object))
    write_atomically(store.images_path(SPEC), buffer.getvalue())
    assert store.images(SPEC)["x_t"].dtype == np.uint8  # of the other setting's file
    with pytest.raises(ValueError, match="allow_pickle"):
        np.load(store.images_path(SPEC), allow_pickle=False)["x_t"]


def test_nothing_there_is_all_missing(tmp_path):
    assert Store(tmp_path / "nowhere").missing(SPEC) == SPEC.solvers
    assert Store(tmp_path / "nowhere").rows([SPEC]) == []
    assert list(Store(tmp_path / "nowhere").clean()) == []


def test_a_torn_result_is_missing_wherever_it_is_torn(tmp_path):
    store = Store(tmp_path)
    store.write(result())
    whole = store.path(SPEC).read_bytes().rstrip()
    assert store.missing(SPEC) == ()
    for end in [*range(0, len(whole) - 1, 17), len(whole) - 1]:
        store.path(SPEC).write_bytes(whole[:end])
        assert store.missing(SPEC) == (("dpm++", 5),), whole[:end]


@pytest.mark.parametrize("old", ['"fid": 1.5', '"a line"', '"nfe": 5', '"seed": 3', '"depth": 64'])
def test_a_result_that_was_changed_by_hand_is_missing_and_set_aside(tmp_path, old):
    store = Store(tmp_path)
    store.write(result())
    text = store.path(SPEC).read_text()
    assert old in text
    store.path(SPEC).write_text(
        text.replace(old, old[:-1] + ("0" if old[-1].isdigit() else "x" + old[-1]), 1)
    )
    assert store.missing(SPEC) == (("dpm++", 5),)
    (line,) = store.clean()
    assert line.startswith(str(store.path(SPEC)))
    assert (tmp_path / "set-aside" / store.path(SPEC).name).is_file()


FOREIGN = [
    b"[]", b"null", b"3", b'"text"', b"\xff\xfe", b"{}", b"[" * 100_000, b"",
    json.dumps({"cell": ONE.cell}).encode(),
    json.dumps({"cell": ONE.cell, "rows": 3}).encode(),
    json.dumps({"cell": ONE.cell, "rows": [{"status": "ok"}], "spec": {}}).encode(),
    json.dumps({"cell": "another", "rows": [{"status": "ok"}] * 2}).encode(),
]  # fmt: skip


@pytest.mark.parametrize("content", FOREIGN)
def test_a_foreign_result_is_missing_and_set_aside_as_it_was(tmp_path, content):
    store = Store(tmp_path)
    store.write(result())
    store.path(SPEC).write_bytes(content)
    assert store.missing(SPEC) == (("dpm++", 5),)
    (line,) = store.clean()
    assert "set aside as" in line
    assert "\n" not in line
    assert (tmp_path / "set-aside" / store.path(SPEC).name).read_bytes() == content
    assert not store.path(SPEC).exists()


def test_other_runs_results_stay_and_strangers_are_set_aside_side_by_side(tmp_path):
    store = Store(tmp_path)
    store.write(result(replace(SPEC, seed=99)))
    write_atomically(tmp_path / "notes.txt", b"mine")
    for room in ("cells", "images", "priors"):
        write_atomically(tmp_path / room / "notes.txt", room.encode())
    (tmp_path / "cells" / "folder").mkdir()
    lines = list(store.clean())
    assert len(lines) == 4
    aside = {p.name: p for p in (tmp_path / "set-aside").iterdir()}
    assert set(aside) == {"notes.txt", "notes-2.txt", "notes-3.txt", "folder"}
    assert {p.read_text() for n, p in aside.items() if n != "folder"} == {
        "cells",
        "images",
        "priors",
    }
    assert len(store.rows([replace(SPEC, seed=99)])) == 2
    assert (tmp_path / "notes.txt").read_bytes() == b"mine"
    assert list(store.clean()) == []


def test_unfinished_files_of_a_killed_run_are_removed(tmp_path):
    for room in ("cells", "priors/ot-t1-s0-01234567"):
        write_atomically(tmp_path / room / ".name.json.123.tmp", b"half")
    write_atomically(tmp_path / ".mine.tmp", b"kept")
    assert list(Store(tmp_path).clean()) == []
    assert [p.name for p in tmp_path.rglob("*.tmp")] == [".mine.tmp"]


def test_images_that_are_not_what_was_written_are_set_aside_and_their_cell_computed_again(tmp_path):
    store = Store(tmp_path)
    store.write(result())
    data = bytearray(store.images_path(SPEC).read_bytes())
    data[len(data) // 2] ^= 1
    store.images_path(SPEC).write_bytes(data)
    (line,) = store.clean()
    assert line.startswith(str(store.images_path(SPEC)))
    assert store.missing(SPEC) == (("dpm++", 5),)


def test_keeps_a_result_only_with_a_row_for_each_split(tmp_path):
    store = Store(tmp_path)
    spec = replace(SPEC, splits=(("test", 40), ("validation", 20)))
    store.write(result(spec))
    assert store.missing(spec) == SPEC.solvers
    assert not list(tmp_path.rglob("*.json"))


def test_the_result_of_another_spec_under_this_name_is_missing(tmp_path):
    store, other = Store(tmp_path), replace(SPEC, seed=4)
    store.write(result())
    store.write(result(other))
    assert store.missing(other) == ()
    store.path(other).replace(store.path(SPEC))
    assert store.missing(SPEC) == (("dpm++", 5),)


@pytest.mark.parametrize("status", [("failed", "failed"), ("ok", "failed"), ("failed", "ok")])
def test_a_failure_is_never_kept_and_what_did_not_fail_is(tmp_path, status):
    store = Store(tmp_path)
    store.write(result(status=status))
    assert store.missing(SPEC) == tuple(
        s for s, how in zip(SPEC.solvers, status, strict=True) if how == "failed"
    )


def test_a_result_without_its_images_is_missing(tmp_path):
    store = Store(tmp_path)
    store.write(result())
    store.images_path(SPEC).unlink()
    assert store.missing(SPEC) == (("dpm++", 5),)


@pytest.mark.parametrize("works", range(4))
def test_a_write_cut_short_anywhere_keeps_what_was_whole(tmp_path, monkeypatch, works):
    """Of the two files of a result only the last makes it one."""
    written = []

    def write(path, data):
        if len(written) == works:
            raise UserError("the disk is full")
        written.append(path)
        write_atomically(path, data)

    monkeypatch.setattr(store_module, "write_atomically", write)
    store = Store(tmp_path)
    with pytest.raises(UserError, match="full"):
        store.write(result())
    assert store.missing(SPEC) == SPEC.solvers[works // 2 :]


def test_rows_come_in_the_order_asked_for(tmp_path):
    store, other = Store(tmp_path), replace(SPEC, seed=4)
    for spec in (SPEC, other):
        store.write(result(spec))
    assert [r["seed"] for r in store.rows([other, replace(SPEC, seed=5), SPEC])] == [4, 4, 3, 3]


def test_rows_are_replaced_and_nothing_else(tmp_path):
    store, made = Store(tmp_path), result()
    store.write(made)
    before = store.images_path(SPEC).read_bytes()
    store.rewrite(SPEC, [row | {"concurrency": 1} for row in made.rows[:1]])
    assert [row["concurrency"] for row in store.rows([SPEC])] == [1, 2]
    assert store.images_path(SPEC).read_bytes() == before
    assert list(store.clean()) == []


def test_what_is_forgotten_is_missing(tmp_path):
    store = Store(tmp_path)
    store.write(result())
    write_atomically(store.fits.path(SPEC) / "prior.json", b"{}")
    store.forget(SPEC)
    assert store.missing(SPEC) == SPEC.solvers
    assert not (store.fits.path(SPEC) / "prior.json").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short"])
def test_takes_images_cut_short_for_missing(tmp_path, content):
    plan = read_plan(None, {"priors": "gaussian", "t_trunc": [100], "n_samples": 24})
    store = Store(tmp_path)
    path = store.images_path(plan.cells[0])
    path.parent.mkdir()
    path.write_bytes(content)
    assert store.images(plan.cells[0]) == {}

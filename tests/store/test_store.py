"""What is kept on disk, and the fold of rows into the two tables."""

import io
import json
import os
import pickle
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from priorbench import UserError
from priorbench.files import write_atomically
from priorbench.plan.layout import make_plan
from priorbench.plan.reading import make_config
from priorbench.plan.spec import CellResult, CellSpec
from priorbench.store import results as store_module
from priorbench.store.results import Store, read_result
from priorbench.tables import columns
from priorbench.tables import fold as table
from priorbench.task import Source

CONTRACT = """dataset, backbone, prior, params, emits, control, t_trunc, T, solver, nfe, seed, split, n_samples,
extractor, fid, kid, precision, recall, authenticity, sw2_xt, w2_xt, sw2_x0, w2_x0, fit_seconds,
prior_seconds, denoise_seconds, images_per_second, speedup, parameters, peak_memory_mb, device, threads,
concurrency, status, error, priorbench_version, torch_version, cell""".replace("\n", " ").split(
    ", "
)

SPEC = CellSpec(
    dataset=Source("digits"), backbone="digits", extractor=Source("digits"), prior="ot", distribution="plugin",
    params={"projections": 64, "width": 8}, metrics=(),
    settings="projections=64", control=False, t_trunc=100, seed=3, solvers=(("dpm++", 5), ("ddim", None)),
    n_samples=40, splits=(("test", 40),), batch_size=16, w2_points=30, fit_budget=None, device="cpu",
    precision="fp32", compile=False, save_samples=False,
    digests={"dataset": "d", "backbone": "b", "network": "n", "extractor": "e"},
    versions={"torch": "2", "plugin": "1", "torch-fidelity": "3"},
)  # fmt: skip


def result(spec=SPEC, status=("ok", "ok")):
    """A result as a cell would yield it: a row a setting."""
    rows = [
        {
            "prior": spec.prior, "seed": spec.seed, "t_trunc": 100, "T": 1000, "solver": solver, "steps": steps or 100,
            "nfe": steps or 100, "split": "test", "n_samples": 40, "fid": 1.5 + i, "status": s, "concurrency": 2,
            "cell": replace(spec, solvers=((solver, steps),)).cell,
        }
        for i, ((solver, steps), s) in enumerate(zip(spec.solvers, status, strict=False))
    ]  # fmt: skip
    images = {
        "x_t": np.arange(3 * 64, dtype=np.uint8).reshape(3, 1, 8, 8),
        "x_0 dpm++ 5": np.full((2, 3, 4, 5), 255, np.uint8),
        **({"x_0 ddim 100": np.full((2, 3, 4, 5), 7, np.uint8)} if len(rows) > 1 else {}),
    }
    return CellResult(spec, rows, images, ["a line"])


ONE = replace(SPEC, solvers=SPEC.solvers[:1])


# --- one file ----------------------------------------------------------------------------------------------


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


# --- a cell ------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "old", ['"fid": 1.5', '"a line"', '"nfe": 5', '"seed": 3', '"projections": 64']
)
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


def test_a_result_without_a_row_for_each_split_is_not_kept(tmp_path):
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


# --- names -------------------------------------------------------------------------------------------------


CHANGES = {
    "dataset": Source("x"), "backbone": "x", "extractor": Source("x"), "metrics": ("x",), "prior": "x",
    "distribution": "x",
    "params": {"projections": 65, "width": 8},
    "settings": "x", "control": True, "t_trunc": 101, "seed": 4, "solvers": (("dpm++", 5),), "n_samples": 41,
    "batch_size": 17, "w2_points": 31, "fit_budget": "1s",
    "splits": (("test", 40), ("validation", 20)), "device": "cuda", "precision": "bf16", "compile": True,
    "save_samples": True, "versions": {"torch": "3"},
    "digests": {"dataset": "d", "backbone": "b", "network": "n", "extractor": "f"},
}  # fmt: skip


def test_all_that_determines_a_cell_is_in_its_name():
    assert set(CHANGES) == {f.name for f in fields(CellSpec)}
    names = {SPEC.cell, *(replace(SPEC, **{name: value}).cell for name, value in CHANGES.items())}
    assert len(names) == 1 + len(CHANGES)


OF_THE_FIT = {
    "prior",
    "params",
    "t_trunc",
    "seed",
    "fit_budget",
    "device",
    "precision",
    "compile",
    "versions",
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_name_of_a_fit_knows_what_determines_the_fit_alone(name):
    """Another metric, solver or number of samples takes the prior that is there."""
    changed = replace(SPEC, **{name: CHANGES[name]})
    if name not in ("digests", "distribution"):
        assert (changed.fit != SPEC.fit) == (name in OF_THE_FIT)
    for digest in SPEC.digests:
        other = replace(SPEC, digests=SPEC.digests | {digest: "x"})
        assert (other.fit != SPEC.fit) == (digest != "extractor")
    for package in SPEC.versions:
        other = replace(SPEC, versions=SPEC.versions | {package: "x"})
        assert (other.fit != SPEC.fit) == (package != "torch-fidelity")


def test_a_fit_lies_below_the_folder_whatever_its_prior_is_called():
    for name in ("../../up", "/etc", "..", "a/b", "<script>", "a\x1b[2J", ""):
        path = Store(Path("results")).fits.path(replace(SPEC, prior=name))
        assert path.parent == Path("results/priors")
        assert re.fullmatch(r"[\w.-]+-t100-s3-[0-9a-f]{8}", path.name)
        assert not path.name.startswith(".")


def test_a_cells_name_crosses_processes_and_knows_no_order_of_parameters():
    assert pickle.loads(pickle.dumps(SPEC)).cell == SPEC.cell  # noqa: S301 - made here
    assert replace(SPEC, params={"width": 8, "projections": 64}).cell == SPEC.cell
    assert Path(SPEC.cell).name == SPEC.cell
    assert len(SPEC.cell) == 16


# --- comparison.csv ----------------------------------------------------------------------------------------


def row(prior="ot", seed=0, seconds=1.0, **changes):
    """A row of a cell: ``seconds`` an image, a fifth of them the prior's."""
    return {
        "dataset": "digits", "backbone": "digits", "prior": prior, "params": "", "emits": "x_t", "control": False,
        "t_trunc": 100, "T": 1000, "solver": "dpm++", "steps": 5, "nfe": 5, "seed": seed, "split": "test",
        "n_samples": 40, "extractor": "lenet", "device": "cpu", "threads": 1, "concurrency": 1,
        "prior_seconds": 0.2 * seconds, "denoise_seconds": 0.8 * seconds, "status": "ok", "error": "",
    } | changes  # fmt: skip


def full(seed=0, seconds=10.0, **changes):
    return row(
        "noise",
        seed,
        seconds,
        **{"t_trunc": 1000, "solver": "ddim", "steps": 50, "nfe": 50, **changes},
    )


def test_every_column_of_the_contract_is_there():
    assert set(CONTRACT) <= set(columns.COLUMNS)
    assert len(set(columns.COLUMNS)) == len(columns.COLUMNS)
    assert list(table.comparison([full(), row()], "ddim", 50).columns) == columns.COLUMNS
    assert set(columns.AVERAGED) | set(columns.VARIES) <= set(columns.COLUMNS)


def test_speedup_is_over_the_full_chain_of_the_same_seed():
    """Chains' seconds are shared, the medians of 8 and 24 and of 1.6, 1.6 and 48; the priors' are
    the seeds' own.
    """
    rows = [
        row(seed=1, seconds=2),
        full(0, 10),
        full(1, 30),
        row(seed=0, seconds=2),
        row("vae", 1, 60),
    ]
    found = table.comparison(rows, "ddim", 50)
    assert found.speedup.tolist() == pytest.approx([22 / 2, 1, 1, 18 / 2, 22 / 13.6])
    assert found.seed.tolist() == [1, 0, 1, 0, 1]


def test_nothing_but_the_full_chain_is_taken_for_it():
    """Rows that share all but one of what makes the full chain, each before it and each faster."""
    changes = [
        {"prior": "ot"},
        {"t_trunc": 100},
        {"solver": "dpm++"},
        {"steps": 5},
        {"status": "failed"},
    ]
    near = [full(seconds=10, prior_seconds=0.001) | change for change in changes]
    found = table.comparison([*near, full(seconds=10), row(seconds=2)], "ddim", 50)
    assert found.speedup.iloc[-1] == pytest.approx(5)
    assert found.speedup.iloc[-2] == pytest.approx(1)


def test_all_steps_of_the_full_chain_are_T():
    found = table.comparison(
        [full(seconds=3), full(seconds=12, steps=1000, nfe=1000), row(seconds=2)], "ddim", None
    )
    assert found.speedup.tolist() == pytest.approx([4, 1, 6])


def test_without_its_full_chain_a_seed_has_no_speedup_and_the_others_have():
    rows = [
        full(0),
        full(1, status="failed", prior_seconds=None, denoise_seconds=None),
        row(seed=0),
        row(seed=1),
    ]
    found = table.comparison(rows, "ddim", 50)
    assert found.speedup.iloc[[0, 2]].tolist() == pytest.approx([1, 10])
    assert found.speedup.iloc[[1, 3]].isna().all()


def test_a_failed_row_has_its_reason_and_no_speedup():
    broken = row(status="failed", error="ValueError: no")
    del broken["prior_seconds"], broken["denoise_seconds"]
    found = table.comparison([full(), broken], "ddim", 50).iloc[1]
    assert (found.status, found.error) == ("failed", "ValueError: no")
    assert pd.isna(found.speedup)
    assert pd.isna(found.fid)


# --- summary.csv -------------------------------------------------------------------------------------------


def test_mean_and_students_interval_by_hand():
    """Three seeds: t_{0.975, 2} = 4.302652729911275, standard deviation with the divisor 2."""
    values = [1.0, 2.0, 6.0]
    (found,) = table.summary(pd.DataFrame([row(seed=s, fid=v) for s, v in enumerate(values)]).reindex(
        columns=columns.COLUMNS)).itertuples()  # fmt: skip
    half = 4.302652729911275 * 7**0.5 / 3**0.5
    assert found.seeds == 3
    assert found.fid == pytest.approx(3)
    assert (found.fid_low, found.fid_high) == pytest.approx((3 - half, 3 + half))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(-1000, 1000).map(lambda k: k / 8), min_size=2, max_size=6).filter(
        lambda v: len(set(v)) > 1
    )
)
def test_the_interval_is_scipys(values):
    rows = [row(seed=s, kid=v) for s, v in enumerate(values)]
    found = table.summary(table.comparison(rows, "ddim", 50)).iloc[0]
    wanted = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert found.kid == pytest.approx(np.mean(values))
    assert (found.kid_low, found.kid_high) == pytest.approx(wanted)


def test_one_seed_has_no_interval_and_the_file_says_nothing_there():
    found = table.summary(table.comparison([full(), row(fid=2.5)], "ddim", 50))
    assert found.fid.iloc[1] == 2.5
    assert found.seeds.tolist() == [1, 1]
    for name in columns.AVERAGED:
        assert found[[f"{name}_low", f"{name}_high"]].isna().all(axis=None)
    on_disk = pd.read_csv(io.StringIO(found.to_csv(index=False)), keep_default_na=False, dtype=str)
    assert on_disk.fid.iloc[1] == "2.5"
    assert (on_disk.fid_low == "").all()
    assert (on_disk.fid_high == "").all()


def test_the_interval_counts_the_seeds_that_have_a_value():
    """Two seeds of three have a KID: one degree of freedom, not two."""
    rows = [row(seed=s, kid=kid) for s, kid in enumerate((5.0, 7.0, float("nan")))]
    found = table.summary(table.comparison(rows, "ddim", 50)).iloc[0]
    assert found.kid == pytest.approx(6)
    wanted = stats.t.interval(0.95, 1, loc=6, scale=stats.sem([5, 7]))
    assert (found.kid_low, found.kid_high) == pytest.approx(wanted)


def test_seconds_that_seeds_share_have_no_interval_over_seeds():
    rows = [full(0, 10), full(1, 14), *(row(seed=s, seconds=2 + s) for s in range(2))]
    found = table.summary(table.comparison(rows, "ddim", 50)).iloc[1]
    assert found.denoise_seconds == pytest.approx(0.8 * 2.5)
    for name in ("denoise_seconds", "images_per_second", "speedup"):
        assert found[name] > 0
        assert pd.isna(found[f"{name}_low"])
    assert found.prior_seconds_low < found.prior_seconds


def test_failed_rows_are_no_seeds():
    rows = [row(seed=0, fid=1.0), row(seed=1, fid=3.0), row(seed=2, fid=100.0, status="failed")]
    (found,) = table.summary(table.comparison(rows, "ddim", 50)).itertuples()
    assert (found.seeds, found.fid) == (2, 2.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"prior": "vae"}, {"params": "width=3"}, {"emits": "x_0"}, {"t_trunc": 200}, {"solver": "ddim"}, {"steps": 6},
        {"n_samples": 41}, {"extractor": "inception"},
    ],
    ids=lambda c: next(iter(c)),
)  # fmt: skip
def test_different_settings_are_not_averaged(changes):
    rows = [row(seed=0, fid=1.0), row(seed=0, fid=3.0, **changes), row(seed=1, fid=2.0)]
    found = table.summary(table.comparison(rows, "ddim", 50))
    assert found.fid.tolist() == [1.5, 3.0]
    assert found.seeds.tolist() == [2, 1]


def test_tables_of_nothing_have_their_columns():
    nothing = table.comparison([], "ddim", 50)
    assert list(nothing.columns) == columns.COLUMNS
    assert len(nothing) == len(table.summary(nothing)) == 0
    failed = table.comparison([row(status="failed")], "ddim", 50)
    assert "seeds" in table.summary(failed).columns


def test_all_steps_and_their_number_are_one_setting():
    """Else one seed counts twice in summary.csv, with an interval of its own."""
    config = make_config(
        overrides={"priors": "gaussian", "t_trunc": "100", "steps": "all,100"}, sets=["controls=[]"]
    )
    cell = make_plan(config).cells[-1]
    assert (cell.prior, cell.t_trunc) == ("gaussian", 100)
    taken = [(solver, cell.t_trunc if steps is None else steps) for solver, steps in cell.solvers]
    assert taken == [("dpm++", 100)]


# --- seconds -----------------------------------------------------------------------------------------------

MS = 1e-3


def timed(prior="ot", chain=(), own=(), prior_seconds=None, **changes):
    """A row with its batches in milliseconds, as a cell yields it."""
    seconds = sum(own) / len(own) if prior_seconds is None else prior_seconds
    return row(prior, prior_seconds=MS * seconds, denoise_seconds=MS * float(np.median(chain)),
               prior_batches=[MS * s for s in own], denoise_batches=[MS * s for s in chain], **changes)  # fmt: skip


def test_a_chain_costs_the_same_whatever_came_before_it():
    """Two cells and a row of another version: nine batches of 2 to 10 ms and one value of 1."""
    rows = [timed("ot", (2, 3, 4, 5), (1,)), timed("vae", (6, 7, 8, 9, 10), (3,), t_trunc=200, seed=1),
            row("gan", denoise_seconds=MS, prior_seconds=MS)]  # fmt: skip
    found = table.comparison(rows, "ddim", 50)
    assert found.denoise_seconds.tolist() == pytest.approx([5.5 * MS] * 3)
    assert found.images_per_second.tolist() == pytest.approx([1000 / 6.5, 1000 / 8.5, 1000 / 6.5])
    assert list(found.columns) == columns.COLUMNS  # the batches are in no table


@pytest.mark.parametrize("changes", [{"solver": "ddim"}, {"nfe": 6}, {"nfe_prior": 0.5}, {"threads": 2},
                                     {"device": "cuda"}, {"concurrency": 2}, {"model_precision": "bf16"}],
                         ids=lambda c: next(iter(c)))  # fmt: skip
def test_another_chain_has_seconds_of_its_own(changes):
    found = table.comparison(
        [timed(chain=(2,), own=(1,)), timed(chain=(4,), own=(1,), **changes)], "ddim", 50
    )
    assert found.denoise_seconds.tolist() == pytest.approx([2 * MS, 4 * MS])


def test_the_priors_own_evaluations_are_none_of_the_chains():
    found = table.comparison(
        [timed(chain=(2,), own=(1,)), timed("vae", (4,), (9,), nfe=8, nfe_prior=2.5)], "ddim", 50
    )
    assert found.denoise_seconds.tolist() == pytest.approx([3 * MS] * 2)


def test_the_interval_is_of_the_pooled_chain_and_the_priors_own_draw():
    """Quantiles of 1..11 are 2 and 10; the whole draw took longer than its batches say, by its
    first call.
    """
    rows = [
        timed("ot", range(1, 7), (1, 1.0, 1), prior_seconds=4),
        timed("vae", range(7, 12), (2, 2)),
    ]
    found = table.comparison(rows, "ddim", 50)
    assert found.seconds_low.tolist() == pytest.approx([3 * MS, 4 * MS])
    assert found.seconds_high.tolist() == pytest.approx([14 * MS, 12 * MS])


def test_rows_that_settings_are_chosen_by_share_the_seconds_and_measure_none():
    rows = [
        timed("ot", (2, 3, 4), (1,)),
        row(split="validation", denoise_seconds=MS * 99, prior_seconds=MS),
    ]
    found = table.comparison(rows, "ddim", 50)
    assert found.denoise_seconds.tolist() == pytest.approx([3 * MS] * 2)
    assert found.seconds_low.isna().tolist() == [False, True]


def test_seconds_that_vary_are_warned_of_in_one_sentence():
    """The chain's batches over all cells differ by 4 (quantiles 1 and 4); another chain's do not."""
    wide = (1, 1, 1, 1, 1, 4, 4, 4, 4, 4)
    rows = [timed("ot", wide[:5], (0.01,)), timed("vae", wide[5:], (0.01,), warning="few images"),
            timed("gan", (1, 1.1, 1.2), (0.01, 0.05), solver="ddim"), row(prior="sinf", solver="unipc")]  # fmt: skip
    found = table.comparison(rows, "ddim", 50).warning.fillna("").tolist()
    assert found[0].startswith(
        "the same work took up to 4.0 times longer in some batches than in others"
    )
    assert "--exclusive-timing" in found[0]
    assert found[1] == f"few images; {found[0]}"
    assert found[2:] == ["", ""]  # a prior's hundredth of the time may vary as it likes


def test_a_priors_draw_that_varies_is_warned_of_where_it_takes_its_time():
    found = table.comparison([timed("ot", (1, 1, 1), (2, 2, 9, 9))], "ddim", 50)
    assert "up to 3.3 times longer" in found.warning[0]  # (9 + 1) / (2 + 1)


# --- evaluations by the prior itself ----------------------------------------------------------------------


def test_seeds_whose_prior_evaluates_unlike_often_are_one_setting_of_the_most():
    rows = [row(seed=0, fid=1.0, nfe=7, nfe_prior=1.5), row(seed=1, fid=3.0, nfe=8, nfe_prior=2.5)]
    (found,) = table.summary(table.comparison(rows, "ddim", 50)).itertuples()
    assert (found.seeds, found.nfe, found.fid, found.nfe_prior) == (2, 8, 2.0, 2.0)

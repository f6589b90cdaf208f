"""What is kept on disk, and the fold of rows into the two tables."""

import io
import json
import os
import pickle
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load
from scipy import stats

from priorbench import UserError
from priorbench.bench import store as store_module
from priorbench.bench import table
from priorbench.bench.cell import CellResult
from priorbench.bench.config import make_config
from priorbench.bench.context import Source
from priorbench.bench.plan import CellSpec, make_plan
from priorbench.bench.store import Store
from priorbench.files import write_atomically

CONTRACT = """dataset, backbone, prior, params, emits, control, t_trunc, T, solver, nfe, seed, split, n_samples,
extractor, fid, kid, precision, recall, authenticity, sw2_xt, w2_xt, sw2_x0, w2_x0, fit_seconds,
prior_seconds, denoise_seconds, images_per_second, speedup, parameters, peak_memory_mb, device, threads,
concurrency, status, error, priorbench_version, torch_version, cell""".replace("\n", " ").split(", ")

SPEC = CellSpec(
    dataset=Source("digits"), backbone="digits", extractor=Source("digits"), prior="ot",
    params={"projections": 64, "width": 8}, metrics=(),
    settings="projections=64", control=False, t_trunc=100, seed=3, solvers=(("dpm++", 5), ("ddim", None)),
    n_samples=40, splits=(("test", 40),), batch_size=16, w2_points=30, fit_budget=None, device="cpu",
    precision="fp32", compile=False, save_samples=False,
    digests={"dataset": "d", "backbone": "b", "extractor": "e"},
    versions={"torch": "2"},
)  # fmt: skip


def result(spec=SPEC, status=("ok", "ok")):
    """A result as a cell would yield it."""
    rows = [{"prior": spec.prior, "seed": spec.seed, "fid": 1.5 + i, "status": s} for i, s in enumerate(status)]
    images = {
        "x_t": np.arange(3 * 64, dtype=np.uint8).reshape(3, 1, 8, 8),
        "x_0 dpm++ 5": np.full((2, 3, 4, 5), 255, np.uint8),
    }
    weights = (
        bytes.fromhex("3b00000000000000") + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}     ' + b"\0" * 4
    )
    about = {"params": spec.params, "emits": "x_t", "shape": [1, 8, 8]}
    return CellResult(spec, rows, images, weights, about, ["a line"])


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
    """At the fsync a reader still sees the old file, and the new one is complete under another name."""
    path, seen = tmp_path / "kept", []
    write_atomically(path, b"old")

    def watch(descriptor):
        other = [p for p in tmp_path.iterdir() if p != path]
        seen.append((path.read_bytes(), [p.read_bytes() for p in other], os.fstat(descriptor).st_size))

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
    kept = store.read(SPEC)
    assert kept["rows"] == made.rows == store.rows([SPEC])
    assert kept["about"] == made.about
    assert kept["log"] == made.log
    assert kept["spec"]["params"] == SPEC.params
    images = store.images(SPEC)
    assert list(images) == ["x_t", "x_0 dpm++ 5"]
    for name, wanted in made.images.items():
        assert images[name].dtype == np.uint8
        np.testing.assert_array_equal(images[name], wanted)


def test_the_fitted_prior_is_kept_with_what_loads_it(tmp_path):
    Store(tmp_path).write(result())
    (folder,) = (tmp_path / "priors").iterdir()
    assert folder.name == f"ot-t100-s3-{SPEC.cell[:8]}"
    assert load((folder / "prior.safetensors").read_bytes())["a"].tolist() == [0.0]
    about = json.loads((folder / "prior.json").read_text())
    assert about["prior"] == "ot"
    assert about["params"] == SPEC.params
    assert (about["t_trunc"], about["backbone"], about["shape"]) == (100, "digits", [1, 8, 8])


def test_nothing_is_unpickled(tmp_path):
    store = Store(tmp_path)
    store.write(result())
    buffer = io.BytesIO()
    np.savez(buffer, x_t=np.array([{"an": "object"}], dtype=object))
    write_atomically(store.images_path(SPEC), buffer.getvalue())
    with pytest.raises(ValueError, match="allow_pickle"):
        store.images(SPEC)


def test_nothing_there_is_none(tmp_path):
    assert Store(tmp_path / "nowhere").read(SPEC) is None
    assert Store(tmp_path / "nowhere").rows([SPEC]) == []


def test_a_torn_result_is_none_wherever_it_is_torn(tmp_path):
    store = Store(tmp_path)
    store.write(result())
    whole = store.path(SPEC).read_bytes().rstrip()
    assert store.read(SPEC) is not None
    for end in [*range(0, len(whole) - 1, 17), len(whole) - 1]:
        store.path(SPEC).write_bytes(whole[:end])
        assert store.read(SPEC) is None, whole[:end]


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"null",
        b"3",
        b'"text"',
        b"\xff\xfe",
        b"{}",
        json.dumps({"cell": SPEC.cell}).encode(),
        json.dumps({"cell": SPEC.cell, "rows": 3}).encode(),
        json.dumps({"cell": SPEC.cell, "rows": None}).encode(),
        json.dumps({"cell": SPEC.cell, "rows": ["ok"]}).encode(),
        json.dumps({"cell": SPEC.cell, "rows": [{"fid": 3}]}).encode(),
        json.dumps({"cell": "another", "rows": [{"status": "ok"}] * 2}).encode(),
    ],
)
def test_a_foreign_result_is_none(tmp_path, content):
    store = Store(tmp_path)
    store.write(result())
    store.path(SPEC).write_bytes(content)
    assert store.read(SPEC) is None


@pytest.mark.parametrize("rows", [0, 1])
def test_a_result_without_a_row_for_each_setting_is_none(tmp_path, rows):
    store = Store(tmp_path)
    store.write(result())
    kept = json.loads(store.path(SPEC).read_text())
    store.path(SPEC).write_text(json.dumps(kept | {"rows": kept["rows"][:rows]}))
    assert store.read(SPEC) is None


def test_the_result_of_another_spec_under_this_name_is_none(tmp_path):
    store, other = Store(tmp_path), replace(SPEC, seed=4)
    store.write(result())
    store.write(result(other))
    assert store.read(other) is not None
    store.path(other).replace(store.path(SPEC))
    assert store.read(SPEC) is None


@pytest.mark.parametrize("status", [("failed", "failed"), ("ok", "failed"), ("failed", "ok")])
def test_a_failure_is_never_reused(tmp_path, status):
    store = Store(tmp_path)
    store.write(result(status=status))
    assert store.path(SPEC).is_file()
    assert store.read(SPEC) is None


def test_a_result_without_its_images_is_none(tmp_path):
    store = Store(tmp_path)
    store.write(result())
    store.images_path(SPEC).unlink()
    assert store.read(SPEC) is None


@pytest.mark.parametrize("works", range(4))
def test_a_write_cut_short_anywhere_is_none(tmp_path, monkeypatch, works):
    """Of the four files of a result only the last makes it one."""
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
    assert store.read(SPEC) is None
    assert not store.path(SPEC).exists()


def test_rows_come_in_the_order_asked_for(tmp_path):
    store, other = Store(tmp_path), replace(SPEC, seed=4)
    for spec in (SPEC, other):
        store.write(result(spec))
    assert [r["seed"] for r in store.rows([other, replace(SPEC, seed=5), SPEC])] == [4, 4, 3, 3]


CHANGES = {
    "dataset": Source("x"), "backbone": "x", "extractor": Source("x"), "metrics": ("x",), "prior": "x",
    "params": {"projections": 65, "width": 8},
    "settings": "x", "control": True, "t_trunc": 101, "seed": 4, "solvers": (("dpm++", 5),), "n_samples": 41,
    "batch_size": 17, "w2_points": 31, "fit_budget": "1s",
    "splits": (("test", 40), ("validation", 20)), "device": "cuda", "precision": "bf16", "compile": True,
    "save_samples": True, "digests": {"dataset": "d", "backbone": "b", "extractor": "f"}, "versions": {"torch": "3"},
}  # fmt: skip


def test_all_that_determines_a_cell_is_in_its_name():
    assert set(CHANGES) == {f.name for f in fields(CellSpec)}
    names = {SPEC.cell, *(replace(SPEC, **{name: value}).cell for name, value in CHANGES.items())}
    assert len(names) == 1 + len(CHANGES)


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
    return row("noise", seed, seconds, **{"t_trunc": 1000, "solver": "ddim", "steps": 50, "nfe": 50, **changes})


def test_every_column_of_the_contract_is_there():
    assert set(CONTRACT) <= set(table.COLUMNS)
    assert len(set(table.COLUMNS)) == len(table.COLUMNS)
    assert list(table.comparison([full(), row()], "ddim", 50).columns) == table.COLUMNS
    assert set(table.AVERAGED) | set(table.MEASURED_IN_TIME) <= set(table.COLUMNS)


def test_speedup_is_over_the_full_chain_of_the_same_seed():
    rows = [row(seed=1, seconds=2), full(0, 10), full(1, 30), row(seed=0, seconds=2), row("vae", 1, 60)]
    found = table.comparison(rows, "ddim", 50)
    assert found.speedup.tolist() == pytest.approx([15, 1, 1, 5, 0.5])
    assert found.seed.tolist() == [1, 0, 1, 0, 1]


def test_nothing_but_the_full_chain_is_taken_for_it():
    """Rows that share all but one of what makes the full chain, each before it and each faster."""
    changes = [{"prior": "ot"}, {"t_trunc": 100}, {"solver": "dpm++"}, {"steps": 5}, {"status": "failed"}]
    near = [full(seconds=0.02) | change for change in changes]
    found = table.comparison([*near, full(seconds=10), row(seconds=2)], "ddim", 50)
    assert found.speedup.iloc[-1] == pytest.approx(5)
    assert found.speedup.iloc[-2] == pytest.approx(1)


def test_all_steps_of_the_full_chain_are_T():
    found = table.comparison([full(seconds=3), full(seconds=12, steps=1000, nfe=1000), row(seconds=2)], "ddim", None)
    assert found.speedup.tolist() == pytest.approx([4, 1, 6])


def test_without_its_full_chain_a_seed_has_no_speedup_and_the_others_have():
    rows = [full(0), full(1, status="failed", prior_seconds=None, denoise_seconds=None), row(seed=0), row(seed=1)]
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
        columns=table.COLUMNS)).itertuples()  # fmt: skip
    half = 4.302652729911275 * 7**0.5 / 3**0.5
    assert found.seeds == 3
    assert found.fid == pytest.approx(3)
    assert (found.fid_low, found.fid_high) == pytest.approx((3 - half, 3 + half))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(-1000, 1000).map(lambda k: k / 8), min_size=2, max_size=6).filter(lambda v: len(set(v)) > 1)
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
    for name in table.AVERAGED:
        assert found[[f"{name}_low", f"{name}_high"]].isna().all(axis=None)
    on_disk = pd.read_csv(io.StringIO(found.to_csv(index=False)), keep_default_na=False, dtype=str)
    assert on_disk.fid.iloc[1] == "2.5"
    assert (on_disk.fid_low == "").all()
    assert (on_disk.fid_high == "").all()


def test_the_interval_counts_the_seeds_that_have_a_value():
    """The full chain of one seed of three failed, so two seeds have a speed-up: one degree of freedom, not two."""
    rows = [full(0, 10), full(1, 14), full(2, status="failed"), *(row(seed=s, seconds=2) for s in range(3))]
    means = table.summary(table.comparison(rows, "ddim", 50))
    found = means[means.prior == "ot"].iloc[0]
    assert found.speedup == pytest.approx(6)
    wanted = stats.t.interval(0.95, 1, loc=6, scale=stats.sem([5, 7]))
    assert (found.speedup_low, found.speedup_high) == pytest.approx(wanted)


def test_failed_rows_are_no_seeds():
    rows = [row(seed=0, fid=1.0), row(seed=1, fid=3.0), row(seed=2, fid=100.0, status="failed")]
    (found,) = table.summary(table.comparison(rows, "ddim", 50)).itertuples()
    assert (found.seeds, found.fid) == (2, 2.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"prior": "vae"}, {"params": "width=3"}, {"emits": "x_0"}, {"t_trunc": 200}, {"solver": "ddim"}, {"steps": 6},
        {"n_samples": 41}, {"extractor": "inception"}, {"device": "cuda:0"}, {"threads": 2}, {"concurrency": 2},
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
    assert list(nothing.columns) == table.COLUMNS
    assert len(nothing) == len(table.summary(nothing)) == 0
    failed = table.comparison([row(status="failed")], "ddim", 50)
    assert "seeds" in table.summary(failed).columns


def test_all_steps_and_their_number_are_one_setting():
    """Else one seed counts twice in summary.csv, with an interval of its own."""
    config = make_config(overrides={"priors": "gaussian", "t_trunc": "100", "steps": "all,100"}, sets=["controls=[]"])
    cell = make_plan(config).cells[-1]
    assert (cell.prior, cell.t_trunc) == ("gaussian", 100)
    taken = [(solver, cell.t_trunc if steps is None else steps) for solver, steps in cell.solvers]
    assert taken == [("dpm++", 100)]

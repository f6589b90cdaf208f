"""The trackers that come with priorbench, against real stores on disk."""

import struct
import sys
import time

import pandas as pd
import pytest
from helpers.survival import FAULTY, small_run

from priorbench import UserError
from priorbench.plugin_files import FILES
from priorbench.plugin_manager import load_plugins

pytestmark = pytest.mark.slow

RUN = {"priors": "gaussian,vae[iterations=6,width=8]", "steps": [2, 3]}
BLOCK, WHOLE, LAST = 2**15, 1, 4  # of LevelDB's logs
VAE = "vae[iterations=6,width=8] t_trunc 100 seed 0"
TITLES = {"noise t_trunc 1000 seed 0", "gaussian t_trunc 100 seed 0", VAE}


def fids(table, prior):
    """The FID of a prior on the test split, by NFE."""
    chosen = table[(table.prior == prior) & (table.solver == "dpm++")]
    return dict(zip(chosen.nfe, chosen.fid, strict=True))


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Nothing is sent to anybody."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store(tmp_path):
    """A client of a store in a new database, and the option that names it."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    return MlflowClient(uri), uri


def runs_of(client, experiment):
    """The whole run, and those of its cells by their titles."""
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    (whole,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    cells = {run.info.run_name: run for run in found if run is not whole}
    assert len(cells) == len(found) - 1
    assert {run.data.tags["mlflow.parentRunId"] for run in cells.values()} == {whole.info.run_id}
    return whole, cells


def test_mlflow_has_a_run_with_a_child_for_each_cell(store, tmp_path, capsys):
    client, uri = store
    folder, options = tmp_path / "out", {"track": f"mlflow[uri={uri},experiment=mine]", **RUN}
    table = small_run(folder, report=True, **options)
    assert capsys.readouterr().out == ""
    whole, cells = runs_of(client, "mine")
    assert (whole.info.run_name, whole.info.status) == ("digits", "FINISHED")
    assert whole.data.params["full_chain.steps"] == "2"
    assert whole.data.params["priors"].startswith('[{"name": "gaussian"')
    files = {file.path for file in client.list_artifacts(whole.info.run_id)}
    assert {
        "comparison.csv",
        "summary.csv",
        "best.csv",
        "run.json",
        "report.html",
        "grids",
    } == files
    assert client.list_artifacts(whole.info.run_id, "grids")
    assert cells.keys() == TITLES
    params = cells[VAE].data.params
    assert (params["prior"], params["t_trunc"], params["vae.iterations"]) == ("vae", "100", "6")
    assert {cell.info.status for cell in cells.values()} == {"FINISHED"}

    def history(name):
        found = client.get_metric_history(cells[VAE].info.run_id, name)
        return {one.step: one.value for one in found}, len(found)

    assert history("test/dpmpp/fid") == (fids(table, "vae"), 2)
    curve = pd.read_csv(next((folder / "fits").glob("vae-*.csv")))
    points = dict(zip(curve.step, curve.distance, strict=True))
    assert history("fit/distance") == (pytest.approx(points, rel=1e-12), len(curve))

    # The same run again with a third number of steps goes on in the same runs.
    table = small_run(folder, **options | {"steps": [2, 3, 4]})
    again, cells = runs_of(client, "mine")
    assert again.info.run_id == whole.info.run_id
    assert cells.keys() == TITLES
    assert history("test/dpmpp/fid") == (fids(table, "vae"), 3)
    assert history("fit/distance")[1] == len(curve)

    # A run that was deleted is begun anew, and told everything.
    client.delete_run(whole.info.run_id)
    for cell in cells.values():
        client.delete_run(cell.info.run_id)
    small_run(folder, **options)
    whole, cells = runs_of(client, "mine")
    assert whole.info.run_id != again.info.run_id
    assert cells.keys() == TITLES


def test_mlflow_says_which_cells_failed(store, tmp_path, monkeypatch):
    client, uri = store
    monkeypatch.setenv(FILES, str(FAULTY))
    load_plugins.cache_clear()
    small_run(tmp_path / "out", priors="raises,gaussian", track=f"mlflow[uri={uri}]")
    load_plugins.cache_clear()
    whole, cells = runs_of(client, "priorbench")
    assert whole.info.status == "FAILED"
    assert {title.split()[0]: cell.info.status for title, cell in cells.items()} == {
        "raises": "FAILED", "gaussian": "FINISHED", "noise": "FINISHED",
    }  # fmt: skip
    assert cells["raises t_trunc 100 seed 0"].data.tags["priorbench_error"]


def test_mlflow_that_cannot_be_reached_or_is_deleted_is_one_line(store, tmp_path, monkeypatch):
    client, uri = store
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(UserError, match="the experiment 'gone' is deleted; restore it or name"):
        small_run(tmp_path / "out", track=f"mlflow[uri={uri},experiment=gone]", **RUN)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        UserError, match=r"tracker 'mlflow\[uri=http://127\.0\.0\.1:9\]': .*refused"
    ):
        small_run(tmp_path / "out", track="mlflow[uri=http://127.0.0.1:9]", **RUN)
    assert not list((tmp_path / "out").glob("cells/*"))


@pytest.mark.parametrize(
    ("name", "module"), [("mlflow", "mlflow"), ("wandb", "wandb"), ("tensorboard", "tensorboard")]
)
def test_a_library_that_is_missing_is_named_with_its_extra(tmp_path, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"tracker '{name}': it needs .*priorbench\[{name}\]'"):
        small_run(tmp_path, track=name, **RUN)


def test_tensorboard_has_a_folder_for_each_cell(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def events(name):
        (folder,) = (tmp_path / "tensorboard").glob(f"digits-*/{name}")
        return EventAccumulator(str(folder)).Reload()

    table = small_run(tmp_path, track="tensorboard", **RUN)
    vae = events("vae-iterations=6-width=8-t_trunc-100-seed-0")
    said = {one.step: one.value for one in vae.Scalars("test/dpmpp/fid")}
    assert said == pytest.approx(fids(table, "vae"), rel=1e-6)  # kept in single precision
    assert [one.step for one in vae.Scalars("fit/distance")][-1] == 6
    assert "_hparams_/session_start_info" in vae.summary_metadata
    run = events("run")
    shown = {path.stem for path in (tmp_path / "grids").glob("*.png")}
    assert {*run.Tags()["images"]} == shown
    (config,) = run.Tensors("config/text_summary")
    assert "| n_samples | 24 |" in config.tensor_proto.string_val[0].decode()

    # From another folder nothing is told twice; --fresh begins another folder.
    monkeypatch.chdir(tmp_path.parent)
    small_run(tmp_path.name, track="tensorboard", **RUN)
    vae = events("vae-iterations=6-width=8-t_trunc-100-seed-0")
    assert len(vae.Scalars("test/dpmpp/fid")) == 2
    small_run(tmp_path.name, track="tensorboard", fresh=True, **RUN)
    assert len([*(tmp_path / "tensorboard").glob("digits-*")]) == 2


def records(folder):
    """What an offline run of W&B keeps: its messages, in a log of LevelDB's format."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("run-*.wandb")
    data, at, begun, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK  # no part begins where its header does not fit
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        begun += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (WHOLE, LAST):
            found.append(wandb_internal_pb2.Record.FromString(begun))
            begun = b""
    return found


def all_records(folder):
    """The records of an offline run that has ended: a process of W&B's writes them in its time."""
    for _ in range(300):
        found = records(folder)
        kinds = {m.WhichOneof("record_type") for m in found}
        if {"run", "exit"} <= kinds:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{folder} has only {kinds} half a minute after its run")


def test_wandb_has_a_group_of_runs(tmp_path):
    table = small_run(tmp_path / "out", report=True, track="wandb[project=mine]", **RUN)
    runs = {}
    for folder in (tmp_path / "wandb").glob("offline-run-*"):
        messages = all_records(folder)
        (about,) = [m.run for m in messages if m.WhichOneof("record_type") == "run"]
        runs[about.display_name] = (about, messages)
    assert runs.keys() == {*TITLES, "digits"}
    assert len({about.run_group for about, _ in runs.values()}) == 1
    assert {about.project for about, _ in runs.values()} == {"mine"}
    assert {about.job_type for about, _ in runs.values()} == {"cell", "run"}
    _, messages = runs[VAE]
    said, steps = {}, []
    for history in (m.history for m in messages if m.WhichOneof("record_type") == "history"):
        values = {"/".join(i.nested_key) or i.key: i.value_json for i in history.item}
        if "test/dpmpp/fid" in values:
            said[int(values["test/dpmpp/nfe"])] = float(values["test/dpmpp/fid"])
        if "fit/distance" in values:
            steps.append(int(values["fit/step"]))
    assert said == pytest.approx(fids(table, "vae"))
    assert steps[-1] == 6
    whole = " ".join(str(m) for m in runs["digits"][1])
    for shown in ("grids/", "report", "comparison"):
        assert shown in whole

"""A run from the config to the tables."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch_fidelity
from helpers.rows import CONTRACT
from helpers.runs import SMALL, small_run
from PIL import Image
from scipy import stats
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

import priorbench
from priorbench import load_prior
from priorbench.bench import work
from priorbench.files import write_atomically
from priorbench.metrics.wasserstein import exact_w2
from priorbench.plan.layout import make_plan
from priorbench.plan.reading import make_config
from priorbench.plugin_manager import load_plugins
from priorbench.store.results import Store
from priorbench.tables import columns
from priorbench.tables import fold as table
from priorbench.task import Source, load_task

pytestmark = pytest.mark.slow

# What 40 samples, one solver step more in the full chain and no choice leave open.
UNKNOWN = {
    "kid", "fid_inf", "excess", "relative_nfe", "relative_time", "relative_flops", "break_even",
    "stored_train", "stored_validation", "stored_test", "gain", "late_gain",
    # No prior of this run shows latents in image space.
    "transport_cost", "transport_cost_points", "transport_cost_gaussian",
}  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A small run: its folder, which nobody writes to, and its table."""
    folder = tmp_path_factory.mktemp("run")
    return folder, small_run(
        folder, priors="gaussian,gaussian[covariance=diagonal],vae[iterations=5,width=16]"
    )


def test_the_table_has_the_contracts_columns_and_a_row_a_cell_and_setting(done):
    folder, found = done
    assert set(CONTRACT) <= set(found.columns)
    assert list(found.columns) == columns.COLUMNS
    assert (found.status == "ok").all()
    assert [(r.prior, r.params, r.t_trunc, r.nfe, r.control) for r in found.itertuples()] == [
        ("noise", "", 1000, 4, True), ("noise", "", 1000, 2, True), ("gaussian", "", 100, 2, False),
        ("gaussian", "covariance=diagonal", 100, 2, False),
        ("vae", "iterations=5,width=16", 100, 2, False),
        ("noise", "", 100, 2, True), ("oracle", "", 100, 2, True),
    ]  # fmt: skip
    measured = found[[c for c in columns.AVERAGED if c not in UNKNOWN]]
    assert np.isfinite(measured.to_numpy(float)).all()
    on_disk = pd.read_csv(folder / "comparison.csv", keep_default_na=False)
    assert on_disk.shape == found.shape
    assert len(pd.read_csv(folder / "summary.csv")) == len(found)
    assert all((folder / "priors" / fit).is_dir() for fit in found.fit)
    (curve,) = (folder / "fits").iterdir()
    assert curve.stem == found[found.prior == "vae"].fit.item()
    full = found.iloc[0]
    assert full.speedup == pytest.approx(1)
    others = (full.prior_seconds + full.denoise_seconds) / (
        found.prior_seconds + found.denoise_seconds
    )
    assert np.allclose(found.speedup, others)


def test_the_saved_samples_have_the_reported_metrics(done, tmp_path):
    """fid, kid, precision and recall by torch-fidelity on saved PNGs; W2 at x_0 by POT."""
    folder, found = done
    row = found[found.prior == "oracle"].iloc[0]
    with np.load(folder / "images" / f"{row.cell}.npz") as images:
        x_0 = images["x_0 dpm++ 2"]
    assert len(x_0) == 40
    task = load_task(Source("digits"), "digits", Source("digits"))
    for name, batch in (("made", x_0), ("test", task.dataset.test.numpy())):
        (tmp_path / name).mkdir()
        for i, image in enumerate(batch):
            Image.fromarray(image[0]).save(tmp_path / name / f"{i:05d}.png")
    theirs = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "made"), input2=str(tmp_path / "test"),
        feature_extractor=row.extractor, cuda=False,
        fid=True, kid=True, prc=True, kid_subset_size=40, cache=False, verbose=False,
        samples_shuffle=False,
    )  # fmt: skip
    assert row.fid == pytest.approx(theirs["frechet_inception_distance"], abs=1e-6)
    assert row.kid == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-6)
    assert row.precision == pytest.approx(theirs["precision"], abs=1e-6)
    assert row.recall == pytest.approx(theirs["recall"], abs=1e-6)
    made, test = (
        torch.from_numpy(a[:30]).float() / 127.5 - 1 for a in (x_0, task.dataset.test.numpy())
    )
    assert row.w2_x0 == pytest.approx(exact_w2(made, test), rel=1e-6)


def test_grids_are_pictures(done):
    folder, _ = done
    names = {p.name for p in (folder / "grids").iterdir()}
    assert names == {
        "noise-t1000.png",
        "gaussian-t100.png",
        "gaussian-covariance=diagonal-t100.png",
        "vae-iterations=5-width=16-t100.png",
        "noise-t100.png",
        "oracle-t100.png",
    }
    for name in names:
        with Image.open(folder / "grids" / name) as image:
            assert min(image.size) > 300
            assert np.asarray(image.convert("L")).std() > 10


def test_a_fitted_prior_is_kept_and_loads(done):
    folder, _ = done
    paths = sorted((folder / "priors").glob("gaussian-t100-s0-*/prior.json"))
    assert len(paths) == 2
    x = load_prior(paths[0].parent, device="cpu").sample(3, torch.Generator().manual_seed(0))
    assert x.shape == (3, 1, 8, 8)


def test_the_same_command_gives_the_same_table_and_another_seed_does_not(done, tmp_path):
    _, first = done
    again = small_run(
        tmp_path / "a", priors="gaussian,gaussian[covariance=diagonal],vae[iterations=5,width=16]"
    )
    same = [c for c in columns.COLUMNS if c not in columns.VARIES]
    pd.testing.assert_frame_equal(first[same], again[same])
    other = small_run(tmp_path / "b", seed=1)
    assert not set(other.fid) & set(first.fid)


def test_takes_what_is_done_from_the_folder(done, monkeypatch, tmp_path):
    folder, first = shutil.copytree(done[0], tmp_path / "copied"), done[1]
    monkeypatch.setattr(work, "run_cell", lambda *_: pytest.fail("computed again"))
    again = small_run(folder, priors="gaussian")
    assert set(again.cell) < set(first.cell)
    assert pd.read_csv(folder / "comparison.csv").shape[0] == len(again) == 5


def test_two_seeds_give_a_students_interval(tmp_path):
    found = small_run(tmp_path, seeds=2)
    means = table.summary(found)
    pair = found[found.prior == "gaussian"].fid
    row = means[means.prior == "gaussian"].iloc[0]
    assert row.seeds == 2
    assert row.fid == pytest.approx(pair.mean())
    low, high = stats.t.interval(0.95, 1, loc=pair.mean(), scale=stats.sem(pair))
    assert (row.fid_low, row.fid_high) == pytest.approx((low, high))
    single = table.summary(found[found.seed == 0])
    assert single.fid_low.isna().all()
    assert single.fid.notna().all()


def test_settings_are_chosen_on_other_samples_and_other_images(tmp_path):
    """Each setting has a row on the choosing split, with its own samples; figures that are no
    choice are the test's.
    """
    settings = SMALL | {"n_validation": 24, "controls": ["oracle"], "rivals": ["unipc"]}
    found = small_run(tmp_path, t_trunc=[100, 300], settings=settings)
    choosing = found[found.split != "test"]
    assert len(choosing) == len(found) / 2
    assert set(choosing[choosing.prior != "oracle"].split) == {"validation"}
    assert set(choosing[choosing.prior == "oracle"].split) == {"train"}
    assert set(choosing.n_samples) == {24}  # rivals too
    assert choosing.fid.notna().all()
    assert (
        choosing[["kid", "excess", "relative_nfe", "authenticity", "sw2_xt"]].isna().all(axis=None)
    )
    assert set(found[(found.prior == "noise") & (found.t_trunc == 1000)].solver) == {
        "ddim",
        "dpm++",
        "unipc",
    }
    best = pd.read_csv(tmp_path / "best.csv")
    assert (best.split == "test").all()
    mine = best[best.prior == "gaussian"].iloc[0]
    scores = choosing[(choosing.prior == "gaussian") & (choosing.nfe == 2)].set_index("t_trunc").fid
    assert mine.t_trunc == scores.idxmin()
    test = found[
        (found.prior == "gaussian") & (found.t_trunc == mine.t_trunc) & (found.split == "test")
    ]
    assert mine.fid == pytest.approx(test.fid.iloc[0])
    bare = small_run(tmp_path / "bare", t_trunc=[100, 300], settings=settings | {"n_validation": 0})
    again = found[found.split == "test"].reset_index(drop=True)
    assert (
        bare.fid.tolist() == again.fid.tolist()
    )  # the choosing samples take nothing from the reported ones


def test_three_colours_go_through_the_whole_harness(tmp_path, pipeline, monkeypatch):
    """A backbone of one's own by its folder, a registered data set, every learned prior, T = 60."""
    plugins = load_plugins()
    monkeypatch.setitem(
        plugins.registrations,
        ("dataset", "colours"),
        SimpleNamespace(name="colours", load=lambda: _colours),
    )
    monkeypatch.setitem(
        plugins.registrations,
        ("extractor", "colours"),
        SimpleNamespace(
            name="colours", load=lambda: MeanColour, distribution="colours", version="1"
        ),
    )
    folder = pipeline((3, 8, 8), num_train_timesteps=60, prediction_type="v_prediction")
    found = small_run(
        tmp_path,
        dataset="colours",
        backbone=str(folder),
        t_trunc=[1, 30],
        steps="all",
        priors="gaussian,ot[iterations=2,width=32],vae[iterations=2],gan[iterations=2]",
        settings=SMALL | {"extractor": "colours"},
    )
    assert (found.status == "ok").all(), found.error.tolist()
    assert set(found[found.t_trunc == 30].nfe) == {30}
    assert set(found[found.t_trunc == 1].nfe) == {1}
    with Image.open(tmp_path / "grids" / "vae-iterations=2-t30.png") as image:
        assert np.asarray(image.convert("RGB")).std(axis=2).max() > 20


def _colours():
    generator = torch.Generator().manual_seed(0)
    splits = [
        torch.randint(0, 256, (60, 3, 8, 8), generator=generator).to(torch.uint8) for _ in range(3)
    ]
    return priorbench.Dataset("colours", *splits)


class MeanColour(FeatureExtractorBase):
    """Twelve features: each channel's mean over each quarter."""

    def __init__(self):
        super().__init__("mean-colour", ["means"])
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    @staticmethod
    def get_provided_features_list():
        return ("means",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return "means"

    def forward(self, x):
        return (torch.nn.functional.avg_pool2d(x.float() / 255, 4).flatten(1),)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"cell": "other", "rows": []}', '{"rows": 3}']
)
def test_a_torn_or_foreign_result_is_computed_again(done, content, tmp_path):
    folder, _ = done
    plan = make_plan(
        make_config(
            overrides={"priors": "gaussian", "t_trunc": [100], "steps": 2, "n_samples": 40},
            sets=[f"{k}={json.dumps(v)}" for k, v in SMALL.items()],
        )
    )
    spec = plan.cells[1]
    assert Store(folder).missing(spec) == ()
    store = Store(tmp_path)
    write_atomically(store.path(spec), content.encode())
    write_atomically(store.images_path(spec), b"")
    assert store.missing(spec) == spec.solvers


def test_a_junk_backbone_gets_an_amber_verdict(tmp_path, pipeline):
    """Whatever beats pure noise by an untrained model, the verdict is about the model."""
    options = {"priors": "gaussian", "steps": 5, "n_samples": 200, "t_trunc": [100], "report": True}
    settings = SMALL | {"n_validation": 150, "full_chain.steps": 20}
    backbone = str(pipeline())
    small_run(tmp_path, backbone=backbone, settings=settings, **options)
    best = pd.read_csv(tmp_path / "best.csv")
    assert best.doubt.str.match(
        r"the full chain \(ddim, NFE 20\) scores FID \S+, \S+ times the floor"
    ).all()
    assert best[best.prior == "gaussian"].beats_noise.tolist() == ["yes"]
    page = (tmp_path / "report.html").read_text()
    assert "<h1>This run measures its backbone more than its priors" in page
    assert "kicker pays" not in page

"""The harness and the command line, run as a user runs them."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch_fidelity
from helpers.runs import SMALL, Plugin, command, small_run
from PIL import Image
from scipy import stats
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

import priorbench
from priorbench import FitRun, TruncPrior, UserError, hookimpl, load_prior
from priorbench.bench import work
from priorbench.bench.estimate import _Enough, _Taste, estimate
from priorbench.files import write_atomically
from priorbench.metrics.wasserstein import exact_w2
from priorbench.plan.layout import make_plan
from priorbench.plan.reading import make_config
from priorbench.plugin_manager import load_plugins
from priorbench.runner import execute
from priorbench.store.results import Store
from priorbench.tables import columns
from priorbench.tables import fold as table
from priorbench.task import Source, load_task

CONTRACT = """dataset, backbone, prior, params, emits, control, t_trunc, T, solver, nfe, seed, split,
n_samples, extractor, fid, kid, precision, recall, authenticity, sw2_xt, w2_xt, sw2_x0, w2_x0, fit_seconds,
prior_seconds, denoise_seconds, images_per_second, speedup, parameters, peak_memory_mb, device, threads, concurrency,
status, error, priorbench_version, torch_version, cell""".replace("\n", " ").split(", ")


# What 40 samples, one solver step more in the full chain and no choice leave open.
UNKNOWN = {
    "kid", "fid_inf", "excess", "relative_nfe", "relative_time", "break_even", "stored_train", "stored_validation",
    "stored_test",
}  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A small run: its folder and table."""
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
        ("gaussian", "covariance=diagonal", 100, 2, False), ("vae", "iterations=5,width=16", 100, 2, False),
        ("noise", "", 100, 2, True), ("oracle", "", 100, 2, True),
    ]  # fmt: skip
    measured = found[[c for c in columns.AVERAGED if c not in UNKNOWN]]
    assert np.isfinite(measured.to_numpy(float)).all()
    on_disk = pd.read_csv(folder / "comparison.csv", keep_default_na=False)
    assert on_disk.shape == found.shape
    assert len(pd.read_csv(folder / "summary.csv")) == len(found)
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
        input1=str(tmp_path / "made"), input2=str(tmp_path / "test"), feature_extractor=row.extractor, cuda=False,
        fid=True, kid=True, prc=True, kid_subset_size=40, cache=False, verbose=False, samples_shuffle=False,
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
    assert names == {"noise-t1000.png", "gaussian-t100.png", "gaussian-covariance=diagonal-t100.png",
                     "vae-iterations=5-width=16-t100.png", "noise-t100.png", "oracle-t100.png"}  # fmt: skip
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


def test_what_is_done_is_not_computed_again(done, monkeypatch):
    folder, first = done
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


# --- priors that misbehave, planted as plugins -------------------------------------------------------------


class Planted(TruncPrior):
    """Noise, until a subclass does worse."""

    def __init__(self) -> None:
        super().__init__()

    def build(self, shape):
        self.register_buffer("centre", torch.zeros(shape))

    def fit(self, marginal, run: FitRun):
        pass

    def sample(self, n, generator):
        return torch.randn(n, *self.centre.shape, generator=generator)


class Raises(Planted):
    def fit(self, marginal, run):
        raise ZeroDivisionError("a planted\nfault")


class NotFinite(Planted):
    def sample(self, n, generator):
        return torch.full((n, 1, 8, 8), float("nan"))


class WrongShape(Planted):
    def sample(self, n, generator):
        return torch.zeros(n, 8, 8)


class TooFew(Planted):
    def sample(self, n, generator):
        return torch.zeros(n - 1, 1, 8, 8)


class Trains(Planted):
    def fit(self, marginal, run):
        with torch.no_grad():
            next(marginal.diffusion.network.parameters()).add_(1e-3)


class Exits(Planted):
    def fit(self, marginal, run):
        raise SystemExit(3)


class Memory(Planted):
    def sample(self, n, generator):
        raise MemoryError


class Terminal(Planted):
    def fit(self, marginal, run):
        raise ValueError("\x1b[2Jgone")


FAULTS = {
    "raises": (Raises, "ZeroDivisionError: a planted fault"),
    "notfinite": (NotFinite, "not finite"),
    "wrongshape": (WrongShape, r"shape \(16, 1, 8, 8\), got \(16, 8, 8\)"),
    "toofew": (TooFew, r"got \(15, 1, 8, 8\)"),
    "trains": (Trains, "changed the frozen model"),
    "exits": (Exits, "SystemExit: 3"),
    "memory": (Memory, "MemoryError: out of memory"),
    "terminal": (Terminal, r"ValueError: \\x1b\[2Jgone"),
}


@pytest.fixture
def planted():
    def register_priors(register):
        for name, (cls, _) in FAULTS.items():
            register(name, f"{__name__}:{cls.__name__}")

    plugins = load_plugins()
    plugins.add(Plugin(register_priors=hookimpl(register_priors)), "planted", "planted", "1")
    yield
    plugins.manager.unregister(name="planted/planted")
    for name in FAULTS:
        del plugins.registrations["prior", name]


def test_a_prior_that_fails_has_a_row_with_the_reason_and_the_others_go_on(planted, tmp_path):
    names = ",".join(FAULTS)
    found = small_run(tmp_path, priors=f"{names},gaussian")
    for name, (_, reason) in FAULTS.items():
        row = found[found.prior == name].iloc[0]
        assert row.status == "failed"
        assert pd.Series([row.error]).str.contains(reason).all(), row.error
        assert pd.isna(row.fid)
    assert (found[~found.prior.isin(FAULTS)].status == "ok").all()
    (log,) = tmp_path.glob("logs/*.log")
    assert log.read_text().count("Traceback") == len(FAULTS)
    assert "\x1b" not in log.read_text()
    plan = make_plan(make_config(overrides={"priors": "raises", "t_trunc": [100], "steps": 2, "n_samples": 40},
                                 sets=[f"{k}={json.dumps(v)}" for k, v in SMALL.items()]))  # fmt: skip
    broken = next(s for s in plan.cells if s.prior == "raises")
    assert Store(tmp_path).missing(broken) == broken.solvers  # a failure is not kept
    assert not Store(tmp_path).fits.path(broken).exists()
    task = load_task(Source("digits"), "digits", Source("digits"))
    assert task.diffusion.digest() == task.backbone_digest  # and the frozen model is as it was


def test_the_deadline_is_handed_on(tmp_path):
    """A fit of hours ends, because the budget became its deadline; one of an instant goes on until
    then.
    """
    priors = "vae[iterations=10000000],gan[iterations=1,width=16]"
    found = small_run(tmp_path, priors=priors, fit_budget=1.0, settings=SMALL | {"controls": []})
    learned = found[~found.control.astype(bool)]
    assert (learned.status == "ok").all()
    assert learned.fit_seconds.between(1.0, 6.0).all()
    assert (learned.fit_steps > 1).all()
    assert (learned.fit_budget == "1s").all()


def test_a_budget_of_steps_is_the_same_for_every_learned_prior(tmp_path):
    priors = "vae[iterations=10000000,width=16],gan[iterations=1,width=16],gaussian"
    found = small_run(
        tmp_path, priors=priors, fit_budget="7 steps", settings=SMALL | {"controls": []}
    )
    assert found.set_index("prior").fit_steps.to_dict() == {
        "noise": 0,
        "vae": 7,
        "gan": 7,
        "gaussian": 0,
    }


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


@pytest.mark.parametrize(("given", "wanted"), [(None, {40}), (24, {24}), (100, {40}), (0, set())])
def test_every_cell_is_chosen_by_equally_many_samples(given, wanted):
    """FID falls with the number of samples: t_trunc = T, or a rival, would be chosen for having
    more of them.
    """
    settings = SMALL | {"controls": ["noise", "oracle"], "rivals": ["unipc"], "n_validation": given}
    plan = make_plan(make_config(overrides={"priors": "gaussian", "t_trunc": [100, 1000], "steps": 2, "n_samples": 40},
                                 sets=[f"{k}={json.dumps(v)}" for k, v in settings.items()]))  # fmt: skip
    assert {spec.t_trunc for spec in plan.cells if spec.prior == "gaussian"} == {100, 1000}
    assert {n for spec in plan.cells for split, n in spec.splits if split != "test"} == wanted


def test_three_colours_go_through_the_whole_harness(planted, tmp_path, pipeline, monkeypatch):
    """A backbone of one's own by its folder, a registered data set, every learned prior, T = 60."""
    plugins = load_plugins()
    monkeypatch.setitem(
        plugins.registrations, ("dataset", "colours"), SimpleNamespace(load=lambda: _colours)
    )
    monkeypatch.setitem(
        plugins.registrations,
        ("extractor", "colours"),
        SimpleNamespace(load=lambda: MeanColour, distribution="colours", version="1"),
    )
    folder = pipeline((3, 8, 8), num_train_timesteps=60, prediction_type="v_prediction")
    found = small_run(
        tmp_path,
        dataset="colours",
        backbone=str(folder),
        t_trunc=[1, 30],
        steps="all",
        priors="gaussian,ot[iterations=2,emits=x_0],vae[iterations=2],gan[iterations=2]",
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


# --- the store --------------------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "kept"
    write_atomically(path, b"old")
    monkeypatch.setattr(
        "os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(UserError, match=r"cannot write .*kept: No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"cell": "other", "rows": []}', '{"rows": 3}']
)
def test_a_torn_or_foreign_result_is_computed_again(done, content, tmp_path):
    folder, _ = done
    plan = make_plan(make_config(overrides={"priors": "gaussian", "t_trunc": [100], "steps": 2, "n_samples": 40},
                                 sets=[f"{k}={json.dumps(v)}" for k, v in SMALL.items()]))  # fmt: skip
    spec = plan.cells[1]
    assert Store(folder).missing(spec) == ()
    store = Store(tmp_path)
    write_atomically(store.path(spec), content.encode())
    write_atomically(store.images_path(spec), b"")
    assert store.missing(spec) == spec.solvers


# --- the command line, as a process -----------------------------------------------------------------------


def test_run_writes_below_the_current_folder_and_says_where(tmp_path):
    arguments = ["--priors", "gaussian", "--t-trunc", "100", "--steps", "2", "--n-samples", "40"]
    sets = [f"--set={k}={json.dumps(v)}" for k, v in SMALL.items()]
    result = command("run", *arguments, *sets, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "results" / "digits" / "comparison.csv").is_file()
    assert "gaussian" in result.stdout
    assert "Floor (training images)" in result.stdout
    assert "comparison.csv" in result.stdout


@pytest.mark.parametrize(("arguments", "message"), [
    (["run", "--priors", "gausian"], "no prior 'gausian'; did you mean 'gaussian'?"),
    (["run", "--priors", "ot[projection=3]"], "did you mean 'projections'?"),
    (["run", "--t-trunc", "0,2000"], "t_trunc must be a whole number from 1 to T = 1000, got 0"),
    (["run", "--t-trunc", "100,2000"], "got 2000"),
    (["run", "--steps", "500"], "steps must be a whole number from 1 to t_trunc = 100, got 500"),
    (["run", "--solver", "dmp++"], "did you mean 'dpm++'?"),
    (["run", "--dataset", "digit"], "no data set 'digit'; did you mean 'digits'?"),
    (["run", "--backbone", "nothing"], "no backbone 'nothing'"),
    (["run", "--set", "n_sample=3"], "did you mean 'n_samples'?"),
    (["run", "--device", "quantum"], "device 'quantum' cannot be used"),
    (["run", "missing.yaml"], "config file missing.yaml does not exist"),
    (["run", "--n-samples", "many"], "many"),
    (["run", "--nonsense"], "nonsense"),
    (["runn"], "no command 'runn'; did you mean 'run'?"),
    (["backbone", "train", "--output", "x", "--channels", "3"], "multiples of 8"),
])  # fmt: skip
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(tmp_path, arguments, message):
    result = command(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("priorbench: error: ")
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    result = command("run", "--priors", "gaussian", "--output", str(tmp_path / "file" / "below"))
    assert result.returncode == 2
    assert "cannot write" in result.stderr.splitlines()[-1]


def test_help_and_version_without_torch(tmp_path):
    blocked = "import sys; sys.modules['torch'] = None; from priorbench.cli import main; main()"
    for arguments in (["--help"], ["run", "--help"], ["plugins"], ["--version"]):
        result = subprocess.run(
            [sys.executable, "-c", blocked, *arguments], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
    assert "oracle" in command("plugins").stdout


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    sets = ["--set=full_chain.steps=4", "--set=controls=[]", "--set=rivals=[]"]
    result = command(
        "run", "--dry-run", "--priors", "gaussian", "--n-samples", "40", *sets, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "4 cells (0 done), 10 rows" in result.stdout
    assert "on this machine" in result.stdout
    assert not list(tmp_path.iterdir())


def test_the_estimate_counts_images_times_evaluations(monkeypatch):
    """At a pretended 10 s an evaluation of an image everything else is small change."""
    monkeypatch.setattr("priorbench.bench.estimate._seconds_per_evaluation", lambda *_: 10.0)
    sets = ["full_chain.steps=4", "controls=[]", "batch_size=16", "rivals=[]", "n_validation=24"]
    config = make_config(
        overrides={"priors": "gaussian", "t_trunc": [100], "steps": 2, "n_samples": 40}, sets=sets
    )
    plan = make_plan(config)
    assert estimate(plan, []) == 0
    assert estimate(plan, plan.cells) == pytest.approx(
        (40 + 24 + 16) * (4 + 2 + 2) * 10.0, rel=0.05
    )


def test_the_estimate_tells_what_is_done_once_from_the_steps(monkeypatch):
    """Thirty seconds before the first step, then a tenth a step."""
    clock = [30.0]
    monkeypatch.setattr("priorbench.bench.estimate.time.monotonic", lambda: clock[0])
    taste = _Taste()

    def fit():
        for step in range(1, 1001):
            taste(step, 1000, 0.0)
            clock[0] += 0.1

    with pytest.raises(_Enough):
        fit()
    assert clock[0] + taste.rest == pytest.approx(30 + 0.1 * 999)


def test_training_commands_write_what_loads(tmp_path):
    trained = command(
        "backbone", "train", "--steps", "2", "--channels", "8,16", "--timesteps", "20", "--prediction", "v_prediction",
        "--output", str(tmp_path / "backbone"),
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    diffusion = priorbench.FrozenDiffusion.from_pretrained(tmp_path / "backbone", device="cpu")
    assert (diffusion.T, diffusion.config["prediction_type"]) == (20, "v_prediction")
    trained = command(
        "extractor",
        "train",
        "--epochs",
        "1",
        "--features",
        "8",
        "--output",
        str(tmp_path / "extractor"),
    )
    assert trained.returncode == 0, trained.stderr
    about = json.loads((tmp_path / "extractor" / "extractor.json").read_text())
    assert about["features"] == 8
    assert 0 < about["accuracy"]["test"] <= 1


def test_the_plugins_events_are_told(tmp_path):
    heard = []
    listener = Plugin(
        run_started=hookimpl(
            lambda plan: heard.append(("started", len(plan.cells))), specname="run_started"
        ),
        cell_finished=hookimpl(
            lambda result: heard.append(("cell", result.spec.prior)), specname="cell_finished"
        ),
        run_finished=hookimpl(
            lambda comparison: heard.append(("finished", len(comparison))), specname="run_finished"
        ),
    )
    manager = load_plugins().manager
    manager.register(listener, "listener")
    try:
        config = make_config(overrides={"priors": "gaussian", "t_trunc": [100], "steps": 2, "n_samples": 40},
                             sets=[f"{k}={json.dumps(v)}" for k, v in (SMALL | {"controls": []}).items()])  # fmt: skip
        execute(make_plan(config), Store(tmp_path))
    finally:
        manager.unregister(listener)
    assert heard == [("started", 2), ("cell", "noise"), ("cell", "gaussian"), ("finished", 3)]

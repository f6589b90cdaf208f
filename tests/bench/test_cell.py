"""One cell: priors that misbehave, budgets, and sources that change on the way."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from helpers.clocks import Ticking
from helpers.runs import SMALL, Plugin, small_run

from priorbench import FitRun, TruncPrior, UserError, hookimpl, prior
from priorbench.bench import fitting
from priorbench.bench.cell import task_of
from priorbench.bench.retiming import retimed
from priorbench.diffusion import solvers
from priorbench.plan.layout import make_plan, read_plan
from priorbench.plan.reading import make_config
from priorbench.plugin_files import FILES
from priorbench.plugin_manager import load_plugins
from priorbench.prior_files import ABOUT
from priorbench.sampler import times_of
from priorbench.store.results import Store
from priorbench.task import Source, load_task

pytestmark = pytest.mark.slow


def test_a_process_that_loads_something_else_than_was_planned_says_so():
    plan = read_plan(None, {"priors": "gaussian", "t_trunc": [100], "n_samples": 24})
    spec = next(spec for spec in plan.cells if spec.prior == "gaussian")
    assert task_of(spec)
    for name in ("dataset", "backbone", "extractor"):
        with pytest.raises(
            UserError, match=f"{name.replace('dataset', 'data set')} .* has changed since"
        ):
            task_of(_with(spec, digests=spec.digests | {name: "0" * 64}))
    with pytest.raises(UserError, match="plugin of prior 'gaussian' has changed"):
        task_of(_with(spec, versions=spec.versions | {spec.distribution: "0"}))


def _with(spec, **changes):
    from dataclasses import replace

    return replace(spec, **changes)


def test_a_prior_that_says_anything_and_fails_leaves_the_others_alone(tmp_path, monkeypatch):
    from helpers.survival import FAULTY, small_run

    monkeypatch.setenv(FILES, str(FAULTY))
    load_plugins.cache_clear()
    found = small_run(tmp_path, priors="raises,gaussian")
    assert set(found[found.prior == "gaussian"].status) == {"ok"}
    assert "Panic: of another language" in found[found.prior == "raises"].error.iloc[0]
    load_plugins.cache_clear()


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


class Timed(Planted):
    """Chains of 2 steps have times of its own."""

    def times(self, t_trunc, steps):
        return [10, t_trunc] if steps == 2 else None


class Mistimed(Planted):
    def times(self, t_trunc, steps):
        return [t_trunc, 10]


class Timeless(Planted):
    def times(self, t_trunc, steps):
        return 1 / 0


class Limitless(Planted):
    """Learns, and would have more of a budget than the others."""

    takes_budget = False

    def fit(self, marginal, run):
        assert list(run.steps(3)) == [0, 1, 2]


FAULTS = {
    "raises": (Raises, "ZeroDivisionError: a planted fault"),
    "notfinite": (NotFinite, "not finite"),
    "wrongshape": (WrongShape, r"shape \(16, 1, 8, 8\), got \(16, 8, 8\)"),
    "toofew": (TooFew, r"got \(15, 1, 8, 8\)"),
    "trains": (Trains, "changed the frozen model"),
    "mistimed": (Mistimed, r"times\(100, 2\): times must be 2 whole numbers .*, got \[100, 10\]"),
    "timeless": (Timeless, "ZeroDivisionError"),
    "exits": (Exits, "SystemExit: 3"),
    "memory": (Memory, "MemoryError: out of memory"),
    "limitless": (Limitless, "fit took 3 steps, and takes_budget is False"),
    "terminal": (Terminal, r"ValueError: \\x1b\[2Jgone"),
}


@pytest.fixture
def planted():
    def register_priors(register):
        for name, (cls, _) in FAULTS.items():
            register(name, f"{__name__}:{cls.__name__}")
        register("timed", f"{__name__}:Timed")

    plugins = load_plugins()
    plugins.add(Plugin(register_priors=hookimpl(register_priors)), "planted", "planted", "1")
    yield
    plugins.manager.unregister(name="planted/planted")
    for name in (*FAULTS, "timed"):
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
    plan = make_plan(
        make_config(
            overrides={"priors": "raises", "t_trunc": [100], "steps": 2, "n_samples": 40},
            sets=[f"{k}={json.dumps(v)}" for k, v in SMALL.items()],
        )
    )
    broken = next(s for s in plan.cells if s.prior == "raises")
    assert Store(tmp_path).missing(broken) == broken.solvers  # a failure is not kept
    assert not Store(tmp_path).fits.path(broken).exists()
    task = load_task(Source("digits"), "digits", Source("digits"))
    assert task.diffusion.digest() == task.backbone_digest  # and the frozen model is as it was


def test_a_prior_chooses_the_times_of_its_chain(planted, tmp_path, monkeypatch):
    """On every split, in the picture and when it is timed again."""
    settings = SMALL | {"controls": [], "n_validation": 24, "full_chain.steps": 2}
    seen = []
    monkeypatch.setattr(solvers.Chain, "run", _noting(seen, solvers.Chain.run))
    options = {"priors": "timed", "steps": "2,3", "t_trunc": [40]}
    found = small_run(tmp_path, settings=settings, **options)
    assert (found.status == "ok").all()
    chains = {tuple(times) for times in seen if times[-1] == 40 and len(times) > 1}
    assert chains == {(10, 40), (13, 27, 40)}
    row = found[(found.prior == "timed") & (found.steps == 2)].iloc[0]
    assert row.nfe == 2
    sets = [f"{k}={json.dumps(v)}" for k, v in settings.items()]
    plan = read_plan(None, options | {"n_samples": 40}, sets)
    spec = replace(plan.cells[-1], solvers=(("dpm++", 2),))
    seen.clear()
    again = retimed(spec, [row.to_dict() | {"cell": spec.cell}], Store(tmp_path).fits, print)
    assert len(again) == 1
    assert [10, 40] in seen
    assert times_of(Mistimed(), 40, None) == list(range(1, 41))  # it is not asked


def _noting(seen, run):
    def noting(chain, *args):
        seen.append(chain.times)
        return run(chain, *args)

    return noting


def test_pure_noise_with_tuned_times_is_fitted_within_the_budget_and_kept(tmp_path):
    settings = SMALL | {"controls": [], "rival_timesteps": ["tuned", "quadratic"]}
    found = small_run(tmp_path, fit_budget="3 steps", settings=settings, steps="2,5")
    rivals = found[(found.prior == "noise") & (found.params != "")].set_index(["params", "steps"])
    assert (rivals.status == "ok").all()
    assert rivals.fit_steps.to_dict() == {
        ("timesteps=tuned", 2): 3, ("timesteps=tuned", 5): 3,
        ("timesteps=quadratic", 2): 0, ("timesteps=quadratic", 5): 0,
    }  # fmt: skip
    assert rivals.fid.nunique() == 4
    (folder,) = [p for p in tmp_path.glob("priors/noise-*") if '"tuned"' in (p / ABOUT).read_text()]
    kept = prior.load_prior(folder, "cpu")
    assert len(kept.times(1000, 5)) == 5
    assert kept.times(1000, 33) is None  # uniform


def test_the_deadline_is_handed_on(tmp_path, monkeypatch):
    """A fit of hours ends, because the budget became its deadline; one of an instant goes on until
    then. The clock ticks 64 times a second, once at every step.
    """
    clock = Ticking(1 / 64)
    for module in (fitting, prior):
        monkeypatch.setattr(module, "time", clock)
    priors = "vae[iterations=10000000,density=normal],gan[iterations=1,width=16]"
    found = small_run(tmp_path, priors=priors, fit_budget=1.0, settings=SMALL | {"controls": []})
    learned = found[~found.control.astype(bool)]
    assert (learned.status == "ok").all()
    assert learned.fit_steps.between(60, 64).all(), learned.fit_steps.tolist()
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


def test_budgets_are_an_axis_and_another_one_computes_its_own_cells_alone(tmp_path):
    """Closed forms and controls run once, but for tuned times, which are fitted."""
    settings = SMALL | {"rival_timesteps": ["uniform", "tuned"], "n_validation": 40}
    options = {"priors": "vae[width=16],gaussian", "settings": settings, "seeds": 2}
    found = small_run(tmp_path, fit_budget="2 steps,5 steps", **options)
    assert (found.status == "ok").all()
    cells = found.drop_duplicates("cell").groupby(["prior", "params", "fit_budget"]).size()
    assert cells.to_dict() == {
        ("noise", "", ""): 6, ("oracle", "", ""): 2,
        ("noise", "timesteps=tuned", "2 steps"): 2, ("noise", "timesteps=tuned", "5 steps"): 2,
        ("vae", "width=16", "2 steps"): 2, ("vae", "width=16", "5 steps"): 2,
        ("gaussian", "", "2 steps"): 2,  # its first rows, by name
    }  # fmt: skip
    closed = found[found.prior == "gaussian"]
    assert sorted(closed.fit_budget) == ["2 steps"] * 4 + ["5 steps"] * 4
    assert closed.groupby(["cell", "split"]).fid.nunique().eq(1).all()
    ranked = pd.read_csv(tmp_path / "best.csv").query("prior == 'gaussian'")
    assert ranked.fit_budget.tolist() == ["2 steps", "5 steps"]
    assert ranked.fid.nunique() == 1
    assert ranked.difference.notna().all()
    learned = found[(found.fit_budget != "") & (found.prior != "gaussian")]
    assert (learned.fit_steps.astype(str) + " steps" == learned.fit_budget).all()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*")}
    assert len(kept) == found.cell.nunique()
    again = small_run(tmp_path, fit_budget="2 steps,5 steps,7 steps", **options)
    new = set(again.cell) - set(found.cell)
    assert set(again[again.cell.isin(new)].fit_budget) == {"7 steps"}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

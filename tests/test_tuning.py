"""The best setting under a cost, without the whole grid."""

import json
import re

import pandas as pd
import pytest
import torch
from helpers.commands import call

import priorbench
from priorbench import UserError
from priorbench.cli.tune import tune
from priorbench.runner import Observer
from priorbench.store.results import Store
from priorbench.tuning import TRIALS, Limit, read_tuning
from priorbench.tuning.grid import arms_of
from priorbench.tuning.search import NEAR, Search

SETS = ["controls=[noise]", "n_samples=40", "n_validation=24", "batch_size=16"]
SETS += ["full_chain.steps=20", "w2_points=20"]
GRID = {"priors": "gaussian,mixture,vae", "t_trunc": [100, 200, 400]}


def grid(limit, sets=(), **options):
    return read_tuning(None, GRID | options, [*SETS, *sets], limit)


# --- the grid -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "steps"), [
    (Limit(nfe=4), [1, 2, 3, 4]), (Limit(nfe=7), [1, 2, 3, 4, 5, 6, 7]),
    (Limit(nfe=60), [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50]),
])  # fmt: skip
def test_steps_are_all_that_the_limit_allows(limit, steps):
    assert grid(limit).config.steps == steps
    assert grid(limit, steps="2,3").config.steps == [2, 3]
    assert grid(limit, sets=["steps=[2]"]).config.steps == [2]


def test_steps_follow_from_seconds(monkeypatch):
    monkeypatch.setattr("priorbench.tuning.grid.seconds_per_evaluation", lambda *_: 0.001)
    assert grid(Limit(seconds=0.0045)).config.steps == [1, 2, 3, 4, 5]
    assert grid(Limit(nfe=2, seconds=0.0045)).config.steps == [1, 2]
    assert grid(Limit(seconds=1e-9)).config.steps == [1]


@pytest.mark.parametrize(("limit", "options", "sets", "said"), [
    (Limit(), {}, (), "a limit is needed: max_nfe, max_seconds or both"),
    (Limit(seconds=0), {}, (), "max_seconds must be more than 0 and finite, got 0"),
    (Limit(nfe=3), {"fit_budget": "2s,5s"}, (), "fit_budget must be one budget"),
    (Limit(nfe=3), {}, ("n_validation=0",), "n_validation must be more than 0"),
    (Limit(nfe=3), {"track": "tensorboard"}, (), "a tuning is not tracked"),
    (Limit(nfe=3), {"priors": "vea"}, (), "did you mean 'vae'?"),
])  # fmt: skip
def test_what_cannot_be_tuned_is_refused(limit, options, sets, said):
    with pytest.raises(UserError) as caught:
        grid(limit, sets, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_are_those_of_the_grid_within_the_limit():
    limit = Limit(nfe=3)
    plan = grid(limit, steps="1,3,5")
    arms = arms_of(plan, limit)
    assert {arm.setting[1] for arm in arms} == {1, 3}
    assert {a.spec.label for a in arms if not a.is_noise} == {"gaussian", "mixture", "vae"}
    assert {a.spec.t_trunc for a in arms if not a.is_noise} == {100, 200, 400}
    assert {a.spec.t_trunc for a in arms if a.is_noise} == {1000}
    assert {a.setting[0] for a in arms if a.is_noise} == {"dpm++", "dpm++sde", "unipc"}
    kinds = [(arm.is_noise, arm.learned) for arm in arms]
    assert kinds == sorted(kinds, key=lambda kind: (not kind[0], kind[1]))
    assert {a.spec.label for a in arms if a.learned} == {"vae"}


def test_a_trial_is_the_cell_with_less_of_everything():
    limit = Limit(nfe=3)
    plan = grid(limit, sets=["n_samples=4000", "n_validation=4000"])
    *_, vae = arms_of(plan, limit)
    first, second, last = (vae.at(rung) for rung in range(3))
    assert [spec.fit_budget for spec in (first, second, last)] == ["6.25%", "25%", None]
    assert [spec.splits[1][1] for spec in (first, second, last)] == [2000, 4000, 4000]
    assert last == vae.spec
    mixture = next(arm for arm in arms_of(plan, limit) if arm.spec.prior == "mixture")
    assert {mixture.at(rung).fit for rung in range(3)} == {mixture.spec.fit}


# --- the search, with scores that are made up -----------------------------------------------------


class Known(Search):
    """Scores by a formula, instead of by samples."""

    def __init__(self, plan, limit, trials, score, folder):
        super().__init__(plan, Store(folder), limit, trials, Observer())
        self.score = score

    def measured(self, arm, rung):
        row = {
            "cell": arm.spec.cell, "prior": arm.spec.prior, "params": arm.spec.settings,
            "t_trunc": arm.spec.t_trunc, "solver": arm.setting[0], "steps": arm.setting[1],
            "rung": rung, "nfe": arm.setting[1], "seconds": 0.001 * arm.setting[1],
            "outcome": "", "fid": self.score(arm, rung),
        }  # fmt: skip
        self.tried.append(row)
        return row


def formula(arm, rung):
    """vae at t_trunc = 200 is the best with a whole fit, though not with short ones."""
    short = {0: 1.0, 1: 0.3, 2: 0.0}[rung] if arm.learned else 0.4
    away = abs(arm.spec.t_trunc - 200) / 100 if not arm.is_noise else 3.0
    solver = 0.1 * len(arm.setting[0])
    return 1 + away + short + 3 / arm.setting[1] + solver


def searched(tmp_path, trials, score=formula, **options):
    limit = Limit(nfe=5)
    search = Known(grid(limit, **options), limit, trials, score, tmp_path)
    search.run()
    return search


def test_a_quarter_goes_on_at_each_rung_and_the_best_comes_through(tmp_path):
    search = searched(tmp_path, 1000)
    tried = pd.DataFrame(search.tried)
    count = len(search.arms)
    assert tried[tried.rung == 0].cell.nunique() == count
    assert (tried.rung == 1).sum() == -(-count // 4)
    assert (tried.rung == 2).sum() == -(-count // 16)
    assert set(tried[tried.rung == 2].outcome) == {"came through"}
    first = search.finalists[0]
    assert (first.spec.label, first.spec.t_trunc, first.setting[1]) == ("vae", 200, 5)


def test_a_slow_learner_gets_a_second_rung(tmp_path):
    """After a sixteenth of the fit vae is the worst; after a quarter it is the best."""

    def slow(arm, rung):
        return formula(arm, 0) + (100.0 * (rung == 0) - rung) * arm.learned

    search = searched(tmp_path, 1000, slow)
    tried = pd.DataFrame(search.tried)
    second = tried[tried.rung == 1]
    assert (second.prior == "vae").sum() == 1
    assert len(second) == -(-len(search.arms) // 4) + 1
    assert (tried[tried.rung == 2].prior == "vae").any()
    assert search.finalists[0].spec.label == "vae"


def test_the_estimator_finds_it_with_a_third_of_the_settings(tmp_path):
    search = searched(tmp_path, 30, solver="dpm++,ddim,unipc")
    assert len(search.arms) > 100
    tried = pd.DataFrame(search.tried)
    assert tried[tried.rung == 0].cell.nunique() == 30
    first = search.finalists[0]
    assert (first.spec.t_trunc, first.setting[1]) == (200, 5)


def test_proposals_repeat_and_leave_the_global_state_alone(tmp_path):
    before = torch.get_rng_state()
    once, again = (searched(tmp_path / name, 20).tried for name in "ab")
    assert once == again
    assert torch.equal(torch.get_rng_state(), before)


def test_every_pure_noise_that_may_be_the_best_is_measured_in_the_end(tmp_path):
    """A rival that is not the best would flatter what came through."""
    search = searched(tmp_path, 12)
    cells = search.final().cells
    steps = {cell.solvers[0][1] for cell in cells if not cell.control}
    for nfe in steps:
        noise = [a for a in search.arms if a.is_noise and a.setting[1] == nfe]
        least = min(formula(arm, 0) for arm in noise)
        near = {arm.spec.cell for arm in noise if formula(arm, 0) <= NEAR * least}
        assert near <= {cell.cell for cell in cells}


def test_where_pure_noise_wins_the_best_prior_is_measured_too(tmp_path):
    search = searched(tmp_path, 1000, lambda arm, rung: formula(arm, rung) - 5 * arm.is_noise)
    assert all(arm.is_noise for arm in search.finalists)
    cells = search.final().cells
    (prior,) = (cell for cell in cells if not cell.control)
    assert (prior.t_trunc, prior.solvers) == (200, (("dpm++", 5),))


def test_the_end_has_every_seed(tmp_path):
    cells = searched(tmp_path, 1000, seeds=3).final().cells
    assert {cell.seed for cell in cells} == {0, 1, 2}
    assert len(cells) % 3 == 0


def test_limits_are_of_what_was_measured():
    assert Limit(nfe=3).broken_by(4, 0.03) == "takes 4 evaluations"
    assert Limit(nfe=4, seconds=0.02).broken_by(4, 0.03) == "takes 0.03 s"
    assert Limit(nfe=4, seconds=0.031).broken_by(4, 0.03) == ""


def test_a_setting_whose_last_trial_breaks_the_limit_is_not_measured(tmp_path):
    """Its earlier trials, which kept it, must not bring it back."""

    class Slower(Known):
        def measured(self, arm, rung):
            row = super().measured(arm, rung)
            row["seconds"] *= 1 + 9 * (rung == 2 and arm.learned)
            return row

    limit = Limit(nfe=5, seconds=0.006)
    search = Slower(grid(limit, steps="1,2,3,4,5"), limit, 1000, formula, tmp_path)
    search.run()
    broken = {row["cell"] for row in search.tried if row["outcome"].startswith("takes")}
    cells = {cell.cell for cell in search.final().cells}
    assert broken
    assert cells - broken == cells != set()


def test_one_timing_that_is_far_out_excludes_no_setting(tmp_path):
    search = Search(grid(Limit(seconds=0.01)), Store(tmp_path), Limit(seconds=0.01), 9, Observer())
    search.chains[3] = [0.002, 0.002, 0.03]
    search.prior_seconds["a"] = 0.001
    row = {"cell": "a", "nfe": 3, "seconds": 0.031}
    assert search.too_much(row) == ""
    assert row["seconds"] == pytest.approx(0.003)


def test_trials_are_not_wasted_on_what_takes_too_long(tmp_path):
    """The grid may have more steps than the limit turns out to allow."""

    class Timed(Known):
        def measured(self, arm, rung):
            self.chains.setdefault(arm.steps, []).append(0.001 * arm.steps)
            self.prior_seconds[arm.spec.cell] = 0.0
            return super().measured(arm, rung)

    limit = Limit(seconds=0.0035)
    plan = grid(limit, steps="1,2,3,4,5,6", solver="dpm++,ddim,unipc")
    search = Timed(plan, limit, 24, formula, tmp_path)
    search.run()
    tried = pd.DataFrame(search.tried).query("rung == 0")
    assert len(tried) == 24
    assert 2 <= tried.outcome.str.startswith("takes").sum() <= 8
    assert (tried.steps == 3).sum() >= 10
    assert {arm.steps for arm in search.finalists} == {3}


def test_of_equals_what_needs_no_fit_goes_on(tmp_path):
    search = searched(tmp_path, 1000, lambda arm, rung: 1.0 + arm.is_noise)
    assert not any(arm.learned for arm in search.finalists)


def test_what_is_measured_besides_says_so(tmp_path):
    search = searched(tmp_path, 1000)
    search.final()
    assert any(row["outcome"] == "measured as a rival" for row in search.tried)
    search = searched(tmp_path, 1000, lambda arm, rung: formula(arm, rung) - 5 * arm.is_noise)
    search.final()
    assert any(row["outcome"] == "measured as the best prior" for row in search.tried)


def test_a_resumed_tuning_has_the_grid_that_it_began_with(tmp_path, monkeypatch):
    """Another timing of the network must not change it."""
    limit = Limit(seconds=0.0047)
    for seconds in (0.0005, 0.001):
        monkeypatch.setattr(
            "priorbench.tuning.grid.seconds_per_evaluation", lambda *_, s=seconds: s
        )
        plan = read_tuning(None, {"device": "cpu"}, SETS, limit, tmp_path)
        assert max(plan.config.steps) == 10
    assert max(read_tuning(None, {"device": "cpu"}, SETS, limit).config.steps) == 5


# --- the command ----------------------------------------------------------------------------------

QUICK = [
    "--priors", "gaussian,mixture[components=3],vae[iterations=40,width=16]",
    "--t-trunc", "100,200", "--n-samples", "40", *(word for one in SETS for word in ("--set", one)),
    "--set", "rivals=[ddim]", "--set", "rival_timesteps=[uniform]", "--device", "cpu",
]  # fmt: skip


@pytest.mark.slow
def test_the_command_finds_measures_and_resumes(tmp_path):
    words = ["tune", "--max-nfe", "2", *QUICK, "--trials", "8", "--output", "tuned"]
    done = call(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Picked" in done.stdout
    assert re.search(r"mixture\[components=3\] +200 ", done.stdout)
    assert re.search(r"\b(8|9|10) of 16 settings were tried", done.stdout)
    assert "the whole grid with its controls would take about" in " ".join(done.stdout.split())
    folder = tmp_path / "tuned"
    tried = pd.read_csv(folder / "tried.csv")
    assert tried[tried.rung == 0].cell.nunique() >= 8
    table = pd.read_csv(folder / "comparison.csv")
    assert "noise" in set(table.prior)
    assert set(table.nfe) <= {1, 2}
    best = priorbench.load_best(folder, device="cpu")
    assert best(3).shape == (3, 1, 8, 8)
    spent = json.loads((folder / "tuning.json").read_text())
    cells = {p: p.stat().st_mtime_ns for p in folder.glob("**/cells/*")}
    assert any("trials" in path.parts for path in cells)
    assert call(*words, cwd=tmp_path).returncode == 0
    assert {p: p.stat().st_mtime_ns for p in folder.glob("**/cells/*")} == cells
    again = json.loads((folder / "tuning.json").read_text())
    assert {k: v for k, v in again.items() if not k.startswith("final")} == {
        k: v for k, v in spent.items() if not k.startswith("final")
    }
    assert pd.read_csv(folder / "tried.csv").equals(tried)


@pytest.mark.slow
def test_what_no_setting_can_keep_is_a_line(tmp_path):
    done = call("tune", "--max-seconds", "1e-9", *QUICK, cwd=tmp_path)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "no setting of a prior is within the limits: the quickest takes" in last
    assert (tmp_path / "results" / "digits-tuned" / "tried.csv").is_file()


@pytest.mark.parametrize(("words", "said"), [
    (["--max-nfe", "3", "--steps", "5,8"], "steps must be at most max_nfe, 3, got 5, 8"),
    (["--max-nfe", "3", "--priors", "noise"], "priors must name a prior that is to be tuned"),
    (["--max-seconds", "inf"], "max_seconds must be more than 0 and finite"),
    ([], "a limit is needed"), (["--max-nfe", "0"], "--max-nfe"),
    (["--max-nfe", "2", "--trials", "1"], "--trials"),
])  # fmt: skip
def test_the_command_refuses_in_a_line(tmp_path, words, said):
    done = call("tune", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_command_and_the_function_make_as_many_trials():
    (option,) = (p for p in tune.params if p.name == "trials")
    assert option.default == TRIALS

"""How fits get on: the curve, what a look may not do, and who was still learning."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from helpers.models import QUICK
from helpers.runs import small_run

from priorbench import FitRun, TruncatedMarginal, TruncPrior, randn
from priorbench import prior as prior_module
from priorbench.bench import learning as learning_module
from priorbench.bench.learning import SHARES, gains, watched
from priorbench.diffusion.process import generator_for
from priorbench.plugin_manager import load_plugins
from priorbench.prior import make_prior, reloaded
from priorbench.tables.learning import STILL, still_learning


class Moving(TruncPrior):
    """Its mean goes from 1 to 0 in a line; ``finish`` takes a quarter of the noise away."""

    def __init__(self, *, iterations: int = 40, until: float = 1.0) -> None:
        super().__init__()
        self.iterations = iterations
        self.until = until

    def build(self, shape):
        self.register_buffer("mean", torch.ones(shape))
        self.register_buffer("noise", torch.ones(()))
        self.finishes = 0

    def fit(self, marginal, run):
        def finish():
            self.finishes += 1
            self.noise.fill_(0.75)

        for step in run.steps(self.iterations, finish):
            assert float(self.noise) == 1  # whatever a look did is undone
            torch.randn(3, generator=run.generator)
            done = (step + 1) / run.total
            self.mean.fill_(max(0.0, 1 - done / self.until))
            run.progress(step + 1, run.total, 1 - done)

    def sample(self, n, generator):
        return self.mean + self.noise * randn((n, *self.mean.shape), generator, self.device)


@pytest.fixture(scope="module")
def world(tiny):
    """Data at the mean 0, of standard deviation 0.1."""
    x = 0.1 * torch.randn(400, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return TruncatedMarginal(x, tiny, 20, x[:100])


def fitted(world, prior, watch=True, **given):
    run = FitRun(torch.Generator().manual_seed(0), **given)
    learning = watched(run, prior) if watch else None
    prior.fit(world, run)
    if learning:
        learning.look(run, 1.0, learning.seconds(run))
    return prior, learning, run


def curve_of(world, learning, spec):
    def remade(tensors):
        prior = reloaded(type(learning.prior)(**learning.prior.params()), world.shape, tensors)
        prior.fitted.fill_(True)
        return prior

    return learning.curve(spec, world, remade)


@pytest.fixture(autouse=True)
def looks(monkeypatch):
    """As often and by as many draws as in a run; other tests look less."""
    monkeypatch.setattr(learning_module, "DRAWS", 1000)
    monkeypatch.setattr(learning_module, "SHARES", SHARES)


@pytest.fixture(scope="module")
def spec():
    from helpers.specs import SPEC

    return replace(SPEC, seed=0)


def test_the_curve_is_of_the_prior_as_it_would_be_if_the_fit_ended_there(world, spec):
    """At share s the mean is 1 - s; sliced W2 to the mean 0 has the root of its square's mean."""
    _, learning, _ = fitted(world, Moving())
    curve = curve_of(world, learning, spec)
    assert [p["share"] for p in curve] == [*SHARES, 1.0]
    assert [p["step"] for p in curve] == [round(40 * p["share"]) for p in curve]
    assert [p["loss"] for p in curve[1:]] == pytest.approx(
        [sum(1 - i / 40 for i in range(5 * k + 1, 5 * k + 6)) / 5 for k in range(8)]
    )
    alpha_bar = world.alpha_bar
    real = (alpha_bar * 0.01 + 1 - alpha_bar) ** 0.5
    for point in curve:
        exact = ((1 - point["share"]) ** 2 + (0.75 - real) ** 2) ** 0.5
        assert point["distance"] == pytest.approx(exact, rel=0.1, abs=0.02)
        assert point["floor"] == pytest.approx(curve[0]["floor"])


@pytest.mark.parametrize("name", ["vae", "gan", "ot", "sinf"])
def test_a_look_changes_nothing_of_the_fit(world, name):
    cls = load_plugins().find("prior", name).load()
    one, learning, _ = fitted(world, make_prior(cls, name, QUICK[name]))
    other, _, _ = fitted(world, make_prior(cls, name, QUICK[name]), watch=False)
    assert len(learning.points) == len(SHARES) + 1
    assert not learning.fault
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_finish_is_called_at_the_end_without_anybody_looking(world):
    prior, _, _ = fitted(world, Moving(), watch=False)
    assert prior.finishes == 1
    assert float(prior.noise) == 0.75


class Clock:
    """A clock that only sleeping moves."""

    now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_the_seconds_of_looks_are_not_the_fits(world, monkeypatch):
    """Steps of 1/64 s and looks of 1 s: a budget of a quarter is 16 steps."""
    clock = Clock()
    for module in (prior_module, learning_module):
        monkeypatch.setattr(module, "time", clock)

    class Slow(Moving):
        def fit(self, marginal, run):
            for _ in run.steps(10, lambda: clock.sleep(1.0)):
                clock.sleep(1 / 64)

    run = FitRun(torch.Generator().manual_seed(0), deadline=0.25)
    prior = Slow()
    learning = watched(run, prior)
    prior.fit(world, run)
    assert run.taken == 16
    assert run.paused == pytest.approx(8.0)
    assert clock.now == pytest.approx(0.25 + 8 + 1)  # the last finish is the fit's own
    assert [p["step"] for p in learning.points] == [2 * i for i in range(8)]
    assert all(p["seconds"] == pytest.approx(p["step"] / 64) for p in learning.points)


def test_a_prior_that_cannot_be_looked_at_has_no_curve_and_is_fitted_all_the_same(world, spec):
    class Unready(Moving):
        def fit(self, marginal, run):
            def finish():
                if run.taken < 40:
                    raise RuntimeError("not yet")

            for _ in run.steps(40, finish):
                pass

    _, learning, run = fitted(world, Unready())
    assert run.taken == 40
    assert learning.fault == "RuntimeError: not yet"
    assert curve_of(world, learning, spec) == []


def test_a_prior_that_remembers_more_than_its_weights_has_no_curve(world, spec):
    class Forgetful(Moving):
        def fit(self, marginal, run):
            for _ in run.steps(10):
                pass
            self.secret = 5.0

        def sample(self, n, generator):
            return super().sample(n, generator) + getattr(self, "secret", 0.0)

    _, learning, _ = fitted(world, Forgetful())
    assert curve_of(world, learning, spec) == []
    assert "loaded from its weights" in learning.fault


def test_gains_by_hand():
    curve = [
        {"share": s, "distance": d} for s, d in ((0.0, 8.0), (0.5, 4.0), (0.75, 2.0), (1, 1.0))
    ]
    assert gains(curve) == {"gain": 1 - 1 / 8, "late_gain": 0.5}
    assert all(math.isnan(value) for value in gains([]).values())


@pytest.mark.parametrize(
    ("late_gain", "steps", "said"),
    [(0.03, 500, STILL), (0.01, 500, ""), (-0.5, 500, ""), (0.0, 1, STILL), (math.nan, 0, "")],
)
def test_who_was_still_learning(late_gain, steps, said):
    assert still_learning(late_gain, steps) == said


@pytest.mark.slow
def test_a_starved_prior_is_marked_and_a_converged_one_is_not(tmp_path):
    """In a run: on the table, in fits/, by the event, and again when the fit is reused."""
    options = {"priors": "vae[iterations=1,width=16],ot[iterations=20],mixture"}
    found = small_run(tmp_path, report=True, **options)
    marks = found[~found.control].set_index("prior").learning.to_dict()
    assert marks == {"vae": STILL, "ot": "", "mixture": ""}
    assert found[found.prior == "mixture"].gain.isna().all()
    curves = {pd.read_csv(f).prior[0]: pd.read_csv(f) for f in (tmp_path / "fits").glob("*.csv")}
    assert {prior: len(curve) for prior, curve in curves.items()} == {"vae": 2, "ot": 9}
    gain = 1 - curves["vae"].distance.iloc[-1] / curves["vae"].distance.iloc[0]
    assert found[found.prior == "vae"].gain.iloc[0] == pytest.approx(gain)
    page = (tmp_path / "report.html").read_text()
    assert "<b>still learning</b> vae[iterations=1,width=16] at t_trunc 100" in page
    assert 'id="learning"' in page
    again = small_run(tmp_path, steps=3, **options)
    assert again[again.prior == "vae"].gain.tolist() == pytest.approx([gain])


def test_generators_of_looks_are_their_own(world, spec):
    """The same prior looked at twice has the same curve."""
    curves = [curve_of(world, fitted(world, Moving())[1], spec) for _ in range(2)]
    assert [p["distance"] for p in curves[0]] == [p["distance"] for p in curves[1]]
    assert generator_for(0, "look").initial_seed() != generator_for(0, "sample").initial_seed()

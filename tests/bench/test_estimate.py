"""How long a run will take."""

import pytest

from priorbench.bench.estimate import estimate
from priorbench.bench.taste import Enough, Taste
from priorbench.plan.layout import make_plan
from priorbench.plan.reading import make_config
from priorbench.runner import execute, unfinished
from priorbench.store.results import Store


@pytest.mark.slow
def test_the_estimate_counts_images_times_evaluations(monkeypatch):
    """At a pretended 10 s an evaluation of an image everything else is small change."""
    monkeypatch.setattr("priorbench.bench.estimate.seconds_per_evaluation", lambda *_: 10.0)
    sets = ["full_chain.steps=4", "controls=[]", "batch_size=16", "rivals=[]", "n_validation=24"]
    sets.append("rival_timesteps=uniform")
    config = make_config(
        overrides={"priors": "gaussian", "t_trunc": [100], "steps": 2, "n_samples": 40}, sets=sets
    )
    plan = make_plan(config)
    assert estimate(plan, []) == (0, 0)
    assert estimate(plan, plan.cells).seconds == pytest.approx(
        (40 + 24 + 16) * (4 + 2 + 2) * 10.0, rel=0.05
    )


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only where a test says so."""
    now = [0.0]
    monkeypatch.setattr("priorbench.bench.taste.time.monotonic", lambda: now[0])
    return now


def take(steps, seconds, taste, clock, total):
    """Take steps of so many seconds each."""
    for step in steps:
        clock[0] += seconds
        taste.progress(step + 1, total, 0.0)


def test_the_estimate_tells_what_is_done_once_from_the_steps(clock):
    """Thirty seconds before the first step, then a tenth a step."""
    taste = Taste(None, 1.0)
    clock[0] = 30.0
    with pytest.raises(Enough):
        take(taste.steps(1000), 0.1, taste, clock, 1000)
    assert clock[0] + taste.rest == pytest.approx(30 + 0.1 * 1000)
    assert taste.learned


def test_the_estimate_adds_up_the_phases_of_a_fit(clock):
    """Twenty rounds of 6 s that ask for the time, and then 100 steps of half a second."""
    taste = Taste(None, 1.0)
    for step in range(20):
        clock[0] += 6.0
        taste.progress(step + 1, 20, 0.0)
        if taste.out_of_time():
            break
    assert step == 1
    with pytest.raises(Enough):
        take(taste.steps(100), 0.5, taste, clock, 100)
    assert clock[0] + taste.rest == pytest.approx(20 * 6.0 + 100 * 0.5)


def test_a_fit_without_steps_that_never_asks_for_the_time_is_ended(clock):
    taste = Taste(None, 1.0)
    with pytest.raises(Enough):
        take(range(100), 2.0, taste, clock, 100)
    assert clock[0] + taste.rest == pytest.approx(200)
    assert not taste.learned


@pytest.mark.slow
def test_a_fit_that_is_shared_is_counted_once():
    """vae is fitted once for three t_trunc, gaussian for each; so it is with the disk."""
    config = {"priors": "vae,gaussian", "n_samples": 20, "steps": 1}
    sets = ["full_chain.steps=1", "controls=[]", "rivals=[]", "rival_timesteps=uniform"]
    sets += ["n_validation=0", "fit_budget=1000s"]
    once, thrice = (
        make_plan(make_config(overrides=config | {"t_trunc": t}, sets=sets))
        for t in ([100], [100, 200, 300])
    )
    one, three = (estimate(plan, plan.cells) for plan in (once, thrice))
    assert 1000 < one.seconds < three.seconds < 1200
    assert one.disk < three.disk < 2 * one.disk


@pytest.mark.slow
def test_the_estimate_counts_a_copy_of_the_model_and_the_rivals_that_it_needs(monkeypatch):
    """distil takes an evaluation of its own: in every draw, at each look, and of its rivals."""
    monkeypatch.setattr("priorbench.bench.estimate.seconds_per_evaluation", lambda *_: 10.0)
    sets = ["full_chain.steps=4", "controls=[]", "batch_size=16", "rivals=[]", "n_validation=24"]
    sets += ["rival_timesteps=uniform", "fit_budget=500s"]
    config = make_config(
        overrides={"priors": "distil", "t_trunc": [100], "steps": 2, "n_samples": 40}, sets=sets
    )
    plan = make_plan(config)
    found = estimate(plan, plan.cells).seconds
    noise, own, looks = 4 + 2 + 3, 2 + 1, 10_000
    assert found == pytest.approx(500 + ((40 + 24 + 16) * (noise + own) + looks) * 10.0, rel=0.01)


@pytest.mark.slow
def test_a_dry_run_counts_what_is_left_alone(tmp_path):
    """One more number of steps needs no other fit, and nothing that is there already."""
    given = {"priors": "gaussian", "t_trunc": [100], "n_samples": 20}
    sets = ["full_chain.steps=1", "controls=[]", "rivals=[]", "rival_timesteps=uniform"]
    sets += ["n_validation=0"]
    once, twice = (
        make_plan(make_config(overrides=given | {"steps": steps}, sets=sets))
        for steps in (1, [1, 2])
    )
    store = Store(tmp_path)
    execute(once, store, report=False)
    left = unfinished(twice.cells, store)
    assert [spec.solvers for spec in left] == [(("dpm++", 2),), (("dpm++", 2),)]
    assert store.fits.holds(left[1])
    assert not Store(tmp_path / "other").fits.holds(left[1])
    again, kept = estimate(twice, left), estimate(twice, left, store.fits)
    assert kept.disk < again.disk

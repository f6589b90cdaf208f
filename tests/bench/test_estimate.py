"""How long a run will take."""

import pytest

from priorbench.bench.estimate import _Enough, _Taste, estimate
from priorbench.plan.layout import make_plan
from priorbench.plan.reading import make_config


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

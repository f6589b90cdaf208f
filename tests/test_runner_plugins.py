"""Plugins in a run: events, metrics, executors."""

import json

import pandas as pd
import pytest
import torch
from helpers.runs import SMALL, Plugin

import priorbench
from priorbench import UserError, hookimpl
from priorbench.plan.layout import make_plan
from priorbench.plan.reading import make_config
from priorbench.plugin_manager import Registration, load_plugins
from priorbench.runner import execute
from priorbench.store.results import Store

pytestmark = pytest.mark.slow


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
        config = make_config(
            overrides={"priors": "gaussian", "t_trunc": [100], "steps": 2, "n_samples": 40},
            sets=[f"{k}={json.dumps(v)}" for k, v in (SMALL | {"controls": []}).items()],
        )
        execute(make_plan(config), Store(tmp_path))
    finally:
        manager.unregister(listener)
    assert heard == [("started", 2), ("cell", "noise"), ("cell", "gaussian"), ("finished", 3)]


def test_an_event_that_raises_is_named_and_the_run_goes_on(tiny_run, monkeypatch):
    def raising(plan):
        raise ValueError("planted")

    manager = load_plugins().manager
    plugin = Plugin(run_started=hookimpl(raising, specname="run_started"))
    manager.register(plugin, "raising")
    try:
        with pytest.warns(RuntimeWarning, match="run_started raised ValueError: planted"):
            assert (tiny_run().status == "ok").all()
        monkeypatch.setenv("PRIORBENCH_STRICT_PLUGINS", "1")
        with pytest.raises(UserError, match="planted"):
            tiny_run()
    finally:
        manager.unregister(plugin)


def measure(measured):
    assert measured.images.dtype == torch.uint8
    assert (
        len(measured.features)
        == len(measured.images)
        == len(measured.x_t)
        == len(measured.x_t_test)
        == 16
    )
    return {"grey": measured.images.float().mean(), "at": measured.t_trunc}


def clash(measured):
    return {"fid": 0.0}


@pytest.fixture
def tiny_run(monkeypatch, tmp_path):
    def run(**settings):
        plugins = load_plugins()
        for kind, name in (("metric", "measure"), ("metric", "clash")):
            found = Registration(kind, name, f"{__name__}:{name}", "", False, "metrics", "1.0")
            monkeypatch.setitem(plugins.registrations, (kind, name), found)
        small = {
            "controls": [],
            "n_validation": 0,
            "n_samples": 16,
            "steps": [1],
            "full_chain": {"steps": 2},
            "t_trunc": [100],
        }
        return priorbench.run(
            priors=["gaussian"], output=tmp_path / "out", settings=small | settings
        )

    return run


def test_a_metric_of_a_plugin_has_columns_of_its_own(tiny_run, tmp_path):
    table = tiny_run(metrics=["measure"])
    assert (table["at"] == table.t_trunc).all()
    assert table.grey.between(0, 255).all()
    summary = pd.read_csv(tmp_path / "out/summary.csv")
    assert summary.grey.tolist() == pytest.approx(table.grey.tolist())
    assert "grey" not in tiny_run().columns


def test_a_metric_cannot_overwrite_a_column(tiny_run):
    table = tiny_run(metrics=["clash"])
    assert (table.status == "failed").all()
    assert table.error.str.contains("returned the column 'fid', which is there already").all()


def test_metrics_and_executors_that_do_not_exist_are_named(tiny_run):
    with pytest.raises(UserError, match=r"did you mean 'measure'.*did you mean 'serial'"):
        tiny_run(metrics=["mesure"], executor="serail")

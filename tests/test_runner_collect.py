"""``--collect``: tables of what is there, and nothing computed."""

import pandas as pd
import pytest
from helpers.survival import FAULTY, SMALL, Watcher, assert_same, small_run

import priorbench
from priorbench import UserError
from priorbench.bench import work
from priorbench.plugin_files import FILES
from priorbench.plugin_manager import load_plugins

pytestmark = pytest.mark.slow


def test_collect_shows_what_failed_and_says_what_is_missing(tmp_path, monkeypatch):

    monkeypatch.setenv(FILES, str(FAULTY))
    load_plugins.cache_clear()
    arguments = {
        "t_trunc": [100],
        "steps": 2,
        "n_samples": 24,
        "output": tmp_path,
        "settings": SMALL,
    }
    first = priorbench.run(priors="gaussian,raises", **arguments)
    watcher = Watcher()
    again = priorbench.run(priors="gaussian,raises", collect=True, observer=watcher, **arguments)
    assert first.status.tolist() == again.status.tolist()
    assert (again.status == "failed").sum() == 1
    assert watcher.notes == ["3 of 4 results are there; 1 failed"]
    load_plugins.cache_clear()


def test_collect_tables_what_is_there_and_computes_nothing(copied_run, monkeypatch, tmp_path):
    folder, first = copied_run
    monkeypatch.setattr(work, "run_cell", lambda *_: pytest.fail("computed"))
    about = (folder / "run.json").read_bytes()
    found = small_run(
        folder, priors="gaussian,vae[iterations=6,width=8]", steps=[2, 7], collect=True
    )
    assert_same(found, first)
    assert len(pd.read_csv(folder / "comparison.csv")) == len(first)
    assert (folder / "run.json").read_bytes() == about
    with pytest.raises(UserError, match="holds no result of this plan yet"):
        small_run(tmp_path / "nothing", collect=True)
    assert not (tmp_path / "nothing").exists()

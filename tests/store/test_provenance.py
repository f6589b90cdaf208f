"""run.json: enough to do a run again."""

import json

import pytest
from helpers.survival import assert_same

import priorbench

pytestmark = pytest.mark.slow


def test_a_run_is_done_again_from_its_run_json(kept_run, tmp_path):
    folder, first = kept_run
    about = json.loads((folder / "run.json").read_text())
    assert set(about) >= {
        "command",
        "commit",
        "config",
        "versions",
        "machine",
        "hashes",
        "cells",
        "seconds",
    }
    assert set(about["hashes"]) == {"dataset", "backbone", "network", "extractor"}
    assert set(about["cells"]) == set(first.cell)
    again = priorbench.run(about["config"], output=tmp_path)
    assert_same(again, first)

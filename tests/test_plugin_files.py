"""Plugins that are given as Python files."""

import os
import sys

import pytest
from helpers.plugins import FILE

import priorbench
from priorbench import UserError
from priorbench.plugin_files import FILES
from priorbench.plugin_manager import Plugins, add_plugin, load_plugins

PLUGIN = """
from priorbench import TruncPrior, hookimpl
class P(TruncPrior):
    WIDTH = {width}
@hookimpl
def register_priors(register):
    register("edited", "edited_prior:P")
"""


def test_an_edited_plugin_file_runs_as_it_is_now(tmp_path, monkeypatch):
    monkeypatch.setenv(FILES, "")
    file = tmp_path / "edited_prior.py"
    versions = set()
    for width in (1, 2):
        file.write_text(PLUGIN.format(width=width))
        os.utime(file, (width, width))  # whatever the clock's resolution
        add_plugin(file)
        found = load_plugins().find("prior", "edited")
        assert width == found.load().WIDTH
        versions.add(found.version)
    assert len(versions) == 2
    load_plugins.cache_clear()


def test_a_file_that_changes_is_another_version(tmp_path, monkeypatch):
    versions = []
    for comment in ("", "# changed"):
        (tmp_path / "swan.py").write_text(FILE + comment)
        monkeypatch.setenv("PRIORBENCH_PLUGINS", str(tmp_path / "swan.py"))
        sys.modules.pop("swan", None)
        versions.append(Plugins().find("prior", "swan").version)
    sys.modules.pop("swan", None)
    assert versions[0] != versions[1]


def test_add_plugin_does_so_from_python(tmp_path, monkeypatch):
    (tmp_path / "swan.py").write_text(FILE)
    (tmp_path / "broken.py").write_text("raise RuntimeError('planted')")
    monkeypatch.setenv("PRIORBENCH_PLUGINS", "")
    try:
        priorbench.add_plugin(tmp_path / "swan.py")
        assert load_plugins().find("prior", "swan").distribution == str(tmp_path / "swan.py")
        with pytest.raises(UserError, match="planted"):
            priorbench.add_plugin(tmp_path / "broken.py")
        assert load_plugins().find("prior", "swan")
    finally:
        sys.modules.pop("swan", None)
        monkeypatch.setenv("PRIORBENCH_PLUGINS", "")
        load_plugins.cache_clear()

"""``priorbench new``: a distribution that works as it is."""

import subprocess
import sys
import tomllib

import pytest
from helpers.commands import command
from helpers.plugins import outcome


@pytest.mark.slow
def test_a_new_distribution_passes_the_linters(tmp_path):
    """Its own tests are run by the tutorial (tests/test_docs.py)."""
    done = command("new", "grey-heron", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "grey-heron"
    lint = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120", "."],
        cwd=folder, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert lint.returncode == 0, lint.stdout
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["priorbench"] == {"grey-heron": "grey_heron"}
    assert "GreyHeron" in (folder / "grey_heron.py").read_text()
    again = outcome(tmp_path, "new", "grey-heron")
    assert again.returncode == 2
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    "name",
    ["Heron", "../heron", "grey_heron", "json", "class", "heron-", "", "a\nb", "torch", "ot"],
)
def test_names_that_no_distribution_can_have_are_refused(tmp_path, name):
    done = outcome(tmp_path, "new", name)
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []

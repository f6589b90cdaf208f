"""`make gpu` in small, on a CPU, so that it does not rot until a GPU is there."""

import json
import os
import subprocess
import sys

import pytest
from helpers.commands import PATHS, ROOT

SCRIPT = ROOT / "benchmarks/gpu.py"
SECTIONS = ("right", "timed", "fast", "train", "data")


def gpu(*options, output, **environment):
    command = [sys.executable, SCRIPT, "--device", "cpu", "--output", output, *options]
    known = os.environ | {"PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, env=known)


def rows_of(folder, section):
    return json.loads((folder / f"{section}.json").read_text())["rows"]


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS)
def test_every_check_of_a_section_passes(section, tmp_path):
    done = gpu("--sections", section, output=tmp_path)
    outcomes = {row["check"]: row["outcome"] for row in rows_of(tmp_path, section)}
    assert set(outcomes.values()) <= {"ok", "not run: out of time"}, done.stdout
    assert done.returncode == 0
    assert all(name in done.stdout for name in outcomes)


@pytest.mark.slow
def test_a_section_that_falls_lets_the_others_run(tmp_path):
    """Here the first one cannot even be imported."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import sys\nif 'timed' in sys.argv:\n    sys.modules['priorbench.subject'] = None\n"
    )
    done = gpu(
        "--sections", "timed,data", output=tmp_path,
        PYTHONPATH=os.pathsep.join([str(broken), PATHS]),
    )  # fmt: skip
    assert done.returncode == 1
    assert any(row["outcome"].startswith("failed") for row in rows_of(tmp_path, "timed"))
    assert {row["outcome"] for row in rows_of(tmp_path, "data")} == {"ok"}


def test_a_check_that_raises_is_a_row_and_the_next_one_is_made(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import torch
    from gpu_sections.section import NotRun, Section, Wrong
    from gpu_sections.sizes import SMALL

    section = Section("made", torch.device("cpu"), SMALL, 60.0, tmp_path / "made.json", {})

    def raising(error):
        raise error

    section.check("errs", raising, ZeroDivisionError("of\nmany lines"))
    section.check("exits", raising, SystemExit(3))
    section.check("is wrong", raising, Wrong("too much", {"found": 2.0}))
    section.check("cannot", raising, NotRun("no compiler"))
    section.check("is too long", raising, ValueError(), needs=1000)
    section.check("is right", dict, {"found": 1.0})
    rows = rows_of(tmp_path, "made")
    assert [row["outcome"] for row in rows] == [
        "failed: ZeroDivisionError: of many lines", "failed: SystemExit: 3", "failed: too much",
        "not run: no compiler", "not run: out of time", "ok",
    ]  # fmt: skip
    assert "raising" in rows[0]["error"]
    assert [row["figures"] for row in rows[2:]] == [{"found": 2.0}, {}, {}, {"found": 1.0}]

"""What commands say: in a log, quietly, at length, as JSON, and in their help."""

import json
import os
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import click
import pytest
from click.shell_completion import BashComplete
from helpers.commands import PATHS, call
from helpers.runs import SMALL

from priorbench.cli import cli
from priorbench.cli.progress import Bars
from priorbench.plan.reading import read_config

SETS = [f"--set={key}={json.dumps(value)}" for key, value in SMALL.items()]
RUN = ["run", "--priors", "gaussian,vae[iterations=8,width=8]", "--t-trunc", "100", "--n-samples"]
RUN += ["40", "--steps", "2", *SETS]
CELL = re.compile(
    r"^(\d+) of 5: (\w+\S*) t_trunc (\d+) seed 0: FID \d+\.\d\d by \d steps? of [\w+]+, \d+ s"
    r"(; about \d+ (min \d+ )?s left)?$",
    re.M,
)


@pytest.mark.slow
def test_in_a_log_each_cell_is_a_line(tmp_path):
    result = call(*RUN, "--output", str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    found = CELL.findall(result.stderr)
    assert [number for number, *_ in found] == ["1", "2", "3", "4", "5"]
    assert [bool(left) for *_, left, _ in found] == [True] * 4 + [False]
    assert {prior for _, prior, *_ in found} == {
        "noise", "oracle", "gaussian", "vae[iterations=8,width=8]",
    }  # fmt: skip
    # The same folder, quietly: nothing but the exit code.
    again = call(*RUN, "--output", str(tmp_path / "out"), "--quiet")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    fuller = call(*RUN, "--output", str(tmp_path / "out"), "--fresh", "-v")
    assert len(re.findall(r"^    2 steps of dpm\+\+, test: FID \d", fuller.stderr, re.M)) == 5
    assert re.search(r"^    fit: 8 steps in \d+ s, sliced W2 at x_t from ", fuller.stderr, re.M)
    # Another plan takes over the tables, and says so.
    other = call(*RUN, "--priors", "gaussian", "--output", str(tmp_path / "out"), "-q")
    assert "the tables and the page in" in other.stderr
    assert "of another plan or version (priorbench run" in other.stderr
    more = call(*RUN, "--output", str(tmp_path / "out"), "-q")
    assert more.stderr == ""  # nothing is lost by a plan with more
    both = call(*RUN, "-q", "-v")
    assert both.returncode == 2
    assert "--quiet and --verbose cannot be given together" in both.stderr


def test_the_time_left_is_reckoned_by_evaluations(monkeypatch, capsys):
    """Pure noise, which comes first, has many: other cells take less."""
    now = [0.0]
    monkeypatch.setattr("priorbench.cli.progress.time.monotonic", lambda: now[0])
    heavy, *light = (
        SimpleNamespace(cell=name, title=name, long_title=name, t_trunc=7, solvers=[("ddim", k)])
        for name, k in (("noise", 100), ("a", 2), ("b", 7), ("c", None))
    )
    bars = Bars()
    bars.started(SimpleNamespace(cells=["done before", heavy, *light]), [heavy, *light])
    bars.cell(heavy)
    now[0] = 103.0
    row = {"status": "ok", "split": "test", "fid": 1.5, "steps": 100, "solver": "ddim"}
    bars.finished(heavy, SimpleNamespace(rows=[row], spec=heavy, ok=True))
    said = capsys.readouterr().err
    assert said == "2 of 5: noise: FID 1.50 by 100 steps of ddim, 1 min 43 s; about 25 s left\n"
    # What fails at once does not make the others seem quicker.
    bars.cell(light[0])
    failed = {"status": "failed", "error": "planted"}
    bars.finished(light[0], SimpleNamespace(rows=[failed], spec=light[0], ok=False))
    assert capsys.readouterr().err == "3 of 5: a: failed: planted, 0 s; about 20 s left\n"
    bars.stopped()


@pytest.mark.slow
def test_a_log_file_has_its_first_line_before_the_run_is_over(tmp_path):
    log = tmp_path / "log"
    with log.open("wb") as file:
        running = subprocess.Popen(
            [sys.executable, "-m", "priorbench", *RUN, "--seeds", "40", "--output", "out"],
            cwd=tmp_path, stdout=file, stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": PATHS},
        )  # fmt: skip
    waited = time.monotonic() + 120
    while not log.read_text() and running.poll() is None:
        assert time.monotonic() < waited
        time.sleep(0.1)
    cells = len(list((tmp_path / "out" / "cells").glob("*.json")))
    running.kill()
    running.wait()
    assert log.read_text().startswith("1 of 200: noise t_trunc 1000 seed 0: FID ")
    assert cells <= 6  # a cell may have several results, and the next one may have begun


def test_the_plan_as_json():
    result = call(*RUN, "--dry-run", "--json")
    assert result.returncode == 0, result.stderr
    about = json.loads(result.stdout)
    assert [cell["prior"] for cell in about["cells"]] == [
        "noise", "gaussian", "vae[iterations=8,width=8]", "noise", "oracle",
    ]  # fmt: skip
    assert about["cells"][1] == {
        "title": "gaussian t_trunc 100 seed 0", "prior": "gaussian", "t_trunc": 100, "seed": 0,
        "fit_budget": None, "settings": [["dpm++", 2]], "done": False,
    }  # fmt: skip
    assert about["seconds"] > 0
    assert about["bytes"] > 0
    alone = call(*RUN, "--json")
    assert alone.returncode == 2
    assert "--json is of --dry-run" in alone.stderr


def test_plugins_are_a_line_each_in_a_pipe_and_json_by_option(tmp_path):
    piped = call("plugins").stdout.splitlines()
    rows = [line.split("\t") for line in piped]
    assert {len(row) for row in rows} == {5}
    assert ["prior", "noise (control)", "priorbench"] in [row[:3] for row in rows]
    (tmp_path / "broken.py").write_text("raise RuntimeError('planted')")
    result = call("plugins", "--json", "--plugins-dir", str(tmp_path))
    about = json.loads(result.stdout)
    assert len(about["registered"]) == len(rows)
    (noise,) = (r for r in about["registered"] if (r["kind"], r["name"]) == ("prior", "noise"))
    assert noise["control"] is True
    assert [b["reason"] for b in about["broken"]] == ["RuntimeError: planted"]
    assert "broken: broken of" in call("plugins", "--plugins-dir", str(tmp_path)).stderr


@pytest.mark.slow
def test_a_backbone_as_json():
    options = ["--dataset", "digits", "--solver", "dpm++", "--steps", "3", "--n-samples", "30"]
    about = json.loads(call("backbone", "check", "digits", *options, "--json").stdout)
    assert about["fits digits"] == "yes"
    assert (about["T"], about["images"]) == (1000, [1, 8, 8])
    assert about["parameters"] == 651_041
    assert about["score"]["fid"] > about["score"]["floor"] > 0
    assert about["score"]["training"] == 30


def test_alone_it_prints_its_help():
    alone, asked = call(), call("--help")
    assert alone.returncode == 0
    assert alone.stdout == asked.stdout


@pytest.mark.parametrize(("words", "wanted"), [
    (["back"], ["plain,backbone"]),
    (["run", "--exe"], ["plain,--executor"]),
    (["run", "digits-n"], ["plain,digits-nfe", "file,digits-n"]),
    (["run", "my.y"], ["file,my.y"]),
])  # fmt: skip
def test_a_shell_completes_commands_options_and_presets(words, wanted):
    shell = BashComplete(cli, {}, "priorbench", "_PRIORBENCH_COMPLETE")
    found = shell.get_completions(words[:-1], words[-1])
    assert [shell.format_completion(item) for item in found] == wanted


def test_the_help_of_run_has_every_option_in_a_section_with_the_defaults_of_the_preset():
    text = call("run", "--help").stdout
    sections = re.findall(r"^([A-Z][\w ]+):$", text, re.M)
    assert sections == [
        "What is compared", "By what", "How it is measured", "How cells are computed",
        "What is kept", "What is said", "Others",
    ]  # fmt: skip
    others = text.split("Others:")[1].split("\n\n")[0]
    assert re.findall(r"--[\w-]+", others) == ["--set", "--help"]
    command = cli.get_command(click.Context(cli), "run")
    preset = read_config("digits")
    for option in (p for p in command.params if isinstance(p, click.Option)):
        said = re.search(r"\[default: ([^\]]*)\]", option.help or "")
        if option.name in preset:
            wanted = preset[option.name]
            wanted = ",".join(map(str, wanted)) if isinstance(wanted, list) else str(wanted)
            assert said, option.name
            assert said[1] == wanted, option.name


def test_what_another_data_set_takes_over_from_the_preset_is_said(tmp_path):
    result = call("run", "--dataset", "mnist", "--n-samples", "5", cwd=tmp_path)
    assert result.returncode == 2  # too few samples; nothing is said of a run that does not begin
    from priorbench.plan.reading import taken_over

    found = taken_over({"dataset": "mnist", "t_trunc": "50", "steps": None}, ["full_chain.steps=9"])
    assert found["steps"] == [5]
    assert not {"dataset", "t_trunc", "full_chain", "name"} & set(found)

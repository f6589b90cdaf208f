"""``priorbench run`` as a user runs it, and what it refuses."""

import json

import pytest
from helpers.commands import call, python
from helpers.runs import SMALL


@pytest.mark.slow
def test_run_writes_below_the_current_folder_and_says_where(tmp_path):
    arguments = ["--priors", "gaussian", "--t-trunc", "100", "--steps", "2", "--n-samples", "40"]
    sets = [f"--set={k}={json.dumps(v)}" for k, v in SMALL.items()]
    result = call("run", *arguments, *sets, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "results" / "digits" / "comparison.csv").is_file()
    assert "gaussian" in result.stdout
    assert "Floor (training images)" in result.stdout
    assert "comparison.csv" in result.stdout
    assert "of 4: gaussian t_trunc 100 seed 0: FID " in result.stderr  # where there is no bar


@pytest.mark.parametrize(("arguments", "message"), [
    (["run", "--priors", "gausian"], "no prior 'gausian'; did you mean 'gaussian'?"),
    (["run", "--priors", "ot[widht=3]"], "did you mean 'width'?"),
    (["run", "--t-trunc", "0,2000"], "t_trunc must be a whole number from 1 to T = 1000, got 0"),
    (["run", "--t-trunc", "100,2000"], "got 2000"),
    (["run", "--steps", "500"], "steps must be a whole number from 1 to t_trunc = 100, got 500"),
    (["run", "--solver", "dmp++"], "did you mean 'dpm++'?"),
    (["run", "--dataset", "digit"], "no data set 'digit'; did you mean 'digits'?"),
    (["run", "--backbone", "nothing"], "no backbone 'nothing'"),
    (["run", "--set", "n_sample=3"], "did you mean 'n_samples'?"),
    (["run", "--device", "quantum"], "device 'quantum' cannot be used"),
    (["run", "missing.yaml"], "config file missing.yaml does not exist"),
    (["run", "--n-samples", "many"], "many"),
    (["run", "--nonsense"], "nonsense"),
    (["runn"], "no command 'runn'; did you mean 'run'?"),
    (["backbone", "train", "--output", "x", "--channels", "3"], "multiples of 8"),
])  # fmt: skip
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(tmp_path, arguments, message):
    result = call(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("priorbench: error: ")
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    result = call("run", "--priors", "gaussian", "--output", str(tmp_path / "file" / "below"))
    assert result.returncode == 2
    assert "cannot write" in result.stderr.splitlines()[-1]


@pytest.mark.slow
def test_help_and_version_without_torch():
    lines = [["--help"], ["run", "--help"], ["plugins"], ["--version"]]
    result = python(
        "import sys; sys.modules['torch'] = None\n"
        "from priorbench.cli import main\n"
        f"for arguments in {lines}:\n"
        "    sys.argv[1:] = arguments\n"
        "    try:\n        main()\n"
        "    except SystemExit as ended:\n        assert ended.code == 0, arguments\n"
        "    else:\n        raise AssertionError(arguments)\n"
    )
    assert result.returncode == 0, result.stderr
    assert "oracle" in result.stdout


@pytest.mark.slow
def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    wanted = ("full_chain.steps=4", "controls=[]", "rivals=[]", "rival_timesteps=uniform")
    sets = [f"--set={one}" for one in wanted]
    result = call(
        "run", "--dry-run", "--priors", "gaussian", "--n-samples", "40", *sets, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "4 cells (0 done), 10 rows" in result.stdout
    assert "on this machine" in result.stdout
    assert not list(tmp_path.iterdir())

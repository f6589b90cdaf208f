"""Plugins by options of the command line: files, folders, what is left out."""

import pytest
from helpers.commands import call
from helpers.plugins import FILE, outcome


@pytest.mark.parametrize("arguments", [
    ["plugins", "--plugin", "swan.py"], ["--plugin", "swan.py", "plugins"],
    ["plugins", "--plugin=swan.py"],
    ["plugins", "--plugins-dir", "."],
    ["plugins", "--plugin", "swan.py", "--plugin", "swan.py", "--plugins-dir", "."],
])  # fmt: skip
def test_a_file_is_a_plugin(tmp_path, arguments):
    (tmp_path / "swan.py").write_text(FILE)
    done = outcome(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    (line,) = [k for k in done.stdout.splitlines() if "\tswan\t" in k]
    assert "swan.py" in line


def test_a_folder_may_come_from_the_environment_and_its_broken_files_are_listed(tmp_path):
    (tmp_path / "swan.py").write_text(FILE)
    (tmp_path / "goose.py").write_text("import nowhere_at_all")
    done = outcome(tmp_path, "plugins", PRIORBENCH_PLUGINS_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "\tswan\t" in done.stdout
    assert "ModuleNotFoundError: No module named 'nowhere_at_all'" in done.stderr


@pytest.mark.parametrize(("arguments", "message"), [
    (["plugins", "--plugin", "nowhere.py"], "nowhere.py: there is no such .py file"),
    (["plugins", "--plugin", "text.txt"], "text.txt: there is no such .py file"),
    (["plugins", "--plugins-dir", "nowhere"], "there is no such folder"),
    (["plugins", "--plugin", "broken.py"], "plugin 'broken' of"),
    (["plugins", "--plugin", "json.py"], "there is another module called 'json'"),
    (["plugins", "-p", "gan"], "-p takes no:NAME"),
    (["plugins", "-p"], "-p needs a value"),
    (["plugins", "-p", "no:gon"], "did you mean 'gan'"),
    (["plugins", "--plugins-dir", ".", "--strict-plugins"], "is broken: RuntimeError: planted"),
    (["check", "swen", "--plugin", "swan.py"], "did you mean 'swan'"),
    (["check", "zebra", "--plugins-dir", "."], "(broken: broken, json; see 'priorbench plugins')"),
])  # fmt: skip
def test_switches_that_are_wrong_get_one_line(tmp_path, arguments, message):
    (tmp_path / "swan.py").write_text(FILE)
    (tmp_path / "broken.py").write_text("raise RuntimeError('planted')")
    (tmp_path / "json.py").write_text(FILE)
    (tmp_path / "text.txt").write_text(FILE)
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_plugin_can_be_left_out(tmp_path):
    done = outcome(tmp_path, "plugins", "-p", "no:gan", "-p", "no:vae")
    assert done.returncode == 0, done.stderr
    assert "\tgan\t" not in done.stdout
    assert "\tvae\t" not in done.stdout
    assert "\tot\t" in done.stdout


def test_a_file_that_implements_no_hook_is_an_error(tmp_path):
    (tmp_path / "plain.py").write_text("x = 1")
    done = outcome(tmp_path, "plugins", "--plugin", "plain.py")
    assert done.returncode == 2
    assert "it implements no hook" in done.stderr

"""The command line: in this process for what it says, as a process where that is what is tested."""

import io
import os
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from priorbench import plugin_manager
from priorbench.cli import main
from priorbench.plugin_manager import load_plugins

ROOT = Path(plugin_manager.__file__).parents[1]
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
FOR_PLUGINS = ("-p", "--plugin", "--strict-plugins")


def command(*arguments, cwd=None, path=()):
    """``priorbench`` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "priorbench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, path), PATHS])},
    )


def python(code):
    """A Python of its own that runs ``code``."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"PYTHONPATH": PATHS},
    )


def call(*arguments, cwd=None, path=(), **environment):
    """``priorbench`` in this process, with what a process would have told: returncode, stdout and
    stderr.

    Folders in ``path`` come first in ``sys.path``, as in ``PYTHONPATH``. Nothing is left behind:
    not the environment that options of plugins write to, nor the plugins or modules of this call.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        _as_it_was(cwd, path),
        _in_folder(cwd),
        patch.dict(os.environ, environment),
        patch.object(sys, "argv", ["priorbench", *arguments]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        if path or environment or any(a.startswith(FOR_PLUGINS) for a in arguments):
            load_plugins.cache_clear()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


@contextmanager
def _in_folder(folder):
    before = Path.cwd()
    os.chdir(folder or before)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _as_it_was(folder, path):
    """Put back ``sys.path``, the plugins that are known, and the modules: those of the call's own
    folders are forgotten.
    """
    known, modules, before = load_plugins(), set(sys.modules), list(sys.path)
    own = [place for place in (folder, *path) if place]
    sys.path[:0] = map(str, path)
    try:
        yield
    finally:
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and any(Path(file).is_relative_to(place) for place in own):
                del sys.modules[name]
        sys.path[:] = before
        load_plugins.cache_clear()
        with patch.object(plugin_manager, "Plugins", lambda: known):
            load_plugins()

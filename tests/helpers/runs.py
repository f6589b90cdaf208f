"""Small runs of the digits default, and the command line as a process."""

import subprocess
import sys
from types import SimpleNamespace

import priorbench

SMALL = {
    "full_chain.steps": 4,
    "rivals": [],
    "n_validation": 0,
    "batch_size": 16,
    "controls": ["noise", "oracle"],
    "w2_points": 30,
    "save_samples": True,
}


def small_run(output, **options):
    arguments = {
        "priors": "gaussian",
        "t_trunc": [100],
        "steps": 2,
        "n_samples": 40,
        "settings": SMALL,
        "report": False,
    } | options
    return priorbench.run(output=output, **arguments)


def command(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-c", "from priorbench.cli import main; main()", *arguments],
        capture_output=True, text=True, check=False, cwd=cwd, timeout=120,
    )  # fmt: skip


class Plugin(SimpleNamespace):
    """A plugin without a module of its own; pluggy keeps plugins in a dictionary."""

    __hash__ = object.__hash__

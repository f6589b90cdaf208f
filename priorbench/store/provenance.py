"""What a run records about itself: ``run.json``, from which it can be repeated."""

import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError, one_line, printable
from ..plan.layout import Plan
from ..plugin_files import FILES, FOLDERS
from ..plugin_manager import LEFT_OUT


def provenance(plan: Plan) -> dict[str, Any]:
    """Command, resolved config, commit, plugins, versions, machine, hashes; of the whole plan, if
    this process computes a shard of it.
    """
    versions: dict[str, str] = {}
    for spec in plan.cells:
        versions |= spec.versions
    return {
        "command": command("--shard") if _started_as_command() else "priorbench.run",
        "commit": commit(),
        "started": f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}",
        "config": plan.config.model_dump(),
        "plugins": {
            name: os.environ[name] for name in (FILES, FOLDERS, LEFT_OUT) if os.environ.get(name)
        },
        "versions": versions | {"python": platform.python_version()},
        "machine": {
            "platform": platform.platform(),
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
        },
        "hashes": plan.cells[0].digests,
        "cells": [one.cell for spec in plan.cells for one in spec.results],
    }


def _started_as_command() -> bool:
    program = Path(sys.argv[0])
    return program.stem == "priorbench" or (
        program.stem == "__main__" and program.parent.name == "priorbench"
    )


def command(*without: str) -> str:
    """The command line that started this process, ready to be typed.

    Arguments:
        without: options that are left out; ``--shard`` with its value.
    """
    words, rest = [], iter(sys.argv[1:])
    for word in rest:
        if word.partition("=")[0] not in without:
            words.append(word)
        elif word == "--shard":
            next(rest, None)
    return shlex.join(["priorbench", *words])


def read_provenance(path: str | Path) -> dict[str, Any]:
    """The ``run.json`` at ``path`` or in that folder.

    Raises:
        UserError: if it is no ``run.json`` of a run.
    """
    file = Path(path) / "run.json" if Path(path).is_dir() else Path(path)
    try:
        about = json.loads(file.read_text())
        if not isinstance(about["config"], dict):
            raise ValueError("its 'config' is no mapping")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or one_line(error, named=True)
        raise UserError(f"--from {file}: is no run.json of a run ({reason})") from error
    return dict(about)


def differences(about: dict[str, Any], plan: Plan) -> list[str]:
    """What has changed since the run that ``about`` records, a line for each thing."""
    now = provenance(plan)
    found = []
    for part in ("hashes", "versions", "plugins"):
        then = about.get(part) if isinstance(about.get(part), dict) else {}
        for name, value in now[part].items():
            known = (then or {}).get(name)
            if known != value:
                found.append(printable(f"{part}: {name} is {value}, and was {known}"))
    return found


def commit() -> str | None:
    """The git commit of this code if it runs from a checkout, with ``-dirty`` if it was changed."""
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)  # an installed copy is in no index
        return _git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    """What git prints about the repository that this file is in."""
    found = subprocess.run(
        ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True,
        timeout=10,
    )  # fmt: skip
    return found.stdout.strip()


@cache
def processor() -> str:
    """The processor's name, if the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = (line for line in lines if line.startswith("model name"))
        return next(names).split(":", 1)[1].strip()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

"""Plugins given as Python files: finding the files that the environment names, and importing them."""

import hashlib
import importlib.util
import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from .errors import UserError

FILES = "PRIORBENCH_PLUGINS"  # files of plugins, separated as in PATH
FOLDERS = "PRIORBENCH_PLUGINS_DIR"  # folders of such files, separated as in PATH


def named_files() -> dict[Path, bool]:
    """The files of plugins that the environment names, each once, and whether it was named itself."""
    named = [Path(p) for p in os.environ.get(FILES, "").split(os.pathsep) if p]
    for path in named:
        if not path.is_file() or path.suffix != ".py":
            raise UserError(f"plugin {path}: there is no such .py file")
    found = dict.fromkeys((p.resolve() for p in named), True)
    for folder in filter(None, os.environ.get(FOLDERS, "").split(os.pathsep)):
        if not Path(folder).is_dir():
            raise UserError(f"plugins folder {folder}: there is no such folder")
        for path in sorted(p for p in Path(folder).glob("*.py") if not p.name.startswith("_")):
            found.setdefault(path.resolve(), False)
    return found


_LOADED = "__priorbench_digest__"


def module_of(path: Path) -> ModuleType:
    """The module in a file, under the file's own name: its factories are "name:Class"."""
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        if getattr(known, _LOADED, None) in (None, digest(path)):
            return known
        del sys.modules[name]  # its file has changed: what runs must be what its digest is taken of
        known = None
    other = None if known is not None else importlib.util.find_spec(name)
    if other is not None and other.origin is not None and Path(other.origin).resolve() == path:
        return import_module(name)  # it lies where Python looks anyhow
    if known is not None or (other is not None and other.origin is not None):
        raise ImportError(f"there is another module called {name!r}; the file needs another name")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    setattr(module, _LOADED, digest(path))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def digest(path: Path) -> str:
    """A file has no version: the beginning of its sha256, so that a changed one is not taken for
    what it was.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]

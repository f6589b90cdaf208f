"""Plugins given as Python files: the files that the environment names, and their import."""

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
    """The files of plugins that the environment names: file -> whether it is named itself.

    Those that are not named themselves lie in a folder that is.

    Raises:
        UserError: if a file or folder does not exist.
    """
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
    """The module in a file, under the name of the file, so that its factories are "name:Class".

    Raises:
        ImportError: if the name is that of another module. The file itself may raise anything.
    """
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        if getattr(known, _LOADED, None) in (None, digest(path)):
            return known
        del sys.modules[name]  # the file has changed, and what runs must be what is hashed
        known = None
    other = None if known is not None else importlib.util.find_spec(name)
    if other is not None and other.origin is not None and Path(other.origin).resolve() == path:
        return import_module(name)  # Python finds it by itself
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
    """The beginning of the sha256 of a file, which stands in for a version that it has not."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]

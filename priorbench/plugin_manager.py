"""Plugins: found through the ``priorbench`` entry points or given as files, registered by hooks,
loaded when used.

How they are looked for is said by environment variables, so that processes started later see the
same plugins; the command line has an option for each (:mod:`priorbench.cli.plugin_options`).
"""

import os
import sys
import warnings
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pluggy

from . import hookspecs
from .errors import UserError, unknown
from .plugin_files import FILES, digest, module_of, named_files

KINDS = ("prior", "dataset", "backbone", "extractor", "metric", "executor", "command")
LEFT_OUT = "PRIORBENCH_NO_PLUGINS"  # entry points or distributions that are not loaded, separated by commas
STRICT = "PRIORBENCH_STRICT_PLUGINS"  # a broken plugin is an error
TRACE = "PRIORBENCH_TRACE_PLUGINS"  # every call of a hook is written to stderr


@dataclass(frozen=True)
class Registration:
    """One name that a plugin registered."""

    kind: str
    name: str
    factory: str
    summary: str
    control: bool
    distribution: str
    version: str

    def load(self) -> Any:
        """The object that the factory's string names."""
        module, _, attribute = self.factory.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except Exception as error:  # a plugin's module may raise anything
            raise UserError(
                f"{self.kind} {self.name!r} of {self.distribution} {self.version} cannot be loaded from "
                f"{self.factory!r}: {error}"
            ) from error


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be taken in, and why."""

    plugin: str
    distribution: str
    version: str
    reason: str


class Plugins:
    """All that is registered. Made once a process by :func:`load_plugins`."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager("priorbench")
        self.manager.add_hookspecs(hookspecs)
        if os.environ.get(TRACE, "0") not in ("", "0"):
            self.manager.trace.root.setwriter(lambda text: sys.stderr.write(text))
            self.manager.enable_tracing()
        self.broken: list[Broken] = []
        self.registrations: dict[tuple[str, str], Registration] = {}
        left_out, used = set(filter(None, os.environ.get(LEFT_OUT, "").split(","))), set[str]()
        for entry in sorted(metadata.entry_points(group="priorbench"), key=lambda e: e.name):
            dist = entry.dist.metadata["Name"] if entry.dist else "unknown"
            version = entry.dist.version if entry.dist else "unknown"
            if {entry.name, dist} & left_out:
                used |= {entry.name, dist} & left_out
                continue
            self._take_in(entry.load, entry.name, dist, version)
        for path, named in named_files().items():
            self._take_in(
                lambda path=path: module_of(path), path.stem, str(path), digest(path), strict=named
            )
        for name in left_out - used:
            raise unknown(
                "plugin", name, [e.name for e in metadata.entry_points(group="priorbench")]
            )

    def _take_in(
        self, load: Any, name: str, distribution: str, version: str, strict: bool = False
    ) -> None:
        try:
            self.add(load(), name, distribution, version)
        except UserError:
            raise
        except Exception as error:  # one broken plugin never takes the command line down
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self.broken.append(Broken(name, distribution, version, reason))
            if strict or os.environ.get(STRICT, "0") not in ("", "0"):
                raise UserError(
                    f"plugin {name!r} of {distribution} {version} is broken: {reason}"
                ) from error

    def add(self, plugin: Any, name: str, distribution: str, version: str) -> None:
        """Register a module (or object) with hook implementations, and all that it registers."""
        check_interface(getattr(plugin, "priorbench_interface", None))
        full_name = f"{distribution}/{name}"  # two distributions may call their entry points alike
        if self.manager.has_plugin(full_name):
            return  # the same distribution seen twice (a clone inside an installed environment)
        before = dict(self.registrations)
        try:
            self.manager.register(plugin, full_name)
            self._check_hooks(plugin)
            for kind in KINDS:
                caller = self.manager.subset_hook_caller(
                    f"register_{kind}s", [p for p in self.manager.get_plugins() if p is not plugin]
                )

                def register(
                    name: str,
                    factory: str,
                    *,
                    summary: str = "",
                    control: bool = False,
                    _kind: str = kind,
                ) -> None:
                    new = Registration(
                        _kind, name, factory, summary, control, distribution, version
                    )
                    old = self.registrations.setdefault((_kind, name), new)
                    if old != new:
                        raise UserError(
                            f"two plugins register the {_kind} {name!r}: {old.distribution} {old.version} and "
                            f"{distribution} {version}; rename or uninstall one, or leave one out (-p no:NAME)"
                        )

                caller(register=register)
        except Exception:
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            self.registrations = before
            raise

    def _check_hooks(self, plugin: Any) -> None:
        """Raise for a plugin with a hook that does not exist, or with none."""
        hooks = [n for n in dir(hookspecs) if hasattr(getattr(hookspecs, n), "priorbench_spec")]
        implemented = [
            n for n in dir(plugin) if self.manager.parse_hookimpl_opts(plugin, n) is not None
        ]
        for name in implemented:
            if name not in hooks:
                raise RuntimeError(str(unknown("hook", name, hooks)))
        if not implemented:
            raise RuntimeError(
                "it implements no hook: is a function marked with priorbench.hookimpl?"
            )

    def announce(self, event: str, **arguments: Any) -> None:
        """Tell the plugins of an event; one that raises is a warning, and the run goes on."""
        try:
            getattr(self.manager.hook, event)(**arguments)
        except Exception as error:
            reason = (
                f"a plugin's {event} raised {type(error).__name__}: {' '.join(str(error).split())}"
            )
            if os.environ.get(STRICT, "0") not in ("", "0"):
                raise UserError(reason) from error
            warnings.warn(reason, RuntimeWarning, stacklevel=2)

    def of_kind(self, kind: str) -> dict[str, Registration]:
        return {name: r for (k, name), r in self.registrations.items() if k == kind}

    def find(self, kind: str, name: str) -> Registration:
        """The registration of ``name``, or an error that suggests the nearest."""
        found = self.of_kind(kind)
        if name not in found:
            error = unknown(kind, name, found)
            if self.broken:
                error = UserError(
                    f"{error} (broken: {', '.join(b.plugin for b in self.broken)}; see 'priorbench plugins')"
                )
            raise error
        return found[name]


def check_interface(wanted: Any) -> None:
    """Raise :class:`RuntimeError` unless the plugin's ``priorbench_interface`` ("1.0") is served by
    ours: the same first number, and a second one that is no higher.
    """
    if wanted is None:
        return
    ours = hookspecs.INTERFACE
    try:
        (major, minor), (our_major, our_minor) = (
            map(int, str(v).split(".")) for v in (wanted, ours)
        )
    except ValueError:
        raise RuntimeError(f"priorbench_interface must be like {ours!r}, got {wanted!r}") from None
    if major != our_major or minor > our_minor:
        raise RuntimeError(f"needs interface {wanted} of priorbench, this one has {ours}")


@cache
def load_plugins() -> Plugins:
    """The plugins of this process, found on first use."""
    return Plugins()


def add_plugin(path: str | Path) -> None:
    """Take in the plugin in a Python file, as ``--plugin`` does; child processes will find it too.

    Raises:
        UserError: if there is no such file, or it is broken.
    """
    known = os.environ.get(FILES)
    file = str(Path(path).resolve())
    os.environ[FILES] = f"{known}{os.pathsep}{file}" if known else file
    load_plugins.cache_clear()
    try:
        load_plugins()
    except UserError:
        os.environ[FILES] = known or ""
        load_plugins.cache_clear()
        raise

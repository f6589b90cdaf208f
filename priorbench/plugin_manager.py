"""Plugins: found by entry points or given as files, registered by hooks, loaded when used.

The entry points are those of the group ``priorbench``. Environment variables say where to look for
plugins, so that processes started later see the same ones. The command line has an option for each
variable (:mod:`priorbench.cli.plugin_options`).
"""

import os
import sys
import tomllib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pluggy

from . import hookspecs
from .errors import UserError, one_line, unknown
from .hookspecs import Register
from .plugin_files import FILES, digest, module_of, named_files
from .version import __version__

#: The kinds of things that a plugin registers.
KINDS = ("prior", "dataset", "backbone", "extractor", "metric", "executor", "tracker", "command")
#: Variable: the entry points or distributions not to load, separated by commas.
LEFT_OUT = "PRIORBENCH_NO_PLUGINS"
#: Variable: if it is set, a broken plugin is an error.
STRICT = "PRIORBENCH_STRICT_PLUGINS"
#: Variable: if it is set, every call of a hook is written to stderr.
TRACE = "PRIORBENCH_TRACE_PLUGINS"


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


def entry_points() -> list[tuple[metadata.EntryPoint, str, str]]:
    """The entry points of the group, each with the name and the version of its distribution.

    A checkout that is on the path and not installed has no metadata, so the entry points of
    priorbench itself are then those that its pyproject.toml states.
    """
    found = [
        (entry, entry.dist.metadata["Name"], entry.dist.version)
        if entry.dist
        else (entry, "unknown", "unknown")
        for entry in metadata.entry_points(group="priorbench")
    ]
    project = Path(__file__).parents[1] / "pyproject.toml"
    if any(name == "priorbench" for _, name, _ in found) or not project.is_file():
        return found
    stated = tomllib.loads(project.read_text())["project"]["entry-points"]["priorbench"]
    ours = (metadata.EntryPoint(name, value, "priorbench") for name, value in stated.items())
    return [*found, *((entry, "priorbench", __version__) for entry in ours)]


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
        """The object that the string ``factory`` names.

        Raises:
            UserError: if it cannot be imported.
        """
        module, _, attribute = self.factory.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except Exception as error:  # a plugin's module may raise anything
            raise UserError(
                f"{self.kind} {self.name!r} of {self.distribution} {self.version} cannot be "
                f"loaded from {self.factory!r}: {one_line(error)}"
            ) from error


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be added, and why."""

    plugin: str
    distribution: str
    version: str
    reason: str


class Plugins:
    """All that plugins register. :func:`load_plugins` makes it, once in a process.

    Raises:
        UserError: if a plugin that should be left out does not exist, or if a plugin is broken that
            is named itself, or any with :data:`STRICT`.
    """

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager("priorbench")
        self.manager.add_hookspecs(hookspecs)
        if _is_set(TRACE):
            self.manager.trace.root.setwriter(lambda text: sys.stderr.write(text))
            self.manager.enable_tracing()
        self.broken: list[Broken] = []
        self.registrations: dict[tuple[str, str], Registration] = {}
        left_out, used = set(filter(None, os.environ.get(LEFT_OUT, "").split(","))), set[str]()
        entries = entry_points()
        for entry, dist, version in sorted(entries, key=lambda found: found[0].name):
            if {entry.name, dist} & left_out:
                used |= {entry.name, dist} & left_out
                continue
            self._try(entry.load, entry.name, dist, version)
        for path, named in named_files().items():
            load = partial(module_of, path)
            self._try(load, path.stem, str(path), digest(path), strict=named)
        for name in left_out - used:
            raise unknown("plugin", name, [entry.name for entry, _, _ in entries])

    def _try(
        self,
        load: Callable[[], object],
        name: str,
        distribution: str,
        version: str,
        strict: bool = False,
    ) -> None:
        """Add what ``load`` returns, or list the plugin as broken."""
        try:
            self.add(load(), name, distribution, version)
        except UserError:
            raise
        except Exception as error:  # one broken plugin never takes the command line down
            reason = one_line(error, named=True)
            self.broken.append(Broken(name, distribution, version, reason))
            if strict or _is_set(STRICT):
                raise UserError(
                    f"plugin {name!r} of {distribution} {version} is broken: {reason}"
                ) from error

    def add(self, plugin: object, name: str, distribution: str, version: str) -> None:
        """Register a module or object with hook implementations, and all that it registers.

        Raises:
            RuntimeError: if it implements no hook, one that does not exist, or another interface.
            UserError: if it registers a name that another plugin has.
        """
        check_interface(getattr(plugin, "priorbench_interface", None))
        full_name = f"{distribution}/{name}"  # entry points of two distributions may share a name
        if self.manager.has_plugin(full_name):
            return  # the same distribution found twice, as a clone in an installed environment
        before = dict(self.registrations)
        try:
            self.manager.register(plugin, full_name)
            self._check_hooks(plugin)
            # pluggy has no call of one plugin alone: it calls all but those that are listed.
            others = [p for p in self.manager.get_plugins() if p is not plugin]
            for kind in KINDS:
                hook = self.manager.subset_hook_caller(f"register_{kind}s", others)
                hook(register=self._registrar(kind, distribution, version))
        except Exception:
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            self.registrations = before
            raise

    def _registrar(self, kind: str, distribution: str, version: str) -> Register:
        """The function that the registration hook of ``kind`` is called with."""

        def register(name: str, factory: str, *, summary: str = "", control: bool = False) -> None:
            if not isinstance(factory, str):
                raise RuntimeError(
                    f"the factory of the {kind} {name!r} must be a string such as "
                    f"'package.module:attribute', got {factory!r}"
                )
            new = Registration(kind, name, factory, summary, control, distribution, version)
            old = self.registrations.setdefault((kind, name), new)
            if old != new:
                raise UserError(
                    f"two plugins register the {kind} {name!r}: {old.distribution} {old.version} "
                    f"and {distribution} {version}; rename or uninstall one, or leave one out "
                    "(-p no:NAME)"
                )

        return register

    def _check_hooks(self, plugin: object) -> None:
        """Raise :class:`RuntimeError` if a hook does not exist, or if there is none."""
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
        """Tell the plugins of an event. If one raises, warn (or raise, with :data:`STRICT`)."""
        try:
            getattr(self.manager.hook, event)(**arguments)
        except Exception as error:
            reason = f"a plugin's {event} raised {one_line(error, named=True)}"
            if _is_set(STRICT):
                raise UserError(reason) from error
            warnings.warn(reason, RuntimeWarning, stacklevel=2)

    def of_kind(self, kind: str) -> dict[str, Registration]:
        """The registrations of one of :data:`KINDS`, by name."""
        return {name: r for (k, name), r in self.registrations.items() if k == kind}

    def find(self, kind: str, name: str) -> Registration:
        """The registration of ``name``.

        Raises:
            UserError: if there is none; it suggests the nearest name.
        """
        found = self.of_kind(kind)
        if name not in found:
            error = unknown(kind, name, found)
            if self.broken:
                broken = ", ".join(b.plugin for b in self.broken)
                error = UserError(f"{error} (broken: {broken}; see 'priorbench plugins')")
            raise error
        return found[name]


def check_interface(wanted: object) -> None:
    """Raise :class:`RuntimeError` unless this version has the interface that a plugin needs.

    Arguments:
        wanted: the ``priorbench_interface`` of the plugin, such as "1.0", or None. Its first number
            must equal that of :data:`~priorbench.hookspecs.INTERFACE`, and its second number must
            not be higher.
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
    """The plugins of this process, which are found on first use."""
    return Plugins()


def add_plugin(path: str | Path) -> None:
    """Add the plugin in a Python file, as ``--plugin`` does; child processes will find it too.

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

"""Plugins: found through the ``priorbench`` entry points, registered by hooks, loaded when they are used."""

from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from typing import Any

import pluggy

from . import hookspecs
from .errors import UserError, unknown

KINDS = ("prior", "dataset", "backbone", "extractor", "metric", "executor", "command")


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
        except (ImportError, AttributeError, TypeError, ValueError) as error:
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
        self.broken: list[Broken] = []
        self.registrations: dict[tuple[str, str], Registration] = {}
        for entry in sorted(metadata.entry_points(group="priorbench"), key=lambda e: e.name):
            dist = entry.dist.metadata["Name"] if entry.dist else "unknown"
            version = entry.dist.version if entry.dist else "unknown"
            try:
                self.add(entry.load(), entry.name, dist, version)
            except UserError:
                raise
            except Exception as error:  # one broken plugin never takes the command line down
                self.broken.append(Broken(entry.name, dist, version, f"{type(error).__name__}: {error}"))

    def add(self, plugin: Any, name: str, distribution: str, version: str) -> None:
        """Register a module (or object) with hook implementations, and all that it registers."""
        full_name = f"{distribution}/{name}"  # two distributions may call their entry points alike
        if self.manager.has_plugin(full_name):
            return  # the same distribution seen twice (a clone inside an installed environment)
        self.manager.register(plugin, full_name)
        before = dict(self.registrations)
        try:
            for kind in KINDS:
                caller = self.manager.subset_hook_caller(
                    f"register_{kind}s", [p for p in self.manager.get_plugins() if p is not plugin]
                )

                def register(
                    name: str, factory: str, *, summary: str = "", control: bool = False, _kind: str = kind
                ) -> None:
                    new = Registration(_kind, name, factory, summary, control, distribution, version)
                    old = self.registrations.setdefault((_kind, name), new)
                    if old != new:
                        raise UserError(
                            f"two plugins register the {_kind} {name!r}: {old.distribution} {old.version} and "
                            f"{distribution} {version}; uninstall one"
                        )

                caller(register=register)
        except Exception:
            self.manager.unregister(plugin)
            self.registrations = before
            raise

    def of_kind(self, kind: str) -> dict[str, Registration]:
        return {name: r for (k, name), r in self.registrations.items() if k == kind}

    def find(self, kind: str, name: str) -> Registration:
        """The registration of ``name``, or an error that suggests the nearest."""
        found = self.of_kind(kind)
        if name not in found:
            raise unknown(kind, name, found)
        return found[name]


@cache
def load_plugins() -> Plugins:
    """The plugins of this process, found on first use."""
    return Plugins()

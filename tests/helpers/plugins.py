"""Plugins that are made up: entry points, installed distributions, files."""

from importlib import metadata
from types import SimpleNamespace

from helpers.commands import call
from helpers.runs import Plugin
from priorbench import hookimpl
from priorbench.plugin_manager import Plugins


def entry(name, plugin, distribution):
    """A stand-in for an entry point of an installed distribution."""

    def load():
        if isinstance(plugin, Exception):
            raise plugin
        return plugin

    dist = SimpleNamespace(metadata={"Name": distribution}, version="9.9")
    return SimpleNamespace(name=name, load=load, dist=dist)


def plugins_with(monkeypatch, *entries):
    real = list(metadata.entry_points(group="priorbench"))
    monkeypatch.setattr(metadata, "entry_points", lambda group: [*real, *entries])
    return Plugins()


def registering(name, hook="register_priors", factory="collections:OrderedDict"):
    def implementation(register):
        register(name, factory, summary="a test's")

    return Plugin(**{hook: hookimpl(implementation, specname=hook)})


BUILT_IN = [
    "gaussian", "mixture", "ot", "sinf", "vae", "gan", "distil", "noise", "oracle", "memoriser",
]  # fmt: skip


def install(folder, distribution, version, entry_name, source):
    """What pip would leave in ``folder``: a module and its metadata."""
    module = distribution.replace("-", "_")
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    )
    (info / "entry_points.txt").write_text(f"[priorbench]\n{entry_name} = {module}\n")


def with_installed(folder, *arguments):
    return call(*arguments, path=[folder], COLUMNS="200")


REGISTERS = """
from priorbench import hookimpl

@hookimpl
def register_{kind}s(register):
    register("{name}", "{factory}", summary="a stranger's")
"""


FILE = REGISTERS.format(kind="prior", name="swan", factory="swan:Swan")


def outcome(folder, *arguments, **environment):
    """The command line, started in ``folder``."""
    return call(*arguments, cwd=folder, COLUMNS="200", **environment)

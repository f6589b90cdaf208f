"""Plugins: found, listed without torch, kept apart."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

import priorbench
from priorbench import UserError, hookimpl
from priorbench.plugin_manager import Plugins, load_plugins

ROOT = Path(priorbench.__file__).parents[1]
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))


class Plugin(SimpleNamespace):
    """A plugin without a module of its own; pluggy keeps plugins in a dictionary."""

    __hash__ = object.__hash__


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


def test_the_built_in_priors_are_registered_with_distribution_and_version():
    found = load_plugins().of_kind("prior")
    assert set(found) >= {"gaussian", "ot", "vae", "gan", "noise", "oracle", "memoriser"}
    assert {n for n, r in found.items() if r.control} == {"noise", "oracle", "memoriser"}
    assert {(r.distribution, r.version) for r in found.values()} == {("priorbench", priorbench.__version__)}


def test_a_strangers_plugin_comes_in_by_the_same_door(monkeypatch):
    plugins = plugins_with(monkeypatch, entry("mine", registering("mine"), "their-prior"))
    assert plugins.find("prior", "mine").distribution == "their-prior"


def test_an_unknown_name_gets_the_nearest_suggested():
    with pytest.raises(UserError, match="no prior 'gausian'; did you mean 'gaussian'"):
        load_plugins().find("prior", "gausian")


def test_two_plugins_with_one_name_are_both_named(monkeypatch):
    with pytest.raises(UserError, match=r"'ot'.*(other 9\.9 and priorbench|priorbench .* and other 9\.9)"):
        plugins_with(monkeypatch, entry("other", registering("ot"), "other"))


def test_a_broken_plugin_is_listed_and_the_rest_work(monkeypatch):
    plugins = plugins_with(monkeypatch, entry("bad", ImportError("no module named nowhere"), "bad-prior"))
    assert [(b.distribution, b.reason) for b in plugins.broken] == [
        ("bad-prior", "ImportError: no module named nowhere")
    ]
    assert plugins.find("prior", "ot")


def test_a_factory_that_is_not_there_is_one_line(monkeypatch):
    plugins = plugins_with(monkeypatch, entry("x", registering("x", factory="nowhere_at_all:X"), "xdist"))
    with pytest.raises(UserError, match=r"'x' of xdist 9\.9 cannot be loaded from 'nowhere_at_all:X'"):
        plugins.find("prior", "x").load()


@click.command()
def hello():
    """Greets."""
    click.echo("hello")


def test_a_plugin_adds_a_command(monkeypatch):
    from priorbench.cli import cli

    plugin = registering("hello", "register_commands", f"{__name__}:hello")
    plugins = plugins_with(monkeypatch, entry("hello", plugin, "greeter"))
    monkeypatch.setattr("priorbench.plugin_manager.load_plugins", lambda: plugins)
    context = click.Context(cli)
    assert "hello" in cli.list_commands(context)
    assert cli.get_command(context, "hello").callback is hello.callback
    assert "a test's" in cli.get_help(context)


def test_listing_plugins_imports_no_torch():
    code = "import sys, priorbench.cli; from priorbench.plugin_manager import load_plugins; load_plugins(); "
    code += "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def imports(path):
    """(module, names) of every import in a file, relative ones left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module, tuple(alias.name for alias in node.names)


@pytest.mark.parametrize("path", PLUGINS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_plugins_use_public_names_alone(path):
    for module, names in imports(path):
        if module.split(".")[0] == "priorbench":
            assert module == "priorbench"
            assert set(names) <= set(priorbench.__all__)
        assert not (module.startswith("priorbench_") and module.split(".")[0] != path.parent.name)


def test_nothing_in_priorbench_imports_a_plugin():
    assert PLUGINS
    for path in (ROOT / "priorbench").rglob("*.py"):
        assert not [m for m, _ in imports(path) if m.startswith("priorbench_")], path


def test_every_public_name_is_there():
    for name in priorbench.__all__:
        assert getattr(priorbench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = priorbench.nothing

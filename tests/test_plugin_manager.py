"""Plugins: found, registered by hooks, listed when broken, kept apart."""

from importlib import metadata

import click
import pytest
from click.testing import CliRunner
from helpers.commands import command
from helpers.plugins import (
    BUILT_IN,
    REGISTERS,
    entry,
    install,
    outcome,
    plugins_with,
    registering,
    with_installed,
)
from helpers.runs import Plugin

import priorbench
from priorbench import TruncPrior, UserError, hookimpl
from priorbench.plugin_manager import KINDS, Plugins, load_plugins


def test_the_built_in_priors_are_registered_with_distribution_and_version():
    found = load_plugins().of_kind("prior")
    assert set(found) == set(BUILT_IN)
    assert {n for n, r in found.items() if r.control} == {"noise", "oracle", "memoriser"}
    assert {(r.distribution, r.version) for r in found.values()} == {
        ("priorbench", priorbench.__version__)
    }


def test_a_checkout_that_is_not_installed_registers_the_same(monkeypatch):
    installed = load_plugins().registrations
    monkeypatch.setattr(metadata, "entry_points", lambda group: ())
    assert Plugins().registrations == installed


def test_a_strangers_plugin_comes_in_by_the_same_door(monkeypatch):
    plugins = plugins_with(monkeypatch, entry("mine", registering("mine"), "their-prior"))
    assert plugins.find("prior", "mine").distribution == "their-prior"


def test_an_unknown_name_gets_the_nearest_suggested():
    with pytest.raises(UserError, match="no prior 'gausian'; did you mean 'gaussian'"):
        load_plugins().find("prior", "gausian")


def test_two_plugins_with_one_name_are_both_named(monkeypatch):
    with pytest.raises(
        UserError, match=r"'ot'.*(other 9\.9 and priorbench|priorbench .* and other 9\.9)"
    ):
        plugins_with(monkeypatch, entry("other", registering("ot"), "other"))


def test_a_broken_plugin_is_listed_and_the_rest_work(monkeypatch):
    plugins = plugins_with(
        monkeypatch, entry("bad", ImportError("no module named nowhere"), "bad-prior")
    )
    assert [(b.distribution, b.reason) for b in plugins.broken] == [
        ("bad-prior", "ImportError: no module named nowhere")
    ]
    assert plugins.find("prior", "ot")


def test_a_factory_that_is_not_there_is_one_line(monkeypatch):
    plugins = plugins_with(
        monkeypatch, entry("x", registering("x", factory="nowhere_at_all:X"), "xdist")
    )
    with pytest.raises(
        UserError, match=r"'x' of xdist 9\.9 cannot be loaded from 'nowhere_at_all:X'"
    ):
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


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_prior_comes_from_a_plugin_and_loads(name):
    found = load_plugins().find("prior", name)
    assert (found.kind, found.name) == ("prior", name)
    assert (found.distribution, found.version) == ("priorbench", metadata.version("priorbench"))
    assert found.summary
    assert found.factory.startswith("priorbench_")
    cls = found.load()
    assert issubclass(cls, TruncPrior)
    assert cls.__module__ == found.factory.partition(":")[0]


def test_the_plugins_of_this_installation_are_whole():
    assert load_plugins().broken == []
    assert load_plugins() is load_plugins()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_registered_and_is_suggested(monkeypatch, kind):
    plugins = plugins_with(
        monkeypatch, entry("mine", registering("zebrafish", f"register_{kind}s"), "mine")
    )
    found = plugins.find(kind, "zebrafish")
    assert (found.kind, found.distribution, found.version) == (kind, "mine", "9.9")
    with pytest.raises(UserError, match=f"no {kind} 'zebrafsh'; did you mean 'zebrafish'"):
        plugins.find(kind, "zebrafsh")
    others = [k for k in KINDS if k != kind]
    assert not any("zebrafish" in plugins.of_kind(k) for k in others)


def test_a_name_like_no_other_gets_all_there_are():
    with pytest.raises(UserError) as caught:
        load_plugins().find("prior", "qqqqqq")
    assert all(name in str(caught.value) for name in BUILT_IN)


def test_one_name_for_two_kinds_is_no_clash(monkeypatch):
    plugin = registering("ot", "register_extractors")
    assert (
        plugins_with(monkeypatch, entry("m", plugin, "m")).find("extractor", "ot").distribution
        == "m"
    )


def test_two_strangers_with_one_name_are_both_named(monkeypatch):
    entries = [
        entry(f"e{k}", registering("same", factory=f"module{k}:X"), f"dist{k}") for k in (1, 2)
    ]
    with pytest.raises(UserError, match=r"prior 'same': dist1 9\.9 and dist2 9\.9") as caught:
        plugins_with(monkeypatch, *entries)
    assert "\n" not in str(caught.value)


def test_an_entry_point_that_is_seen_twice_is_one(monkeypatch):
    """A clone inside an environment where it is installed too."""
    real = list(metadata.entry_points(group="priorbench"))
    plugins = plugins_with(monkeypatch, *real)
    assert plugins.broken == []
    assert plugins.registrations == load_plugins().registrations


def test_an_entry_point_named_as_another_distributions_is_not_lost(monkeypatch):
    """Entry point names are local to a distribution: a stranger's may be called ``ot`` and register
    ``mine``.
    """
    plugins = plugins_with(monkeypatch, entry("ot", registering("mine"), "their-prior"))
    assert "their-prior" in {r.distribution for r in plugins.registrations.values()} | {
        b.distribution for b in plugins.broken
    }
    assert plugins.find("prior", "ot").distribution == "priorbench"


@pytest.mark.parametrize(
    "error", [ImportError("x"), SyntaxError("x"), RuntimeError("x"), AttributeError("x")]
)
def test_whatever_an_import_raises_is_listed(monkeypatch, error):
    plugins = plugins_with(monkeypatch, entry("bad", error, "bad-prior"))
    assert [b.reason for b in plugins.broken] == [f"{type(error).__name__}: x"]
    assert plugins.registrations == load_plugins().registrations


def test_a_hook_that_raises_leaves_nothing_registered(monkeypatch):
    def half(register):
        register("half", "module:X")
        raise RuntimeError("in the middle")

    plugin = Plugin(register_priors=hookimpl(half, specname="register_priors"))
    plugins = plugins_with(monkeypatch, entry("half", plugin, "half-prior"))
    assert [b.reason for b in plugins.broken] == ["RuntimeError: in the middle"]
    assert not plugins.manager.has_plugin("half")
    assert "half" not in plugins.of_kind("prior")


def test_a_hook_with_arguments_that_there_are_not_is_listed(monkeypatch):
    plugin = Plugin(register_priors=hookimpl(lambda registry: None, specname="register_priors"))
    plugins = plugins_with(monkeypatch, entry("odd", plugin, "odd-prior"))
    assert [b.plugin for b in plugins.broken] == ["odd"]
    assert "registry" in plugins.broken[0].reason
    assert plugins.find("prior", "ot")


@pytest.mark.parametrize(
    "factory", ["collections", "collections:", "collections:Nothing", "", ":X", ".near:X"]
)
def test_a_factory_that_names_nothing_is_one_line(monkeypatch, factory):
    plugins = plugins_with(monkeypatch, entry("x", registering("x", factory=factory), "xdist"))
    with pytest.raises(UserError, match=r"prior 'x' of xdist 9\.9 cannot be loaded"):
        plugins.find("prior", "x").load()


def test_a_factory_that_is_the_class_itself_is_listed(monkeypatch):
    plugins = plugins_with(monkeypatch, entry("x", registering("x", factory=dict), "xdist"))
    assert "must be a string such as 'package.module:attribute'" in plugins.broken[0].reason


def test_an_installed_plugin_that_raises_on_import_is_listed_as_broken(tmp_path):
    install(tmp_path, "bad-prior", "1.2", "bad", "raise OSError('no such library')")
    install(
        tmp_path,
        "good-prior",
        "3.4",
        "good",
        REGISTERS.format(kind="prior", name="swan", factory="m:X"),
    )
    done = with_installed(tmp_path, "plugins")
    assert done.returncode == 0, done.stderr
    assert "broken: bad of bad-prior 1.2: OSError: no such library" in done.stderr
    (line,) = [k for k in done.stdout.splitlines() if "swan" in k]
    assert line.split()[:4] == ["prior", "swan", "good-prior", "3.4"]
    assert all(name in done.stdout for name in BUILT_IN)


def test_installed_plugins_with_one_name_are_one_line_and_exit_code_2(tmp_path):
    install(
        tmp_path,
        "other-ot",
        "5.6",
        "other",
        REGISTERS.format(kind="prior", name="ot", factory="m:X"),
    )
    done = with_installed(tmp_path, "plugins")
    assert done.returncode == 2
    assert "'ot'" in done.stderr
    assert f"priorbench {priorbench.__version__}" in done.stderr
    assert "other-ot 5.6" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_an_installed_command_runs_and_stands_in_the_help(tmp_path):
    source = REGISTERS.format(kind="command", name="greet", factory="greeter:greet") + (
        "\nimport click\n\n@click.command()\n@click.argument('who')\n"
        "def greet(who):\n    click.echo('hello ' + who)\n"
    )
    install(tmp_path, "greeter", "1", "greeter", source)
    assert command("greet", "world", path=[tmp_path]).stdout == "hello world\n"
    assert "a stranger's" in with_installed(tmp_path, "--help").stdout
    missing = with_installed(tmp_path, "gret")
    assert missing.returncode == 2
    assert "did you mean 'greet'?" in missing.stderr


def test_a_plugins_command_runs_in_the_group(monkeypatch):
    from priorbench.cli import cli

    plugins = plugins_with(
        monkeypatch, entry("h", registering("hello", "register_commands", f"{__name__}:hello"), "h")
    )
    monkeypatch.setattr("priorbench.plugin_manager.load_plugins", lambda: plugins)
    done = CliRunner().invoke(cli, ["hello"])
    assert (done.exit_code, done.output) == (0, "hello\n")


def test_strict_raises_for_an_installed_one_too(monkeypatch):
    monkeypatch.setenv("PRIORBENCH_STRICT_PLUGINS", "1")
    with pytest.raises(UserError, match=r"'bad' of bad-prior 9\.9 is broken: ImportError: x"):
        plugins_with(monkeypatch, entry("bad", ImportError("x"), "bad-prior"))


def test_hooks_can_be_traced(tmp_path):
    done = outcome(tmp_path, "plugins", PRIORBENCH_TRACE_PLUGINS="1")
    assert "register_priors" in done.stderr
    assert "register_priors" not in outcome(tmp_path, "plugins").stderr


def test_a_hook_that_does_not_exist_is_listed(monkeypatch):
    plugin = Plugin(register_prior=hookimpl(lambda register: None, specname="register_prior"))
    plugins = plugins_with(monkeypatch, entry("odd", plugin, "odd-prior"))
    assert [b.plugin for b in plugins.broken] == ["odd"]
    assert "no hook 'register_prior'; did you mean 'register_priors'" in plugins.broken[0].reason
    assert plugins.find("prior", "ot")


@pytest.mark.parametrize(("wanted", "reason"), [
    ("1.0", None), (None, None), ("2.0", "needs interface 2.0"), ("1.9", "needs interface 1.9"),
    ("0.9", "needs interface 0.9"),
    ("new", "must be like '1"), (1, "must be like '1"),
])  # fmt: skip
def test_a_plugin_may_require_an_interface(monkeypatch, wanted, reason):
    plugin = registering("heron")
    plugin.priorbench_interface = wanted
    plugins = plugins_with(monkeypatch, entry("heron", plugin, "heron-prior"))
    if reason is None:
        assert plugins.broken == []
        assert plugins.find("prior", "heron")
    else:
        (broken,) = plugins.broken
        assert reason in broken.reason


@pytest.mark.slow
def test_with_a_plugin_that_raises_at_import_the_command_line_works(tmp_path):
    install(tmp_path, "bad-prior", "1.2", "bad", "raise OSError('no such library')")
    assert with_installed(tmp_path, "--help").returncode == 0
    assert "no such library" in with_installed(tmp_path, "plugins").stderr
    done = with_installed(
        tmp_path, "run", "--priors", "gaussian", "--t-trunc", "100", "--n-samples", "16", "--set",
        "controls=[]",
        "--set", "full_chain.steps=2", "--steps", "1", "--output", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_command_of_priorbenchs_own_name_is_an_error(tmp_path):
    install(
        tmp_path,
        "greedy",
        "1.2",
        "greedy",
        REGISTERS.format(kind="command", name="run", factory="m:x"),
    )
    done = with_installed(tmp_path, "plugins")
    assert done.returncode == 2
    assert "two plugins register the command 'run': priorbench" in done.stderr
    assert "greedy 1.2" in done.stderr
    assert with_installed(tmp_path, "plugins", "-p", "no:greedy").returncode == 0

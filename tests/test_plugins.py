"""Plugins: found, listed without torch, kept apart."""

import ast
import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import click
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

import priorbench
from priorbench import TruncPrior, UserError, hookimpl
from priorbench.plugin_manager import KINDS, Plugins, Registration, load_plugins
from priorbench.testing import CHECKS, Subject, run_check

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
    assert set(found) >= {"gaussian", "ot", "sinf", "vae", "gan", "noise", "oracle", "memoriser"}
    assert {n for n, r in found.items() if r.control} == {"noise", "oracle", "memoriser"}
    assert {(r.distribution, r.version) for r in found.values()} == {
        ("priorbench", priorbench.__version__)
    }


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


# --- what is registered ------------------------------------------------------------------------------------

BUILT_IN = ["gaussian", "ot", "sinf", "vae", "gan", "noise", "oracle", "memoriser"]


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


# --- broken ones -------------------------------------------------------------------------------------------


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


# --- installed distributions, in a process of their own -----------------------------------------------------


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


def command(folder, *arguments):
    path = os.pathsep.join([str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", "from priorbench.cli import main; main()", *arguments],
        capture_output=True, text=True, check=False, env=environment, timeout=120,
    )  # fmt: skip


REGISTERS = """
from priorbench import hookimpl

@hookimpl
def register_{kind}s(register):
    register("{name}", "{factory}", summary="a stranger's")
"""


def test_an_installed_plugin_that_raises_on_import_is_listed_as_broken(tmp_path):
    install(tmp_path, "bad-prior", "1.2", "bad", "raise OSError('no such library')")
    install(
        tmp_path,
        "good-prior",
        "3.4",
        "good",
        REGISTERS.format(kind="prior", name="swan", factory="m:X"),
    )
    done = command(tmp_path, "plugins")
    assert done.returncode == 0, done.stderr
    assert "broken bad of bad-prior 1.2: OSError: no such library" in done.stdout
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
    done = command(tmp_path, "plugins")
    assert done.returncode == 2
    assert "'ot'" in done.stderr
    assert f"priorbench {priorbench.__version__}" in done.stderr
    assert "other-ot 5.6" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_installed_command_runs_and_stands_in_the_help(tmp_path):
    source = REGISTERS.format(kind="command", name="greet", factory="greeter:greet") + (
        "\nimport click\n\n@click.command()\n@click.argument('who')\ndef greet(who):\n    click.echo('hello ' + who)\n"
    )
    install(tmp_path, "greeter", "1", "greeter", source)
    assert command(tmp_path, "greet", "world").stdout == "hello world\n"
    assert "a stranger's" in command(tmp_path, "--help").stdout
    missing = command(tmp_path, "gret")
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


# --- without torch -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "import priorbench",
        "import priorbench.cli",
        "import priorbench.cli.run, priorbench.cli.plugins, priorbench.cli.backbone, priorbench.cli.extractor",
        "from priorbench.plugin_manager import load_plugins; assert load_plugins().find('prior', 'ot')",
        "from priorbench.plan.reading import make_config; make_config()",
    ],
)
def test_no_torch(code):
    """Fails, with the reason, where torch is imported; the control below shows that it can."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; assert 'torch' not in sys.modules, 'torch came in'"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_loading_a_prior_does_import_torch():
    """What the tests above forbid is seen when it happens."""
    code = "import sys; from priorbench.plugin_manager import load_plugins as p; p().find('prior', 'noise').load(); "
    done = subprocess.run(
        [sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], check=False
    )
    assert done.returncode == 1


# --- who imports whom --------------------------------------------------------------------------------------


def test_the_scanner_sees_every_way_to_import(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "import priorbench_ot\nfrom priorbench.plan import layout\nfrom . import near\n"
        "def f():\n    import priorbench_gan.prior as g\n    from priorbench_vae import prior\n"
    )
    assert sorted(m for m, _ in imports(path)) == [
        "priorbench.plan", "priorbench_gan.prior", "priorbench_ot", "priorbench_vae",
    ]  # fmt: skip


def test_no_string_in_priorbench_names_a_plugins_module():
    """``import_module("priorbench_ot")`` would be an import too."""
    packages = tuple(sorted({p.parent.name for p in PLUGINS}))
    assert packages == (
        "priorbench_controls", "priorbench_gan", "priorbench_gaussian", "priorbench_mixture", "priorbench_ot",
        "priorbench_vae",
    )  # fmt: skip
    for path in (ROOT / "priorbench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith(packages), f"{path}:{node.lineno}"


def test_a_plugins_factories_are_its_own():
    for r in load_plugins().registrations.values():
        owner = "priorbench_" if r.kind == "prior" else "priorbench."
        assert r.factory.startswith(owner), r


@pytest.mark.parametrize("path", PLUGINS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_plugins_reach_for_no_inner_name_at_run_time(path):
    """No attribute of an inner module by way of ``priorbench.`` or of a relative import that leaves
    the plugin.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{path}:{node.lineno}"
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "priorbench"
        ):
            assert node.attr in priorbench.__all__, f"{path}:{node.lineno}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not node.value.startswith("priorbench."), f"{path}:{node.lineno}"


# --- files, switches, versions -----------------------------------------------------------------------------

PATHS = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
FILE = REGISTERS.format(kind="prior", name="swan", factory="swan:Swan")


def outcome(folder, *arguments, **environment):
    """The command line in a process of its own, started in ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", "priorbench", *arguments], cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"COLUMNS": "200", "PYTHONPATH": PATHS} | environment,
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [
    ["plugins", "--plugin", "swan.py"], ["--plugin", "swan.py", "plugins"], ["plugins", "--plugin=swan.py"],
    ["plugins", "--plugins-dir", "."], ["plugins", "--plugin", "swan.py", "--plugin", "swan.py", "--plugins-dir", "."],
])  # fmt: skip
def test_a_file_is_a_plugin(tmp_path, arguments):
    (tmp_path / "swan.py").write_text(FILE)
    done = outcome(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    (line,) = [k for k in done.stdout.splitlines() if " swan " in k]
    assert "swan.py" in line


def test_a_folder_may_come_from_the_environment_and_its_broken_files_are_listed(tmp_path):
    (tmp_path / "swan.py").write_text(FILE)
    (tmp_path / "goose.py").write_text("import nowhere_at_all")
    done = outcome(tmp_path, "plugins", PRIORBENCH_PLUGINS_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert " swan " in done.stdout
    assert "ModuleNotFoundError: No module named 'nowhere_at_all'" in done.stdout


def test_a_file_that_changes_is_another_version(tmp_path, monkeypatch):
    versions = []
    for comment in ("", "# changed"):
        (tmp_path / "swan.py").write_text(FILE + comment)
        monkeypatch.setenv("PRIORBENCH_PLUGINS", str(tmp_path / "swan.py"))
        sys.modules.pop("swan", None)
        versions.append(Plugins().find("prior", "swan").version)
    sys.modules.pop("swan", None)
    assert versions[0] != versions[1]


@pytest.mark.parametrize(("arguments", "message"), [
    (["plugins", "--plugin", "nowhere.py"], "nowhere.py: there is no such .py file"),
    (["plugins", "--plugin", "text.txt"], "text.txt: there is no such .py file"),
    (["plugins", "--plugins-dir", "nowhere"], "there is no such folder"),
    (["plugins", "--plugin", "broken.py"], "plugin 'broken' of"),
    (["plugins", "--plugin", "json.py"], "there is another module called 'json'"),
    (["plugins", "-p", "gan"], "-p takes no:NAME"),
    (["plugins", "-p"], "-p needs a value"),
    (["plugins", "-p", "no:gon"], "did you mean 'gan'"),
    (["plugins", "--plugins-dir", ".", "--strict-plugins"], "is broken: RuntimeError: planted"),
    (["check", "swen", "--plugin", "swan.py"], "did you mean 'swan'"),
    (["check", "zebra", "--plugins-dir", "."], "(broken: broken, json; see 'priorbench plugins')"),
])  # fmt: skip
def test_switches_that_are_wrong_get_one_line(tmp_path, arguments, message):
    (tmp_path / "swan.py").write_text(FILE)
    (tmp_path / "broken.py").write_text("raise RuntimeError('planted')")
    (tmp_path / "json.py").write_text(FILE)
    (tmp_path / "text.txt").write_text(FILE)
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from priorbench.cli import main; main()", *arguments], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": PATHS}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_plugin_can_be_left_out(tmp_path):
    done = outcome(tmp_path, "plugins", "-p", "no:gan", "-p", "no:vae")
    assert done.returncode == 0, done.stderr
    assert " gan " not in done.stdout
    assert " vae " not in done.stdout
    assert " ot " in done.stdout


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
    ("new", "must be like '1.0'"), (1, "must be like '1.0'"),
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


def test_with_a_plugin_that_raises_at_import_the_command_line_works(tmp_path):
    install(tmp_path, "bad-prior", "1.2", "bad", "raise OSError('no such library')")
    assert command(tmp_path, "--help").returncode == 0
    assert "no such library" in command(tmp_path, "plugins").stdout
    done = command(
        tmp_path, "run", "--priors", "gaussian", "--t-trunc", "100", "--n-samples", "16", "--set", "controls=[]",
        "--set", "full_chain.steps=2", "--steps", "1", "--output", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_an_event_that_raises_is_named_and_the_run_goes_on(tiny_run, monkeypatch):
    def raising(plan):
        raise ValueError("planted")

    manager = load_plugins().manager
    plugin = Plugin(run_started=hookimpl(raising, specname="run_started"))
    manager.register(plugin, "raising")
    try:
        with pytest.warns(RuntimeWarning, match="run_started raised ValueError: planted"):
            assert (tiny_run().status == "ok").all()
        monkeypatch.setenv("PRIORBENCH_STRICT_PLUGINS", "1")
        with pytest.raises(UserError, match="planted"):
            tiny_run()
    finally:
        manager.unregister(plugin)


def test_a_command_of_priorbenchs_own_name_is_an_error(tmp_path):
    install(
        tmp_path,
        "greedy",
        "1.2",
        "greedy",
        REGISTERS.format(kind="command", name="run", factory="m:x"),
    )
    done = command(tmp_path, "plugins")
    assert done.returncode == 2
    assert "two plugins register the command 'run': priorbench" in done.stderr
    assert "greedy 1.2" in done.stderr
    assert command(tmp_path, "plugins", "-p", "no:greedy").returncode == 0


def test_a_file_that_implements_no_hook_is_an_error(tmp_path):
    (tmp_path / "plain.py").write_text("x = 1")
    done = outcome(tmp_path, "plugins", "--plugin", "plain.py")
    assert done.returncode == 2
    assert "it implements no hook" in done.stderr


def test_add_plugin_does_so_from_python(tmp_path, monkeypatch):
    (tmp_path / "swan.py").write_text(FILE)
    (tmp_path / "broken.py").write_text("raise RuntimeError('planted')")
    monkeypatch.setenv("PRIORBENCH_PLUGINS", "")
    try:
        priorbench.add_plugin(tmp_path / "swan.py")
        assert load_plugins().find("prior", "swan").distribution == str(tmp_path / "swan.py")
        with pytest.raises(UserError, match="planted"):
            priorbench.add_plugin(tmp_path / "broken.py")
        assert load_plugins().find("prior", "swan")
    finally:
        sys.modules.pop("swan", None)
        monkeypatch.setenv("PRIORBENCH_PLUGINS", "")
        load_plugins.cache_clear()


# --- the template ------------------------------------------------------------------------------------------


def test_a_new_distribution_passes_its_own_tests_and_the_linters(tmp_path):
    done = outcome(tmp_path, "new", "grey-heron")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "grey-heron"
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins"), str(folder)])
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": path}, check=False,
    )  # fmt: skip
    assert tests.returncode == 0, tests.stdout
    lint = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120", "."], cwd=folder, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert lint.returncode == 0, lint.stdout
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["priorbench"] == {"grey-heron": "grey_heron"}
    assert "GreyHeron" in (folder / "grey_heron.py").read_text()
    again = outcome(tmp_path, "new", "grey-heron")
    assert again.returncode == 2
    assert "exists already" in again.stderr


@pytest.mark.parametrize(
    "name",
    ["Heron", "../heron", "grey_heron", "json", "class", "heron-", "", "a\nb", "torch", "ot"],
)
def test_names_that_no_distribution_can_have_are_refused(tmp_path, name):
    done = outcome(tmp_path, "new", name)
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_the_mixture_of_the_repository_keeps_the_contract(monkeypatch):
    path = ROOT / "plugins/priorbench_mixture/priorbench_mixture.py"
    monkeypatch.setenv("PRIORBENCH_PLUGINS", str(path))
    cls = Plugins().find("prior", "mixture").load()
    subject = Subject(cls, {"components": 4, "rank": 16})
    assert {name: run_check(name, subject).message for name in CHECKS} == dict.fromkeys(CHECKS, "")


# --- metrics and executors ---------------------------------------------------------------------------------


def measure(measured):
    assert measured.images.dtype == torch.uint8
    assert (
        len(measured.features)
        == len(measured.images)
        == len(measured.x_t)
        == len(measured.x_t_test)
        == 16
    )
    return {"grey": measured.images.float().mean(), "at": measured.t_trunc}


def clash(measured):
    return {"fid": 0.0}


@pytest.fixture
def tiny_run(monkeypatch, tmp_path):
    def run(**settings):
        plugins = load_plugins()
        for kind, name in (("metric", "measure"), ("metric", "clash")):
            found = Registration(kind, name, f"{__name__}:{name}", "", False, "metrics", "1.0")
            monkeypatch.setitem(plugins.registrations, (kind, name), found)
        small = {
            "controls": [],
            "n_validation": 0,
            "n_samples": 16,
            "steps": [1],
            "full_chain": {"steps": 2},
            "t_trunc": [100],
        }
        return priorbench.run(
            priors=["gaussian"], output=tmp_path / "out", settings=small | settings
        )

    return run


def test_a_metric_of_a_plugin_has_columns_of_its_own(tiny_run, tmp_path):
    table = tiny_run(metrics=["measure"])
    assert (table["at"] == table.t_trunc).all()
    assert table.grey.between(0, 255).all()
    summary = pd.read_csv(tmp_path / "out/summary.csv")
    assert summary.grey.tolist() == pytest.approx(table.grey.tolist())
    assert "grey" not in tiny_run().columns


def test_a_metric_cannot_overwrite_a_column(tiny_run):
    table = tiny_run(metrics=["clash"])
    assert (table.status == "failed").all()
    assert table.error.str.contains("returned the column 'fid', which is there already").all()


def test_metrics_and_executors_that_do_not_exist_are_named(tiny_run):
    with pytest.raises(UserError, match=r"did you mean 'measure'.*did you mean 'serial'"):
        tiny_run(metrics=["mesure"], executor="serail")

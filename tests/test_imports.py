"""Who imports whom: plugins use public names alone, priorbench no plugin, listings no torch."""

import ast
from graphlib import TopologicalSorter
from importlib import import_module

import pytest
from helpers.commands import ROOT, python

import priorbench
from priorbench.plugin_manager import load_plugins

PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))


@pytest.mark.slow
def test_listing_plugins_imports_no_torch():
    code = "import sys, priorbench.cli; from priorbench.plugin_manager import load_plugins; "
    code += "load_plugins(); "
    code += "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert python(code).returncode == 0


def imports(path):
    """(module, names) of every import in a file, relative ones left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module, tuple(alias.name for alias in node.names)


@pytest.mark.parametrize("path", PLUGINS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_plugins_use_public_names_alone(path):
    """Those of priorbench, and those of other plugins of this repository."""
    for module, names in imports(path):
        package = module.split(".")[0]
        if package == "priorbench" or package.startswith("priorbench_"):
            assert module == package, "an inner module"
            assert names or package == "priorbench", "a whole plugin, whatever is used of it"
            assert set(names) <= set(import_module(package).__all__)


def test_plugins_import_each_other_in_no_circle():
    arrows = {path.parent.name: set() for path in PLUGINS}
    for path in PLUGINS:
        modules = {module for module, _ in imports(path)}
        arrows[path.parent.name] |= (modules & arrows.keys()) - {path.parent.name}
    assert tuple(TopologicalSorter(arrows).static_order())
    assert arrows["priorbench_ot"] == {"priorbench_gaussian", "priorbench_mixture"}  # closed forms


def test_nothing_in_priorbench_imports_a_plugin():
    assert PLUGINS
    for path in (ROOT / "priorbench").rglob("*.py"):
        assert not [m for m, _ in imports(path) if m.startswith("priorbench_")], path


def test_every_public_name_is_there():
    for name in priorbench.__all__:
        assert getattr(priorbench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = priorbench.nothing


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import priorbench",
        "import priorbench.cli",
        "from priorbench.cli import backbone, extractor, plugins, run",
        "from priorbench.plugin_manager import load_plugins as p; assert p().find('prior', 'ot')",
        "from priorbench.plan.reading import make_config; make_config()",
    ],
)
def test_no_torch(code):
    """Fails, with the reason, where torch is imported; the control below shows that it can."""
    done = python(f"{code}; import sys; assert 'torch' not in sys.modules, 'torch came in'")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_loading_a_prior_does_import_torch():
    """What the tests above forbid is seen when it happens."""
    code = "import sys; from priorbench.plugin_manager import load_plugins; "
    code += "load_plugins().find('prior', 'noise').load(); "
    assert python(code + "sys.exit('torch' in sys.modules)").returncode == 1


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
        "priorbench_controls", "priorbench_distil", "priorbench_gan", "priorbench_gaussian",
        "priorbench_mixture", "priorbench_ot", "priorbench_trackers", "priorbench_vae",
    )  # fmt: skip
    for path in (ROOT / "priorbench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith(packages), f"{path}:{node.lineno}"


def test_a_plugins_factories_are_its_own():
    for r in load_plugins().registrations.values():
        owner = "priorbench_" if r.kind in ("prior", "tracker") else "priorbench."
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

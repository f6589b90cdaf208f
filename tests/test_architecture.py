"""Imports go one way: between the rooms as docs/architecture.md draws them, and without circles."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import priorbench

PACKAGE = Path(priorbench.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture.md"
ROW = re.compile(r"^\| (\S+) \| ([^|]+) \| ([^|]*)\| [^|]+\|$", re.MULTILINE)


def listed(text):
    return [name.strip().replace("\\", "") for name in text.split(",") if name.strip()]


TABLE = PAGE.read_text().split("## Rooms")[1].split("## ")[0]
ROOMS = {room: (listed(modules), listed(may)) for room, modules, may in ROW.findall(TABLE)}
ROOMS.pop("room")
ROOM_OF = {module: room for room, (modules, _) in ROOMS.items() for module in modules}
FILES = sorted(PACKAGE.rglob("*.py"))


def dotted(path):
    """The module in a file, below priorbench; the package itself is ''."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module):
    return ROOM_OF[module.partition(".")[0] or "__init__"]


def imports(path):
    """The modules below priorbench that a file imports, wherever in the file."""
    modules = {dotted(p) for p in FILES}
    package = path.relative_to(PACKAGE).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.split(".")[0] == "priorbench"]
            yield from (name.removeprefix("priorbench").lstrip(".") for name in names)
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package[: len(package) - node.level + 1], *base.split(".")])
            elif base.split(".")[0] == "priorbench":
                base = base.removeprefix("priorbench").lstrip(".")
            else:
                continue
            base = base.strip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".strip(".")
                yield inner if inner in modules else base


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_the_rooms_that_the_page_allows(path):
    room = room_of(dotted(path))
    allowed = {room, *ROOMS[room][1]}
    found = {room_of(module) for module in imports(path)}
    assert found <= allowed, f"{dotted(path)} imports {', '.join(sorted(found - allowed))}"


def test_the_page_lists_every_module_once_and_no_other():
    modules = [module for modules, _ in ROOMS.values() for module in modules]
    there = {dotted(p).partition(".")[0] or "__init__" for p in FILES}
    assert sorted(modules) == sorted(there)


def test_every_arrow_of_the_page_is_used():
    used = {(room_of(dotted(p)), room_of(m)) for p in FILES for m in imports(p)}
    drawn = {(room, other) for room, (_, may) in ROOMS.items() for other in may}
    assert drawn == {(a, b) for a, b in used if a != b}


def test_rooms_and_modules_have_no_circles():
    rooms = {room: may for room, (_, may) in ROOMS.items()}
    assert tuple(TopologicalSorter(rooms).static_order())
    # The package's own __init__ is lazy: it imports the other way once its names are used.
    modules = {dotted(p): {m for m in imports(p) if m} for p in FILES if dotted(p)}
    assert tuple(TopologicalSorter(modules).static_order())


def test_the_scanner_sees_every_way_to_import(tmp_path, monkeypatch):
    """What the tests above forbid is seen when it happens."""
    path = PACKAGE / "data" / "planted.py"
    text = (
        "import priorbench.bench.cell\nfrom priorbench.report import page\nfrom .. import task\n"
        "def f():\n    from ..store.fits import Fits\n    from . import splits\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda self: text)
    assert set(imports(path)) == {"bench.cell", "report.page", "task", "store.fits", "data.splits"}


def test_files_named_on_the_page_exist():
    named = re.findall(r"`((?:[\w]+/)+[\w.]+\.py|[\w]+\.py)`", PAGE.read_text())
    for name in named:
        places = [PACKAGE / name, PACKAGE.parent / name]
        assert any(place.is_file() for place in places), name
    assert len(named) > 20

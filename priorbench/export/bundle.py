"""The code that some classes need, gathered from their modules into one module.

The names that the code uses are followed through the modules that define them, and through their
imports, down to Python's own modules, torch, numpy and diffusers. What is not reached is left out:
methods whose names nothing mentions, such as ``fit``, and whatever only they import. Annotations
stay as text, docstrings stay, comments are lost.
"""

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from types import ModuleType

OUTSIDE = ("torch", "numpy", "diffusers")  # what an exported folder may import besides Python's own
ANNOTATIONS = ("annotation", "returns")
UNCALLED = ("forward",)  # methods that torch calls, and the code does not name

Name = tuple[str, str]  # a module, and a name at its top level


class CannotBundle(Exception):
    """Why the code cannot leave, in a few words."""


def bundle(roots: Iterable[type], methods: Iterable[str], own: Iterable[str]) -> str:
    """The text of a module with ``roots`` in it, and with all that they need.

    Arguments:
        methods: those of the roots that will be called.
        own: the packages whose code may be taken along.

    Raises:
        CannotBundle: if something else is needed too, or two things have one name.
    """
    found = _Bundle(set(own), set(methods))
    for cls in roots:
        found.visit((cls.__module__, cls.__qualname__))
    found.grow()
    return found.text()


class _Bundle:
    """What has been gathered so far.

    Attributes:
        own: the packages whose code may be taken along.
        mentioned: the names of attributes that the code reads; methods of other names are left out.
        statements: the code, by the name that it binds.
        imports: from outside, as lines.
        classes: those of the statements, with the methods that they have already.
    """

    def __init__(self, own: set[str], mentioned: set[str]) -> None:
        self.own, self.mentioned = own, mentioned
        self.statements: dict[Name, ast.stmt] = {}
        self.imports: dict[str, Name] = {}
        self.classes: dict[Name, set[str]] = {}

    def visit(self, name: Name) -> None:
        """Take along what ``name`` stands for, unless it is there."""
        if name in self.statements:
            return
        module, local = name
        statement = _names(module).get(local)
        if statement is None:
            return self.visit(_elsewhere(name))
        if isinstance(statement, ast.Import | ast.ImportFrom):
            return self.take_import(statement, name)
        if isinstance(statement, ast.If | ast.Try):
            raise CannotBundle(f"{module} defines {local} under a condition")
        self.claim(name)
        self.statements[name] = statement
        if isinstance(statement, ast.ClassDef):
            self.classes[name] = set()
            for part in (*statement.bases, *statement.decorator_list, *_fields(statement)):
                self.follow(part, module)
        else:
            self.follow(statement, module)

    def claim(self, name: Name) -> None:
        others = [other for other in self.statements if other[1] == name[1] and other != name]
        if others:
            raise CannotBundle(f"{others[0][0]} and {name[0]} both define {name[1]}")

    def take_import(self, statement: ast.Import | ast.ImportFrom, name: Name) -> None:
        """Keep an import from outside, or take along what is imported."""
        module, local = name
        (alias,) = (a for a in statement.names if (a.asname or a.name.split(".")[0]) == local)
        if isinstance(statement, ast.Import):
            self.outside(alias.name, f"import {ast.unparse(alias)}", name)
            return
        source = _absolute(statement, module)
        if source.split(".")[0] not in self.own:
            self.outside(source, f"from {source} import {ast.unparse(alias)}", name)
            return
        if alias.asname and alias.asname != alias.name:
            raise CannotBundle(f"{module} imports {alias.name} by another name")
        if alias.name not in _names(source) and _is_module(f"{source}.{alias.name}"):
            raise CannotBundle(f"{module} imports the module {alias.name} as a whole")
        self.visit((source, alias.name))

    def outside(self, module: str, line: str, name: Name) -> None:
        top = module.split(".")[0]
        if top not in OUTSIDE and top not in sys.stdlib_module_names:
            raise CannotBundle(f"{name[0]} needs {top}")
        self.imports[line] = name

    def follow(self, node: ast.AST, module: str) -> None:
        """Take along what ``node`` uses of its module's names, and note the attributes it reads.

        Of what only its annotations name it takes the imports from outside: diffusers reads them.
        """
        names = _names(module)
        for local in _annotated(node) & names.keys():
            if self.is_from_outside(names[local], module):
                self.visit((module, local))
        for part in _code(node):
            if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Load):
                self.mentioned.add(part.attr)
            elif isinstance(part, ast.Name) and part.id in names:
                self.visit((module, part.id))
            elif isinstance(part, ast.Import | ast.ImportFrom):  # inside a function
                for alias in part.names:
                    bound = alias.asname or alias.name.split(".")[0]
                    self.take_import(part, (module, bound))

    def is_from_outside(self, statement: ast.stmt, module: str) -> bool:
        source = _absolute(statement, module) if isinstance(statement, ast.ImportFrom) else ""
        return source != "" and source.split(".")[0] not in self.own

    def grow(self) -> None:
        """Give classes the methods that are mentioned, until no more are."""
        before = -1
        while before != (before := len(self.mentioned) + len(self.statements)):
            for name, taken in list(self.classes.items()):
                for method in _methods(self.statements[name]):
                    if method.name not in taken and self.wanted(method.name):
                        taken.add(method.name)
                        self.follow(method, name[0])

    def wanted(self, method: str) -> bool:
        dunder = method.startswith("__") and method.endswith("__")
        return dunder or method in self.mentioned or method in UNCALLED

    def text(self) -> str:
        """The module: imports, then statements, each after what it uses when it is run."""
        first: dict[int, Name] = {}  # a statement that binds several names is written once
        for name, statement in self.statements.items():
            first.setdefault(id(statement), name)
        names = {name[1]: first[id(statement)] for name, statement in self.statements.items()}
        order = {
            name: {
                names[part.id]
                for piece in _run_at_once(self.statements[name])
                for part in _code(piece)
                if isinstance(part, ast.Name) and names.get(part.id, name) != name
            }
            for name in first.values()
        }
        parts = [self.statement(name) for name in TopologicalSorter(order).static_order()]
        lines = ["from __future__ import annotations", "", *sorted(self.imports), "", ""]
        return "\n".join(lines) + "\n\n\n".join(parts) + "\n"

    def statement(self, name: Name) -> str:
        statement = self.statements[name]
        if isinstance(statement, ast.ClassDef):
            taken = self.classes[name]
            body = [
                s for s in statement.body if not isinstance(s, ast.FunctionDef) or s.name in taken
            ]
            statement = ast.ClassDef(**vars(statement) | {"body": body or [ast.Pass()]})
        return ast.unparse(_WithoutOwnImports(self.own, name[0]).visit(statement))


class _WithoutOwnImports(ast.NodeTransformer):
    """Drops the imports inside functions of what is in the bundle itself."""

    def __init__(self, own: set[str], module: str) -> None:
        self.own, self.module = own, module

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        mine = _absolute(node, self.module).split(".")[0] in self.own
        return ast.Pass() if mine else node


@cache
def _names(module: str) -> dict[str, ast.stmt]:
    """The names that the top level of a module binds, and the statements that bind them."""
    found = importlib.import_module(module)
    try:
        tree = ast.parse(inspect.getsource(found))
    except (OSError, TypeError) as error:
        raise CannotBundle(f"{module} has no source") from error
    return {name: statement for statement in tree.body for name in _bound(statement)}


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.split(".")[0] for alias in statement.names)
    elif isinstance(statement, ast.If | ast.Try):
        if not (isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test)):
            yield from (name for inner in ast.iter_child_nodes(statement)
                        if isinstance(inner, ast.stmt) for name in _bound(inner))  # fmt: skip
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))


def _elsewhere(name: Name) -> Name:
    """Where a name is defined that its module binds without a statement, as lazy exports are."""
    found = getattr(importlib.import_module(name[0]), name[1], None)
    place = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if None in place or place == name:
        raise CannotBundle(f"{name[0]} does not define {name[1]}")
    return str(place[0]), str(place[1])


def _absolute(statement: ast.ImportFrom, module: str) -> str:
    """The module that ``from`` names, seen from ``module``."""
    if not statement.level:
        return statement.module or ""
    package = _package(importlib.import_module(module)).split(".")
    base = package[: len(package) - statement.level + 1]
    return ".".join([*base, *([statement.module] if statement.module else [])])


def _package(module: ModuleType) -> str:
    return module.__package__ or ""


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _methods(statement: ast.stmt) -> Iterator[ast.FunctionDef]:
    if isinstance(statement, ast.ClassDef):
        yield from (s for s in statement.body if isinstance(s, ast.FunctionDef))


def _fields(statement: ast.ClassDef) -> Iterator[ast.stmt]:
    yield from (s for s in statement.body if not isinstance(s, ast.FunctionDef))


def _run_at_once(statement: ast.stmt) -> Iterator[ast.AST]:
    """The parts of a statement that run where it stands, not when it is called."""
    if isinstance(statement, ast.ClassDef):
        yield from (*statement.bases, *statement.decorator_list, *_fields(statement))
        for method in _methods(statement):
            yield from _run_at_once(method)
    elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        defaults = (*statement.args.defaults, *filter(None, statement.args.kw_defaults))
        yield from (*statement.decorator_list, *defaults)
    else:
        yield statement


def _annotated(node: ast.AST) -> set[str]:
    """The names in the annotations of ``node``."""
    annotations = (getattr(part, name, None) for part in ast.walk(node) for name in ANNOTATIONS)
    parts = (part for found in annotations if found for part in ast.walk(found))
    return {part.id for part in parts if isinstance(part, ast.Name)}


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """``node`` and all below it, without annotations."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ANNOTATIONS:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _code(child)

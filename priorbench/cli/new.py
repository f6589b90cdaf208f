"""``priorbench new``."""

import importlib.util
import keyword
import re
import sys
from pathlib import Path
from string import Template

import click

from ..errors import UserError
from ..files import write_atomically
from ..hookspecs import INTERFACE
from ..plugin_manager import load_plugins
from ..version import __version__

TEMPLATES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    "{module}.py": "module.py.txt",
    "tests/test_{module}.py": "test.py.txt",
}


@click.command()
@click.argument("name")
@click.option(
    "--output", type=click.Path(path_type=Path), help="The folder to write. [default: ./NAME]"
)
def new(name: str, output: Path | None) -> None:
    """Write a small distribution with the prior NAME.

    It has a pyproject.toml, one module, its tests and a README. It passes its own tests unchanged,
    and 'priorbench plugins' lists it after 'pip install -e NAME'.
    """
    module = _free_module(name)
    folder = output or Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already; choose another --output")
    values = {
        "name": name,
        "distribution": name,
        "module": module,
        "version": __version__,
        "interface": INTERFACE,
        "cls": "".join(part.capitalize() for part in name.split("-")),
    }
    for path, template in TEMPLATES.items():
        source = Path(__file__).parents[1] / "templates" / template
        target = folder / path.format(module=module)
        write_atomically(target, Template(source.read_text()).substitute(values).encode())
        click.echo(target)
    click.echo(
        f"next: pip install -e {folder}, then priorbench check {name}; the class is in "
        f"{folder / module}.py"
    )


def _free_module(name: str) -> str:
    """The module of the prior ``name``; refuses names that are malformed or taken."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UserError(
            "NAME must consist of lower-case letters, digits and single hyphens, like my-prior, "
            f"got {name!r}"
        )
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        raise UserError(
            f"NAME would make a module {module!r}, which Python reserves; choose another"
        )
    if importlib.util.find_spec(module) is not None:
        raise UserError(
            f"NAME would make a module {module!r}, which is installed already; choose another"
        )
    taken = load_plugins().of_kind("prior").get(name)
    if taken is not None:
        raise UserError(
            f"{taken.distribution} {taken.version} registers a prior {name!r} already; choose "
            "another NAME"
        )
    return module

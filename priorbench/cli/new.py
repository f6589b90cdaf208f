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
    "--output", type=click.Path(path_type=Path), help="The folder to make. [default: ./NAME]"
)
def new(name: str, output: Path | None) -> None:
    """Write a small distribution with the prior NAME: pyproject.toml, one module, its tests, a
    README.

    It passes its own tests as it is, and stands in 'priorbench plugins' after 'pip install -e
    NAME'.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UserError(
            f"NAME must be of small letters, digits and single hyphens, like my-prior, got {name!r}"
        )
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names:
        raise UserError(
            f"NAME would make a module {module!r}, which Python has already; choose another"
        )
    if importlib.util.find_spec(module) is not None:
        raise UserError(
            f"NAME would make a module {module!r}, and there is one already; choose another"
        )
    taken = load_plugins().of_kind("prior").get(name)
    if taken is not None:
        raise UserError(
            f"there is a prior {name!r} already, of {taken.distribution} {taken.version}; choose another NAME"
        )
    folder = output or Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already; choose another --output")
    values = {
        "name": name, "distribution": name, "module": module, "version": __version__, "interface": INTERFACE,
        "cls": "".join(part.capitalize() for part in name.split("-")),
    }  # fmt: skip
    for path, template in TEMPLATES.items():
        source = Path(__file__).parents[1] / "templates" / template
        target = folder / path.format(module=module)
        write_atomically(target, Template(source.read_text()).substitute(values).encode())
        click.echo(target)
    click.echo(
        f"next: pip install -e {folder}, then priorbench check {name}; the class is in {folder / module}.py"
    )

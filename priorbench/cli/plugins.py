"""``priorbench plugins``."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from ..plugin_manager import Plugins, Registration

HEADINGS = ("kind", "name", "distribution", "version", "summary")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all that is known.")
def plugins(as_json: bool) -> None:
    """List everything that is registered, with its distribution and version.

    Where the output is no terminal, each is a line, its columns separated by tabs.
    """
    from rich.console import Console

    from ..plugin_manager import load_plugins

    found = load_plugins()
    console = Console()
    if as_json:
        about = {"registered": [asdict(r) for r in _sorted(found)]}
        about |= {"broken": [asdict(b) for b in found.broken]}
        click.echo(json.dumps(about, indent=1))
    elif console.is_terminal:
        _show(found, console)
    else:
        for r in _sorted(found):
            click.echo("\t".join(" ".join(value.split()) for value in _columns(r)))
    for broken in [] if as_json else found.broken:
        text = f"broken: {broken.plugin} of {broken.distribution} {broken.version}: {broken.reason}"
        click.echo(click.style(text, fg="red", bold=True), err=True)


def _sorted(found: "Plugins") -> list["Registration"]:
    from ..plugin_manager import KINDS

    return [r for kind in KINDS for r in sorted(found.of_kind(kind).values(), key=lambda r: r.name)]


def _columns(r: "Registration") -> tuple[str, ...]:
    name = f"{r.name} (control)" if r.control else r.name
    return r.kind, name, r.distribution, r.version, r.summary


def _show(found: "Plugins", console: "Console") -> None:
    """A table for a terminal."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for r in _sorted(found):
        table.add_row(*map(escape, _columns(r)))
    console.print(table)

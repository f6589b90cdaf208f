"""``priorbench plugins``."""

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table


@click.command()
def plugins() -> None:
    """List everything that is registered, with its distribution and version."""
    from ..plugin_manager import KINDS, load_plugins

    found = load_plugins()
    table = Table(box=None, pad_edge=False)
    for heading in ("kind", "name", "distribution", "version", "summary"):
        table.add_column(heading, overflow="fold")
    for kind in KINDS:
        for r in sorted(found.of_kind(kind).values(), key=lambda r: r.name):
            name = f"{r.name} (control)" if r.control else r.name
            table.add_row(
                kind, escape(name), escape(r.distribution), escape(r.version), escape(r.summary)
            )
    console = Console()
    console.print(table)
    for broken in found.broken:
        text = f"{broken.plugin} of {broken.distribution} {broken.version}: {broken.reason}"
        console.print(f"[bold red]broken[/] {escape(text)}")

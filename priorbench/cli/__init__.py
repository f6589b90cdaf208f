"""The command line. Importing it imports no torch: a command's module is loaded on its call."""

from __future__ import annotations

import atexit
import gc
import sys
from typing import TYPE_CHECKING

import click

from ..errors import UserError, printable, unknown
from .plugin_options import HELP, take_plugin_options

if TYPE_CHECKING:
    from ..plugin_manager import Registration


class Commands(click.Group):
    """All registered commands, also those of plugins; a command is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_registered())

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        found = _registered()
        return found[name].load() if name in found else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in _registered():
            raise unknown("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(r.name, r.summary) for r in _registered().values()])
        with formatter.section("Plugins (anywhere on the command line)"):
            formatter.write_dl(HELP)


def _registered() -> dict[str, Registration]:
    from ..plugin_manager import load_plugins

    return load_plugins().of_kind("command")


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="priorbench", message="%(prog)s %(version)s")
@click.option("--traceback", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, /, traceback: bool) -> None:
    """Which generator of x_{t_trunc} is worth having, and at which t_trunc? Does any of them beat a
    fast solver from pure noise?
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> None:
    """The entry point. Bad input gives a message of one line and exit code 2."""
    # Else the interpreter searches all that was imported for garbage before it ends: seconds.
    atexit.register(gc.freeze)
    try:
        code = cli.main(take_plugin_options(sys.argv[1:]), standalone_mode=False)
    except (UserError, click.ClickException) as error:
        if "--traceback" in sys.argv:
            raise
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo(f"priorbench: error: {printable(' '.join(message.split()))}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "priorbench: stopped; finished work is kept, repeat the command to resume", err=True
        )
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)

"""The command line. Importing it imports no torch: each command's module is loaded when it is called."""

import sys
from importlib import import_module

import click

from ..errors import UserError

# name -> (module:attribute, one line of help)
COMMANDS = {
    "run": ("priorbench.cli.run:run", "Compare priors; without arguments, on the digits default."),
    "plugins": ("priorbench.cli.plugins:plugins", "List what is registered, and by which distribution."),
    "backbone": ("priorbench.cli.backbone:backbone", "Train a diffusion model."),
    "extractor": ("priorbench.cli.extractor:extractor", "Train a feature extractor for FID."),
}


class Commands(click.Group):
    """The built-in commands and those of plugins, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *self._plugged()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            module, _, attribute = COMMANDS[name][0].partition(":")
            found = getattr(import_module(module), attribute)
            return found
        plugged = self._plugged()
        return plugged[name].load() if name in plugged else None

    def resolve_command(self, ctx: click.Context, args: list[str]):  # type: ignore[no-untyped-def]
        from ..errors import unknown

        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise unknown("command", args[0], self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, text) for name, (_, text) in COMMANDS.items()]
        rows += [(r.name, r.summary) for r in self._plugged().values()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    @staticmethod
    def _plugged():  # type: ignore[no-untyped-def]
        from ..plugin_manager import load_plugins

        return load_plugins().of_kind("command")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="priorbench", message="%(prog)s %(version)s")
@click.option("--traceback", is_flag=True, help="Show the traceback of an error.")
def cli(traceback: bool) -> None:
    """Which generator of x_{t_trunc} is worth having, at which t_trunc, and does any of them beat a fast solver from
    pure noise?"""


def main() -> None:
    """The entry point: bad input is one line and exit code 2."""
    try:
        code = cli.main(standalone_mode=False)
    except (UserError, click.ClickException) as error:
        if "--traceback" in sys.argv:
            raise
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo(f"priorbench: error: {' '.join(message.split())}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("priorbench: stopped; what is done is kept, and the same command goes on", err=True)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)

"""``priorbench check``."""

import click


@click.command()
@click.argument("prior")
@click.option("--only", help="Some of the checks, by commas.")
def check(prior: str, only: str | None) -> int:
    """Run the conformance suite on PRIOR: a registered name, with hyperparameters as NAME[key=value,...].

    The prior is fitted some ten times on a small world, so choose hyperparameters by which that is quick. The exit code
    is 1 if a check fails.
    """
    from rich.console import Console
    from rich.markup import escape

    from ..bench.config import Choice, read_choice
    from ..bench.plan import check_params
    from ..errors import UserError, unknown
    from ..plugin_manager import load_plugins
    from ..testing import CHECKS, Subject, run_check

    try:
        choice = Choice(**read_choice(prior))
    except ValueError as error:
        raise UserError(f"PRIOR: {error}") from error
    names = list(CHECKS) if only is None else [name.strip() for name in only.split(",")]
    for name in names:
        if name not in CHECKS:
            raise unknown("check", name, CHECKS)
    registration = load_plugins().find("prior", choice.name)
    check_params(choice, registration)
    subject = Subject(registration.load(), choice.params)
    console = Console(highlight=False)
    colour = {"passed": "green", "failed": "bold red", "expected": "yellow", "stale": "bold red"}
    bad = 0
    for name in names:
        outcome = run_check(name, subject)
        bad += outcome.status in ("failed", "stale")
        console.print(f"[{colour[outcome.status]}]{outcome.status:8}[/] {name:16} {escape(outcome.message)}".rstrip())
    console.print(
        f"{choice.label} of {escape(registration.distribution)} {registration.version}: "
        + (f"{bad} of {len(names)} checks failed" if bad else f"all {len(names)} checks are as they should be")
    )
    return 1 if bad else 0

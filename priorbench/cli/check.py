"""``priorbench check``."""

import click


@click.command()
@click.argument("prior")
@click.option("--only", metavar="CHECK,...", help="Some of the checks, or one.")
def check(prior: str, only: str | None) -> int:
    """Run the conformance suite on PRIOR: a registered name, with hyperparameters as
    NAME[key=value,...].

    The prior is fitted some ten times on a small world, so choose hyperparameters by which that is
    quick. The exit code is 1 if a check fails.

    The checks: parameters, emits, unfitted, shape, dtype, device, finite, generator, distinct,
    global state, save and load, refit, process, deadline, frozen, gaussian target.
    """
    from rich.console import Console
    from rich.markup import escape

    from ..errors import UserError, unknown
    from ..plan.choice import Choice, read_choice
    from ..plan.mistakes import check_params
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
    console = Console(highlight=False, soft_wrap=True)
    colour = {"passed": "green", "failed": "bold red", "expected": "yellow", "stale": "bold red"}

    def say(status: str, names: str, message: str) -> None:
        console.print(
            f"[{colour[status]}]{status:8}[/] {names}" + (f": {escape(message)}" if message else "")
        )

    failed: dict[str, list[str]] = {}  # message -> checks: one cause may fail many
    stale = 0
    for name in names:
        outcome = run_check(name, subject)
        if outcome.status == "failed":
            failed.setdefault(outcome.message, []).append(name)
        else:
            stale += outcome.status == "stale"
            say(outcome.status, name, outcome.message)
    for message, by_it in failed.items():
        say("failed", ", ".join(by_it), message)
    bad = stale + sum(map(len, failed.values()))
    console.print(
        f"{choice.label} of {escape(registration.distribution)} {registration.version}: "
        + (
            f"{bad} of {len(names)} checks failed"
            if bad
            else f"all {len(names)} checks are as they should be"
        )
    )
    return 1 if bad else 0

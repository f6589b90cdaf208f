"""``priorbench check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.markup import escape

from ..errors import UserError, unknown

if TYPE_CHECKING:
    from rich.console import Console

    from ..testing import Subject

COLOURS = {"passed": "green", "failed": "bold red", "expected": "yellow", "stale": "bold red"}


@click.command()
@click.argument("prior")
@click.option("--only", metavar="CHECK,...", help="Run only these checks.")
def check(prior: str, only: str | None) -> int:
    """Run the conformance suite on PRIOR, a registered name: NAME or NAME[key=value,...].

    The suite fits the prior about ten times to a small data set, so choose hyperparameters that
    make a fit quick. The exit code is 1 if a check fails.

    The checks: parameters, emits, unfitted, shape, dtype, device, finite, generator, distinct,
    times, global state, save and load, refit, process, deadline, frozen, gaussian target,
    latents.
    """
    from rich.console import Console

    from ..plan.choice import Choice, read_choice
    from ..plan.mistakes import check_params
    from ..plugin_manager import load_plugins
    from ..testing import CHECKS, Subject

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
    console = Console(highlight=False, soft_wrap=True)
    bad = _run_checks(names, Subject(registration.load(), choice.params), console)
    verdict = (
        f"{bad} of {len(names)} checks failed"
        if bad
        else f"all {len(names)} checks are as expected"
    )
    source = f"{escape(registration.distribution)} {registration.version}"
    console.print(f"{choice.label} of {source}: {verdict}")
    return 1 if bad else 0


def _run_checks(names: list[str], subject: Subject, console: Console) -> int:
    """Run the checks and print their outcomes; returns how many are bad.

    Failed checks come last, those with the same message in one line: they have one cause.
    """
    from ..testing import run_check

    failed: dict[str, list[str]] = {}
    stale = 0
    for name in names:
        outcome = run_check(name, subject)
        if outcome.status == "failed":
            failed.setdefault(outcome.message, []).append(name)
        else:
            stale += outcome.status == "stale"
            _print_outcome(console, outcome.status, name, outcome.message)
    for message, of_message in failed.items():
        _print_outcome(console, "failed", ", ".join(of_message), message)
    return stale + sum(map(len, failed.values()))


def _print_outcome(console: Console, status: str, names: str, message: str) -> None:
    said = f": {escape(message)}" if message else ""
    console.print(f"[{COLOURS[status]}]{status:8}[/] {names}{said}")

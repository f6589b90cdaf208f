"""The conformance suite of every built-in prior, fitted on the device."""

from helpers.models import LONGER, QUICK

from priorbench.conformance import QUICK as QUICK_CHECKS
from priorbench.plugin_manager import load_plugins
from priorbench.testing import CHECKS, Subject, run_check

from .section import Figures, Section, require

#: Left for last: it starts a process, which takes as long as all the others.
LAST = "process"


def run(section: Section) -> None:
    """Every check of every prior, but those that start a process."""
    names = list(QUICK_CHECKS) if section.size.quick else [name for name in CHECKS if name != LAST]
    for prior in built_in():
        section.check(f"conformance of {prior}", checked, section, prior, names, needs=3)


def run_processes(section: Section) -> None:
    """The check that starts a process, for each prior."""
    for prior in built_in()[: 1 if section.size.quick else None]:
        section.check(f"conformance of {prior}: {LAST}", checked, section, prior, [LAST], needs=12)


def built_in() -> list[str]:
    """The names of the priors that come with priorbench."""
    priors = load_plugins().of_kind("prior").values()
    return sorted(r.name for r in priors if r.distribution == "priorbench")


def checked(section: Section, prior: str, names: list[str]) -> Figures:
    """Run the checks ``names``; the figures say how many passed and which did not."""
    cls, device = load_plugins().find("prior", prior).load(), section.device.type
    short = QUICK[prior]
    shared = Subject(cls, short, device)
    trained = Subject(cls, short | LONGER.get(prior, {}), device)
    outcomes = [run_check(name, trained if name == "gaussian target" else shared) for name in names]
    failed = [f"{o.name}: {o.message}" for o in outcomes if o.status in ("failed", "stale")]
    counted = {s: [o.status for o in outcomes].count(s) for s in ("passed", "expected")}
    figures: Figures = counted | ({"failed": failed} if failed else {})
    require(not failed, "; ".join(failed), figures)
    return figures

"""What is wrong with the names, hyperparameters and axes of a config, each with its path."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from ..diffusion.process import ForwardProcess
from ..diffusion.solvers import respace, solver_class
from ..errors import UserError, unknown
from ..plugin_manager import Registration, load_plugins
from ..prior import parameter_defaults
from .choice import Choice
from .config import RunConfig

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


def problems_of(config: RunConfig) -> list[str]:
    """What is wrong with the names and hyperparameters in a config."""
    return [*_in_priors(config), *_in_plugged(config), *_in_solvers(config)]


def _in_priors(config: RunConfig) -> Iterator[str]:
    for axis in ("priors", "controls"):
        for i, given in enumerate(getattr(config, axis)):
            where = f"{axis}[{i}]"
            try:
                registration = load_plugins().find("prior", given.name)
                if registration.load().chosen_on != "validation" and not registration.control:
                    yield (
                        f"{where}: {given.name!r} is no control, so its settings are chosen on "
                        "'validation'"
                    )
                yield from (f"{where}.{said}" for said in param_problems(given, registration))
            except UserError as error:
                yield f"{where}.name: {error}"


def _in_plugged(config: RunConfig) -> Iterator[str]:
    """Metrics, the executor and trackers, with their options."""
    for i, name in enumerate(config.metrics):
        try:
            load_plugins().find("metric", name).load()
        except UserError as error:
            yield f"metrics[{i}]: {error}"
    try:
        execute = load_plugins().find("executor", config.executor).load()
    except UserError as error:
        yield f"executor: {error}"
    else:
        given = Choice(name=config.executor, params=config.executor_options)
        yield from _in_options("executor", given, execute, config.executor)
    for i, tracker in enumerate(config.track):
        try:
            make = load_plugins().find("tracker", tracker.name).load()
        except UserError as error:
            yield f"track[{i}]: {error}"
        else:
            yield from _in_options("tracker", tracker, make, f"track[{i}]")
        if tracker in config.track[:i]:
            yield f"track: names {tracker.label!r} twice"


def _in_options(kind: str, given: Choice, factory: Callable[..., Any], where: str) -> Iterator[str]:
    """The options of an executor or tracker: the keyword-only arguments of its factory."""
    parameters = inspect.signature(factory).parameters.values()
    known = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    for name, value in given.params.items():
        if name not in known:
            error = unknown("option", name, known, of=f"{kind} {given.name!r}")
            yield f"{where}.{name}: {error}"
        elif not _fits(type(known[name]), value):
            yield f"{where}.{name}: must be {KINDS[type(known[name])]}, got {value!r}"


def _in_solvers(config: RunConfig) -> Iterator[str]:
    named = [
        (f"{axis}[{i}]", solver)
        for axis in ("solver", "rivals")
        for i, solver in enumerate(getattr(config, axis))
    ]
    for where, solver in [*named, ("full_chain.solver", config.full_chain.solver)]:
        try:
            solver_class(solver)
        except UserError as error:
            yield f"{where}: {error}"


def axis_problems(config: RunConfig, process: ForwardProcess) -> Iterator[str]:
    """What is wrong with t_trunc and steps, given the schedule of the backbone."""
    for t_trunc in config.t_trunc:
        try:
            process.check(t_trunc, "t_trunc")
            for steps in config.steps:
                respace(t_trunc, steps)
        except UserError as error:
            yield str(error)
    try:
        respace(process.T, config.full_chain.steps)
    except UserError as error:
        yield f"full_chain: {error}"


def check_params(given: Choice, registration: Registration) -> None:
    """Check the hyperparameters of a prior.

    Raises:
        UserError: if the prior does not have one of them, or does not take its value.
    """
    problems = param_problems(given, registration)
    if problems:
        raise UserError(f"prior {given.name!r}: {'; '.join(problems)}")


def param_problems(given: Choice, registration: Registration) -> list[str]:
    """What is wrong with hyperparameters, ``params.depth: must be at least 1, got 0``."""
    cls = registration.load()
    known = parameter_defaults(cls)
    found = []
    for name, value in given.params.items():
        if name not in known:
            error = unknown("parameter", name, known, of=f"prior {given.name!r}")
            found.append(f"params.{name}: {error}")
        elif not _fits(type(known[name]), value):
            found.append(f"params.{name}: must be {KINDS[type(known[name])]}, got {value!r}")
        else:
            try:
                cls(**{name: value})
            except Exception as error:  # the prior's own code
                found.append(f"params.{name}: {str(error).removeprefix(f'{name} ')}")
    if not found:
        try:  # each of them is right, but all together may not be
            cls(**given.params)
        except Exception as error:
            found.append(f"params: {error}")
    return found


def _fits(kind: type, value: object) -> bool:
    """Whether a value has the type of a parameter's default; a whole number is a number too."""
    if kind not in KINDS:
        return True
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)

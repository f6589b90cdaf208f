"""What is wrong with the names and hyperparameters in a config, each with its path."""

from ..diffusion.solvers import solver_class
from ..errors import UserError, unknown
from ..plugin_manager import Registration, load_plugins
from ..prior import parameter_defaults
from .choice import Choice
from .config import RunConfig


def problems_of(config: RunConfig) -> list[str]:
    """What is wrong with the names and parameters in a config, each with its path."""
    plugins, found = load_plugins(), []
    for axis in ("priors", "controls"):
        for i, given in enumerate(getattr(config, axis)):
            try:
                registration = plugins.find("prior", given.name)
                if registration.load().chosen_on != "validation" and not registration.control:
                    found.append(
                        f"{axis}[{i}]: {given.name!r} is no control, so its settings are chosen on 'validation'"
                    )
                found += [f"{axis}[{i}].{said}" for said in param_problems(given, registration)]
            except UserError as error:
                found.append(f"{axis}[{i}].name: {error}")
    named = [(f"metrics[{i}]", "metric", name) for i, name in enumerate(config.metrics)]
    for where, kind, name in [*named, ("executor", "executor", config.executor)]:
        try:
            plugins.find(kind, name).load()
        except UserError as error:
            found.append(f"{where}: {error}")
    solvers = [
        (f"{axis}[{i}]", s)
        for axis in ("solver", "rivals")
        for i, s in enumerate(getattr(config, axis))
    ]
    for where, solver in [*solvers, ("full_chain.solver", config.full_chain.solver)]:
        try:
            solver_class(solver)
        except UserError as error:
            found.append(f"{where}: {error}")
    return found


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


def check_params(given: Choice, registration: Registration) -> None:
    """Raise :class:`UserError` for hyperparameters that the prior does not have or does not take."""
    problems = param_problems(given, registration)
    if problems:
        raise UserError(f"prior {given.name!r}: {'; '.join(problems)}")


def param_problems(given: Choice, registration: Registration) -> list[str]:
    """What is wrong with the hyperparameters: ``params.projections: must be at least 1, got 0``,
    and so on.
    """
    cls = registration.load()
    known = parameter_defaults(cls)
    found = []
    for name, value in given.params.items():
        if name not in known:
            found.append(
                f"params.{name}: {unknown('parameter', name, known, of=f'prior {given.name!r}')}"
            )
            continue
        kind = type(known[name])
        fits = isinstance(value, (int, float) if kind is float else kind)
        if kind in _KINDS and (not fits or (kind is not bool and isinstance(value, bool))):
            found.append(f"params.{name}: must be {_KINDS[kind]}, got {value!r}")
            continue
        try:
            cls(**{name: value})
        except Exception as error:  # a prior's own code
            found.append(f"params.{name}: {str(error).removeprefix(f'{name} ')}")
    if not found:
        try:  # what is wrong with them together
            cls(**given.params)
        except Exception as error:
            found.append(f"params: {error}")
    return found

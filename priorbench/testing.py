"""The checks that any prior must pass: ``priorbench check NAME``, or in the tests of a plugin

.. code-block:: python

    from priorbench.testing import parametrize_with_checks

    @parametrize_with_checks(MyPrior, params={"iterations": 50})
    def test_my_prior_keeps_the_contract(check):
        check()

Each check fits the prior in a small world: 8x8 images in [-1, 1] of a Gaussian law, and a diffusion
model with random weights, T = 100. So choose hyperparameters with which a fit takes a second or
two. A prior that cannot be expected to pass a check declares that, with the reason:
``expected_failures = {"gaussian target": "pure noise is not fitted"}``.

The idea is that of scikit-learn's ``parametrize_with_checks``. Executors have checks of their own:
``parametrize_with_executor_checks`` of :mod:`priorbench.executor_checks`.
"""

import inspect
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from .conformance import CHECKS
from .errors import one_line, unknown
from .glance import quick_failures
from .isolation import no_forks
from .prior import TruncPrior
from .subject import Failed, Subject, example_marginal

__all__ = [
    "CHECKS",
    "Outcome",
    "Subject",
    "example_marginal",
    "parametrize_with_checks",
    "parametrize_with_executor_checks",
    "quick_failures",
    "run_check",
]


if TYPE_CHECKING:
    from .executor_checks import parametrize_with_executor_checks


def __getattr__(name: str) -> Any:
    """The checks of executors, which take seconds to import."""
    if name == "parametrize_with_executor_checks":
        return import_module("priorbench.executor_checks").parametrize_with_executor_checks
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass(frozen=True)
class Outcome:
    """How a check went.

    Attributes:
        status: ``expected`` is a failure that the prior declares, ``stale`` a check that the prior
            declares as failing but passes.
        message: what failed and where, or the declared reason.
    """

    name: str
    status: Literal["passed", "failed", "expected", "stale"]
    message: str = ""


def run_check(name: str, subject: Subject) -> Outcome:
    """Run the check ``name`` of ``CHECKS``.

    Whatever the prior raises is in the outcome; only KeyboardInterrupt is passed on.
    """
    declared: dict[str, str] = dict(subject.cls.expected_failures)
    try:
        for check in declared:
            if check not in CHECKS:
                raise unknown("check", check, CHECKS)
        with no_forks():
            CHECKS[name](subject)
    except Failed as failure:
        message = str(failure)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        got = one_line(error, named=True)
        message = f"expected no error; got {got} ({_line_of(error, subject)})"
    else:
        if name not in declared:
            return Outcome(name, "passed")
        reason = f"declared as an expected failure ({declared[name]}), but it passes"
        return Outcome(name, "stale", reason)
    if name in declared:
        return Outcome(name, "expected", declared[name])
    return Outcome(name, "failed", message)


def _line_of(error: BaseException, subject: Subject) -> str:
    """The last line of the plugin in the traceback of ``error``, else where its class begins."""
    file = inspect.getsourcefile(subject.cls)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    return f"{file}:{lines[-1]}" if lines else subject.where()


def parametrize_with_checks(cls: type[TruncPrior], params: Mapping[str, Any] | None = None) -> Any:
    """A decorator that runs a pytest test once for each check of ``cls(**params)``.

    The test takes the argument ``check``, and calls it.
    """
    import pytest

    subject = Subject(cls, params or {})

    def check(name: str) -> None:
        outcome = run_check(name, subject)
        if outcome.status == "expected":
            pytest.xfail(outcome.message)
        if outcome.status != "passed":
            pytest.fail(f"{name}: {outcome.message}", pytrace=False)

    return pytest.mark.parametrize(
        "check", [pytest.param(partial(check, name), id=name) for name in CHECKS]
    )

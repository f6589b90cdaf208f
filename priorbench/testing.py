"""What any prior must pass, whoever wrote it: ``priorbench check NAME``, or in a plugin's own tests

.. code-block:: python

    from priorbench.testing import parametrize_with_checks

    @parametrize_with_checks(MyPrior, params={"iterations": 50})
    def test_my_prior_keeps_the_contract(check):
        check()

Each check fits the prior on a small world made on the spot (8x8 images in [-1, 1] of a Gaussian
law, a diffusion model with random weights, T = 100), so choose hyperparameters that fit in a second
or two. What a prior cannot be expected to do, it says itself, with the reason: ``expected_failures
= {"gaussian target": "it is fitted to nothing"}``.

After scikit-learn's ``parametrize_with_checks``.
"""

import inspect
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from .conformance import CHECKS, Failed, Subject, example_marginal, quick_failures
from .errors import unknown
from .prior import TruncPrior

__all__ = [
    "CHECKS",
    "Outcome",
    "Subject",
    "example_marginal",
    "parametrize_with_checks",
    "quick_failures",
    "run_check",
]


@dataclass(frozen=True)
class Outcome:
    """How a check went: ``expected`` is a failure that was declared, ``stale`` a declared one that
    did not happen.
    """

    name: str
    status: Literal["passed", "failed", "expected", "stale"]
    message: str = ""


def run_check(name: str, subject: Subject) -> Outcome:
    """One check; nothing is raised but a KeyboardInterrupt."""
    declared: dict[str, str] = dict(subject.cls.expected_failures)
    try:
        for check in declared:
            if check not in CHECKS:
                raise unknown("check", check, CHECKS)
        CHECKS[name](subject)
    except Failed as failure:
        message = str(failure)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        message = (
            f"expected no error; got {type(error).__name__}: {error} ({_line_of(error, subject)})"
        )
    else:
        if name in declared:
            return Outcome(
                name, "stale", f"declared as an expected failure ({declared[name]}), but it passes"
            )
        return Outcome(name, "passed")
    return (
        Outcome(name, "expected", declared[name])
        if name in declared
        else Outcome(name, "failed", message)
    )


def _line_of(error: BaseException, subject: Subject) -> str:
    """The last line of the plugin on the way to ``error``, else where its class begins."""
    file = inspect.getsourcefile(subject.cls)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    return f"{file}:{lines[-1]}" if lines else subject.where()


def parametrize_with_checks(cls: type[TruncPrior], params: Mapping[str, Any] | None = None) -> Any:
    """A decorator for a pytest test that takes ``check``: one test for each check of
    ``cls(**params)``.
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

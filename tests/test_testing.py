"""The conformance suite: every prior of ours passes it, and each planted fault fails the right check by name."""

import random
import time
from typing import ClassVar

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import QUICK

from priorbench import TruncPrior, UserError, randn
from priorbench.cli import cli
from priorbench.plugin_manager import Registration, load_plugins
from priorbench.testing import CHECKS, Subject, example_marginal, parametrize_with_checks, run_check

PRIORS = sorted(load_plugins().of_kind("prior"))
LONGER = {"vae": {"iterations": 500, "latent": 32}, "gan": {"iterations": 400, "learning_rate": 2e-3}}
SUBJECTS = {name: Subject(load_plugins().find("prior", name).load(), QUICK[name]) for name in PRIORS}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_of_ours_passes(name, check):
    subject = SUBJECTS[name]
    if check == "gaussian target":  # the one check that asks for a fit that is any good
        subject = Subject(subject.cls, QUICK[name] | LONGER.get(name, {}))
    outcome = run_check(check, subject)
    declared = check in SUBJECTS[name].cls.expected_failures
    assert outcome.status == ("expected" if declared else "passed"), outcome.message


class Good(TruncPrior):
    """The moments of the marginal, pixel by pixel; the faults below are each one line away from it."""

    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def build(self, shape):
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))

    def fit(self, marginal, run):
        x = marginal.draw(2000, run.generator)
        self.mean.copy_(x.mean(0))
        self.deviation.copy_(x.std(0))

    def sample(self, n, generator):
        return self.mean + self.scale * self.deviation * randn((n, *self.mean.shape), generator, self.device)


@parametrize_with_checks(Good, params={"scale": 1.0})
def test_a_good_prior_passes(check):
    check()


class Positional(Good):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__(scale=scale)


class Altered(Good):
    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__(scale=2 * scale)


class Unstored(Good):
    def __init__(self, *, scale: float = 1.0, rank: int = 3) -> None:
        super().__init__(scale=scale)


class OddEmits(Good):
    emits = "x_1"


class AlwaysFitted(Good):
    def build(self, shape):
        super().build(shape)
        self.fitted.fill_(True)


class OneTooFew(Good):
    def sample(self, n, generator):
        return super().sample(max(n // 8 * 8, 8), generator)


class Flat(Good):
    def sample(self, n, generator):
        return super().sample(n, generator).flatten(1)


class Double(Good):
    def sample(self, n, generator):
        return super().sample(n, generator).double()


class Hidden(Good):
    def build(self, shape):
        super().build(shape)
        self.weight = torch.ones(shape)


class Infinite(Good):
    def sample(self, n, generator):
        x = super().sample(n, generator)
        return torch.where(x > 1.5, torch.nan, x)


class Clock(Good):
    def sample(self, n, generator):
        return super().sample(n, generator) + time.perf_counter_ns() % 1000 * 1e-3


class Fixed(Good):
    def sample(self, n, generator):
        return super().sample(n, torch.Generator().manual_seed(0))


class Repeating(Good):
    def sample(self, n, generator):
        return super().sample(1, generator).expand(n, -1, -1, -1)


class NumpyDraws(Good):
    def fit(self, marginal, run):
        super().fit(marginal, run)
        self.mean += 0.01 * np.random.randn()  # noqa: NPY002


class PythonDraws(Good):
    def sample(self, n, generator):
        return super().sample(n, generator) + 0.01 * random.random()


class Forgetful(Good):
    def fit(self, marginal, run):
        super().fit(marginal, run)
        self.shift = float(marginal.images.mean())

    def sample(self, n, generator):
        return super().sample(n, generator) + getattr(self, "shift", 0.0)


class Remembering(Good):
    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__(scale=scale)
        self.seen = []

    def fit(self, marginal, run):
        self.seen.append(marginal.images.mean(0))
        super().fit(marginal, run)
        self.mean.copy_(sum(self.seen) / len(self.seen))


class InThisProcessAlone(Good):
    shifts: ClassVar[list[float]] = []

    def fit(self, marginal, run):
        super().fit(marginal, run)
        self.shifts[:] = [0.5]

    def sample(self, n, generator):
        return super().sample(n, generator) + sum(self.shifts)


class Late(Good):
    def fit(self, marginal, run):
        time.sleep(2.5)
        super().fit(marginal, run)


class Trainer(Good):
    def fit(self, marginal, run):
        super().fit(marginal, run)
        next(marginal.diffusion.network.parameters()).mul_(1.01)


class Scribbler(Good):
    def fit(self, marginal, run):
        super().fit(marginal, run)
        marginal.images.mul_(0.99)


class Unmoved(Good):
    def fit(self, marginal, run):
        pass


class Raising(Good):
    def fit(self, marginal, run):
        raise ZeroDivisionError("a planted one")


class Strided(Good):
    """No fault: buffers whose strides are not those that they will have when loaded."""

    def build(self, shape):
        super().build(shape)
        self.register_buffer("factor", torch.eye(shape[1] * shape[2]))

    def fit(self, marginal, run):
        super().fit(marginal, run)
        x = marginal.draw(500, run.generator).flatten(1)
        self.factor = torch.linalg.cholesky(torch.cov(x.T) + 1e-3 * torch.eye(x.shape[1])).T.contiguous().T

    def sample(self, n, generator):
        z = randn((n, len(self.factor)), generator, self.device)
        return self.mean + (z @ self.factor.T).view(n, *self.mean.shape)


@parametrize_with_checks(Strided)
def test_strides_are_no_fault(check):
    check()


FAULTS = [
    (Positional, "parameters", "'scale' as a keyword-only parameter"),
    (Altered, "parameters", "self.scale as it was given, 1.0; got 2.0"),
    (Unstored, "parameters", "'rank' stored as self.rank; got no such attribute"),
    (OddEmits, "emits", "got 'x_1'"),
    (AlwaysFitted, "unfitted", "sample before fit to raise RuntimeError; got samples"),
    (OneTooFew, "shape", "sample(1) of shape (1, 1, 8, 8); got (8, 1, 8, 8)"),
    (Flat, "shape", "got (1, 64)"),
    (Double, "dtype", "expected float32; got torch.float64"),
    (Hidden, "device", "weight as plain attributes"),
    (Infinite, "finite", "expected finite values"),
    (Clock, "generator", "equal samples from equal generators"),
    (Fixed, "generator", "other samples from another generator"),
    (Repeating, "distinct", "33 different samples; got 1 different ones"),
    (NumpyDraws, "global state", "numpy"),
    (PythonDraws, "global state", "Python"),
    (Forgetful, "save and load", "the same samples after save and load"),
    (Remembering, "refit", "fit to start afresh"),
    (InThisProcessAlone, "process", "the same samples in another process"),
    (Late, "deadline", "within 2 s of its deadline; got 2."),
    (Trainer, "frozen", "weights of the frozen model"),
    (Scribbler, "frozen", "images of the marginal"),
    (Unmoved, "gaussian target", "W2 to a Gaussian target of at most"),
    (Raising, "finite", "got ZeroDivisionError: a planted one"),
]


def test_a_fault_is_planted_for_every_check():
    assert {check for _, check, _ in FAULTS} == set(CHECKS)


@pytest.mark.parametrize(("cls", "check", "message"), FAULTS, ids=lambda v: getattr(v, "__name__", None))
def test_a_planted_fault_fails_its_check_and_is_named(cls, check, message):
    outcome = run_check(check, Subject(cls))
    assert outcome.status == "failed"
    assert message in outcome.message
    assert f"{__file__}:" in outcome.message
    assert example_marginal().diffusion.digest() == Subject(Good).marginal.diffusion.digest()


@pytest.mark.parametrize("cls", [Positional, OddEmits, Double, Hidden, Infinite, Repeating, Late, Unmoved])
def test_a_fault_fails_no_other_check(cls):
    (wanted,) = {check for c, check, _ in FAULTS if c is cls}
    subject = Subject(cls)
    unrelated = [c for c in ("shape", "unfitted", "save and load", "refit", "frozen", "finite") if c != wanted]
    assert {run_check(c, subject).status for c in unrelated} <= {"passed"}


class Declared(Unmoved):
    expected_failures: ClassVar[dict[str, str]] = {"gaussian target": "it learns nothing on purpose"}


class Stale(Good):
    expected_failures: ClassVar[dict[str, str]] = {"shape": "no longer true"}


class Misdeclared(Good):
    expected_failures: ClassVar[dict[str, str]] = {"shapes": "a typing error"}


def test_failures_can_be_declared_with_a_reason():
    assert run_check("gaussian target", Subject(Declared)).status == "expected"
    assert run_check("gaussian target", Subject(Declared)).message == "it learns nothing on purpose"
    stale = run_check("shape", Subject(Stale))
    assert stale.status == "stale"
    assert "no longer true" in stale.message
    assert "did you mean 'shape'" in run_check("shape", Subject(Misdeclared)).message


@pytest.mark.parametrize(("cls", "code"), [(Good, 0), (Double, 1)])
def test_the_command_says_what_failed(monkeypatch, cls, code):
    registration = Registration("prior", "planted", f"{__name__}:{cls.__name__}", "", False, "faults", "1.0")
    monkeypatch.setitem(load_plugins().registrations, ("prior", "planted"), registration)
    done = CliRunner().invoke(cli, ["check", "planted", "--only", "shape,dtype,finite"], standalone_mode=False)
    assert done.return_value == code
    assert "passed   shape" in done.output
    assert ("failed   dtype" in done.output) == bool(code)
    assert "planted of faults 1.0" in done.output


def test_the_command_names_the_nearest_check():
    done = CliRunner().invoke(cli, ["check", "gaussian", "--only", "shapes"])
    assert isinstance(done.exception, UserError)
    assert "did you mean 'shape'" in str(done.exception)

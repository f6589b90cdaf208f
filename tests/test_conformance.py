"""The conformance suite: every prior of ours passes it, and each planted fault fails the right
check by name.
"""

import os
import random
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import faults
from helpers.faults import (
    FAULTS,
    Crowded,
    Double,
    Forking,
    Good,
    Hidden,
    Infinite,
    Late,
    Leaving,
    Mapped,
    MappedOtherwise,
    NumpyDraws,
    OddEmits,
    Positional,
    PythonDraws,
    Raising,
    Repeating,
    Scribbler,
    Strided,
    Trainer,
    Unmoved,
)
from helpers.models import LONGER, QUICK

from priorbench import TruncPrior, UserError, conformance
from priorbench.cli import cli
from priorbench.conformance import QUICK as QUICK_CHECKS
from priorbench.plugin_manager import Registration, load_plugins
from priorbench.testing import (
    CHECKS,
    Subject,
    example_marginal,
    parametrize_with_checks,
    quick_failures,
    run_check,
)

pytestmark = pytest.mark.usefixtures("own_time")

PRIORS = sorted(load_plugins().of_kind("prior"))
LONG = ("process", "gaussian target")  # one starts a process, the other asks for a real fit
SUBJECTS = {
    name: Subject(load_plugins().find("prior", name).load(), QUICK[name]) for name in PRIORS
}


@pytest.mark.parametrize(
    "check", [pytest.param(c, marks=pytest.mark.slow) if c in LONG else c for c in CHECKS]
)
@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_of_ours_passes(name, check):
    subject = SUBJECTS[name]
    if check == "gaussian target":  # the one check that asks for a fit that is any good
        subject = Subject(subject.cls, QUICK[name] | LONGER.get(name, {}))
    outcome = run_check(check, subject)
    declared = check in SUBJECTS[name].cls.expected_failures
    assert outcome.status == ("expected" if declared else "passed"), outcome.message


def test_the_images_of_the_world_are_in_the_range_of_images_and_none_is_cut_off():
    world = example_marginal()
    images = torch.cat([world.images, world.validation.images])
    assert images.abs().max() == 1
    assert (images.abs() == 1).sum() == 1


@pytest.mark.slow
@pytest.mark.parametrize("check", [c for c in CHECKS if c not in LONG])
def test_pure_noise_with_tuned_times_passes(check):
    subject = Subject(SUBJECTS["noise"].cls, {"timesteps": "tuned"})
    outcome = run_check(check, subject)
    assert outcome.status == "passed", outcome.message


@pytest.mark.slow
@parametrize_with_checks(Good, params={"scale": 1.0})
def test_a_good_prior_passes(check):
    check()


@pytest.mark.slow
@parametrize_with_checks(Strided)
def test_strides_are_no_fault(check):
    check()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_child_ends_in_the_check(tmp_path):
    assert run_check("finite", Subject(Forking)).status == "passed"
    (tmp_path / str(os.getpid())).touch()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_fault_is_planted_for_every_check():
    assert {check for _, check, _ in FAULTS} == set(CHECKS)


@pytest.mark.parametrize(
    ("cls", "check", "message"),
    [
        pytest.param(*fault, marks=pytest.mark.slow) if fault[1] == "process" else fault
        for fault in FAULTS
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_a_planted_fault_fails_its_check_and_is_named(cls, check, message):
    outcome = run_check(check, Subject(cls))
    assert outcome.status == "failed"
    assert message in outcome.message
    assert f"{faults.__file__}:" in outcome.message
    assert example_marginal().diffusion.digest() == Subject(Good).marginal.diffusion.digest()


@pytest.mark.parametrize(
    "cls",
    [
        Positional, OddEmits, Double, Hidden, Infinite, Crowded, Repeating, Late, Unmoved,
        MappedOtherwise,
    ],
)  # fmt: skip
def test_a_fault_fails_no_other_check(cls):
    (wanted,) = {check for c, check, _ in FAULTS if c is cls}
    subject = Subject(cls)
    unrelated = [
        c
        for c in ("shape", "unfitted", "save and load", "refit", "frozen", "finite")
        if c != wanted
    ]
    assert {run_check(c, subject).status for c in unrelated} <= {"passed"}


def test_latents_that_are_those_of_samples_pass():
    assert run_check("latents", Subject(Mapped)).status == "passed"


class Declared(Unmoved):
    expected_failures: ClassVar[dict[str, str]] = {
        "gaussian target": "it learns nothing on purpose"
    }


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


def planted(monkeypatch, cls):
    registration = Registration(
        "prior", "planted", f"{__name__}:{cls.__name__}", "", False, "faults", "1.0"
    )
    monkeypatch.setitem(load_plugins().registrations, ("prior", "planted"), registration)


@pytest.mark.parametrize(("cls", "code"), [(Good, 0), (Double, 1)])
def test_the_command_says_what_failed(monkeypatch, cls, code):
    planted(monkeypatch, cls)
    done = CliRunner().invoke(
        cli, ["check", "planted", "--only", "shape,dtype,finite"], standalone_mode=False
    )
    assert done.return_value == code
    assert "passed   shape\n" in done.output
    assert ("failed   dtype" in done.output) == bool(code)
    assert "planted of faults 1.0" in done.output


def test_the_command_names_the_nearest_check():
    done = CliRunner().invoke(cli, ["check", "gaussian", "--only", "shapes"])
    assert isinstance(done.exception, UserError)
    assert "did you mean 'shape'" in str(done.exception)


FIT_CHECKS = [c for c in CHECKS if c not in ("parameters", "unfitted")]


def test_a_fit_that_raises_is_made_once_and_said_once(monkeypatch):
    monkeypatch.setattr(Raising, "fits", 0)
    planted(monkeypatch, Raising)
    done = CliRunner().invoke(cli, ["check", "planted"], standalone_mode=False)
    assert done.return_value == 1
    (line,) = [line for line in done.output.splitlines() if line.startswith("failed")]
    assert line.startswith(
        f"failed   {', '.join(FIT_CHECKS)}: expected no error; "
        "got ZeroDivisionError: a planted one ("
    )
    assert "16 of 18 checks failed" in done.output
    assert Raising.fits == 1


class DoubleAndRepeating(Repeating):
    def sample(self, n, generator):
        return super().sample(n, generator).double()


def test_failures_of_two_causes_are_two_lines(monkeypatch):
    planted(monkeypatch, DoubleAndRepeating)
    done = CliRunner().invoke(
        cli, ["check", "planted", "--only", "dtype,distinct,shape"], standalone_mode=False
    )
    assert [line.split(":")[0].split() for line in done.output.splitlines()] == [
        ["passed", "shape"],
        ["failed", "dtype"],
        ["failed", "distinct"],
        ["planted", "of", "faults", "1.0"],
    ]


def test_the_help_names_every_check():
    said = " ".join(CliRunner().invoke(cli, ["check", "--help"]).output.split())
    assert f"The checks: {', '.join(CHECKS)}." in said


@pytest.mark.slow
def test_pytest_chooses_a_check_by_its_name(tmp_path):
    (tmp_path / "test_one.py").write_text(
        "from priorbench.testing import parametrize_with_checks\n"
        "from priorbench_controls.prior import NoisePrior\n\n\n"
        "@parametrize_with_checks(NoisePrior)\ndef test_it(check):\n    check()\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--collect-only",
        "-k",
        "global and state",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "::test_it[global state]" in done.stdout, done.stdout + done.stderr
    every = len(CHECKS)
    assert f"1/{every} tests collected ({every - 1} deselected)" in done.stdout


# --- the quick half -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_of_ours_passes_the_quick_checks_as_it_is(name):
    assert quick_failures(load_plugins().find("prior", name).load(), {}) == []


@pytest.mark.parametrize(
    ("cls", "check", "message"), FAULTS, ids=lambda v: getattr(v, "__name__", None)
)
def test_a_planted_fault_fails_its_quick_check(cls, check, message):
    if cls in (Raising, Leaving):
        assert quick_failures(cls, {}) == ["fit"]
    else:
        assert (check in quick_failures(cls, {})) == (check in QUICK_CHECKS)


class Hasty(TruncPrior):
    """A VAE written in a hurry, in which everything is wrong that can be seen at a glance."""

    def __init__(self, latent: int = 4) -> None:
        super().__init__()
        self.size = latent

    def build(self, shape):
        self.encoder = torch.nn.Linear(64, 2 * self.size)
        self.decoder = torch.nn.Linear(self.size, 64)
        self.fitted.fill_(True)

    def fit(self, marginal, run):
        self.mean = marginal.images.mean(0).flatten()
        optimizer = torch.optim.Adam(self.parameters())
        for _ in run.steps(100):
            x = marginal.draw(64, run.generator).flatten(1) - self.mean
            mu, log_variance = self.encoder(x).chunk(2, 1)
            z = mu + (log_variance / 2).exp() * torch.from_numpy(np.random.randn(*mu.shape)).float()  # noqa: NPY002
            loss = (self.decoder(z) - x).square().sum() + 0.5 * (
                mu**2 + log_variance.exp() - log_variance - 1
            ).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.emits = "x_t, I think"

    def sample(self, n, generator):
        z = torch.from_numpy(np.random.randn(1, self.size)).float()  # noqa: NPY002
        x = (getattr(self, "mean", 0) + self.decoder(z)).double().expand(n, -1).clone()
        x[:, 0] = torch.inf
        return x

    def times(self, t_trunc, steps):
        return np.linspace(0, t_trunc, steps)


@pytest.mark.slow
def test_a_prior_that_does_all_wrong_fails_every_quick_check():
    assert quick_failures(Hasty, {"latent": 3}) == list(QUICK_CHECKS)
    assert all(run_check(name, Subject(Hasty)).status == "failed" for name in QUICK_CHECKS)


def test_the_quick_checks_are_of_the_same_table():
    assert [name for name in CHECKS if name in QUICK_CHECKS] == list(QUICK_CHECKS)
    assert {name for name in QUICK_CHECKS if QUICK_CHECKS[name] is not CHECKS[name]} == {
        "global state"
    }


class Watched(Good):
    runs: ClassVar[list[tuple[int, float, int]]] = []

    def fit(self, marginal, run):
        super().fit(marginal, run)
        self.runs.append(
            (run.budget, run.deadline - conformance.time.monotonic(), len(marginal.images))
        )


def test_the_quick_checks_make_one_short_fit():
    Watched.runs.clear()
    assert quick_failures(Watched, {}) == []
    ((budget, seconds, images),) = Watched.runs
    assert budget <= 3
    assert seconds <= 1
    assert images <= 200


@pytest.mark.parametrize("cls", [NumpyDraws, PythonDraws, Trainer, Scribbler, Hasty, Raising])
def test_the_quick_checks_leave_the_process_as_it_was(cls):
    world = example_marginal()
    before = (
        random.getstate(),
        repr(np.random.get_state()),  # noqa: NPY002
        torch.random.get_rng_state(),
    )
    digest, images = world.diffusion.digest(), world.images.clone()
    quick_failures(cls, {})
    assert random.getstate() == before[0]
    assert repr(np.random.get_state()) == before[1]  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), before[2])
    assert example_marginal() is world
    assert world.diffusion.digest() == digest
    assert torch.equal(world.images, images)


class Unmakeable(Good):
    expected_failures: ClassVar = None

    def __init__(self) -> None:
        raise SystemExit


class ImportsFirst(Good):
    """Its first fit imports something that draws from Python's random state as it is imported."""

    imported = False

    def fit(self, marginal, run):
        super().fit(marginal, run)
        if not self.imported:
            random.random()
        type(self).imported = True


class Interrupted(Good):
    def sample(self, n, generator):
        raise KeyboardInterrupt


def test_what_the_quick_checks_make_of_odd_priors(monkeypatch):
    monkeypatch.setattr(ImportsFirst, "imported", False)
    assert quick_failures(ImportsFirst, {}) == []
    assert set(quick_failures(Unmakeable, {})) <= {"fit", *QUICK_CHECKS}
    assert quick_failures(Unmakeable, {}) != []
    assert quick_failures(Good, {"scal": 3}) != []
    assert quick_failures(Stale, {}) == []
    with pytest.raises(KeyboardInterrupt):
        quick_failures(Interrupted, {})

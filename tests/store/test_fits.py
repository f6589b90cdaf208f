"""Fitted priors that are kept: what takes them again, and what a damaged one costs."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.specs import SPEC
from helpers.survival import Watcher, assert_same, small_run
from safetensors.torch import load_file, save_file

from priorbench.bench import fitting
from priorbench.files import CannotWrite
from priorbench.store.results import Store


def test_a_fit_lies_below_the_folder_whatever_its_prior_is_called():
    for name in ("../../up", "/etc", "..", "a/b", "<script>", "a\x1b[2J", ""):
        path = Store(Path("results")).fits.path(replace(SPEC, prior=name))
        assert path.parent == Path("results/priors")
        assert re.fullmatch(r"[\w.-]+-t100-s3-[0-9a-f]{8}", path.name)
        assert not path.name.startswith(".")


class FittedAgain(CannotWrite):
    """What a cell raises and does not take for a prior's own mistake."""


def fits_are_forbidden(monkeypatch):
    def watched(*_):
        raise FittedAgain("fitted again")

    monkeypatch.setattr(fitting, "watched", watched)


@pytest.mark.slow
def test_another_step_count_computes_the_new_rows_alone_from_the_fit_that_is_there(
    copied_run, monkeypatch, tmp_path
):
    folder, first = copied_run
    before = {p: p.stat().st_mtime_ns for p in folder.glob("cells/*")}
    fits_are_forbidden(monkeypatch)
    watcher = Watcher()
    more = small_run(folder, steps=[2, 3], watcher=watcher)
    assert watcher.cells == [("noise", (("dpm++", 3),)), ("vae", (("dpm++", 3),))]
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert (
        more[more.prior == "vae"].fit_seconds == first[first.prior == "vae"].fit_seconds.iloc[0]
    ).all()
    assert (more[more.prior == "vae"].fit_steps == 6).all()
    monkeypatch.undo()
    assert_same(more, small_run(tmp_path / "anew", steps=[2, 3]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"n_samples": 25}, {"solver": "ddim"}, {"settings": {"w2_points": 21}}]
)
def test_takes_the_fit_whatever_changes_that_it_does_not_depend_on(copied_run, monkeypatch, change):
    fits_are_forbidden(monkeypatch)
    small_run(copied_run[0], **change)


@pytest.mark.slow
def test_another_seed_fits_again(copied_run, monkeypatch):
    fits_are_forbidden(monkeypatch)
    with pytest.raises(FittedAgain):
        small_run(copied_run[0], seed=5)


@pytest.mark.slow
def test_fresh_fits_again_to_the_same(copied_run):
    folder, first = copied_run
    watcher = Watcher()
    assert_same(small_run(folder, fresh=True, watcher=watcher), first)
    assert [p for p, _ in watcher.cells] == ["noise", "vae"]
    assert ("vae", 6) in watcher.steps or ("vae", 5) in watcher.steps


@pytest.mark.slow
def test_a_fit_that_t_trunc_has_no_part_in_is_made_once(tmp_path):
    """vae asks for clean images alone; gan compares draws of x_{t_trunc}."""
    priors = ["vae[iterations=6,width=8]", "gan[iterations=2,width=8]"]
    watcher = Watcher()
    both = small_run(tmp_path / "both", priors=priors, t_trunc=[100, 200], watcher=watcher)
    assert watcher.steps.count(("vae", 6)) == 1
    assert watcher.steps.count(("gan", 2)) == 2
    one, other = sorted(tmp_path.glob("both/priors/vae-*/prior.safetensors"))
    assert one.samefile(other)
    assert both[both.prior == "vae"].fit_seconds.nunique() == 1
    assert {json.loads(f.with_name("prior.json").read_text())["t_trunc"] for f in (one, other)} == {
        100, 200,
    }  # fmt: skip
    alone = small_run(tmp_path / "alone", priors=priors, t_trunc=[200])
    assert_same(both[both.t_trunc == 200], alone[alone.t_trunc == 200])


@pytest.mark.slow
def test_fresh_takes_no_fit_of_another_t_trunc(tmp_path):
    small_run(tmp_path, t_trunc=[100])
    watcher = Watcher()
    small_run(tmp_path, t_trunc=[200], fresh=True, watcher=watcher)
    assert ("vae", 6) in watcher.steps


@pytest.mark.slow
def test_a_damaged_fit_of_another_t_trunc_is_set_aside(tmp_path):
    small_run(tmp_path, t_trunc=[100])
    (weights,) = tmp_path.glob("priors/vae-*/prior.safetensors")
    weights.write_bytes(weights.read_bytes()[:-5] + b"\0\0\0\0\1")
    watcher = Watcher()
    found = small_run(tmp_path, t_trunc=[200], watcher=watcher)
    assert (found.status == "ok").all()
    assert ("vae", 6) in watcher.steps
    replaced, note = watcher.notes
    assert "are replaced; its results stay" in replaced
    assert "set aside" in note


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["header", "weights", "other", "json"])
def test_a_damaged_fit_is_named_set_aside_and_fitted_again(damage, tmp_path):
    first = small_run(tmp_path)
    (folder,) = tmp_path.glob("priors/vae-*")
    weights = folder / "prior.safetensors"
    if damage == "header":
        weights.write_bytes((2**62).to_bytes(8, "little") + weights.read_bytes()[8:])
    elif damage == "weights":
        weights.write_bytes(weights.read_bytes()[:-5] + b"\0\0\0\0\1")
    elif damage == "other":
        save_file(
            {k: v + 1 if v.is_floating_point() else v for k, v in load_file(weights).items()},
            weights,
        )
    else:
        (folder / "prior.json").write_text('{"fit": ')
    kept = weights.read_bytes()
    watcher = Watcher()
    for path in tmp_path.glob("cells/*"):
        path.unlink()
    assert_same(small_run(tmp_path, watcher=watcher), first)
    (line,) = watcher.notes
    assert str(folder) in line
    assert "set aside" in line
    assert (tmp_path / "set-aside" / folder.name / "prior.safetensors").read_bytes() == kept
    assert folder.is_dir()


@pytest.mark.slow
def test_a_prior_that_its_weights_do_not_bring_back_is_fitted_anew(faulty, tmp_path):
    first = small_run(tmp_path, priors="forgets")
    (about,) = tmp_path.glob("priors/forgets-*/prior.json")
    assert json.loads(about.read_text())["reusable"] is False
    assert_same(small_run(tmp_path, priors="forgets", steps=[2, 3]).query("nfe == 2"), first)

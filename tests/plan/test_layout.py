"""From a config to cells: what is computed, by how many samples, and from which sources."""

import json

import pytest
from helpers.runs import SMALL

from priorbench import UserError
from priorbench.plan.layout import make_plan, read_plan
from priorbench.plan.reading import make_config


def test_all_steps_and_their_number_are_one_setting():
    """Else one seed counts twice in summary.csv, with an interval of its own."""
    config = make_config(
        overrides={"priors": "gaussian", "t_trunc": "100", "steps": "all,100"}, sets=["controls=[]"]
    )
    cell = make_plan(config).cells[-1]
    assert (cell.prior, cell.t_trunc) == ("gaussian", 100)
    taken = [(solver, cell.t_trunc if steps is None else steps) for solver, steps in cell.solvers]
    assert taken == [("dpm++", 100)]


def test_a_model_trained_again_into_its_folder_is_another(tmp_path, pipeline):
    import shutil

    folder = tmp_path / "model"
    digests = []
    for beta in (0.02, 0.03):
        shutil.copytree(pipeline(beta_end=beta), folder, dirs_exist_ok=True)
        plan = make_plan(
            make_config(None, {"priors": "gaussian", "t_trunc": [100], "backbone": str(folder)})
        )
        digests.append(plan.cells[0].digests["backbone"])
    assert digests[0] != digests[1]


def test_the_network_is_more_than_its_weights(tmp_path, pipeline):
    folder = pipeline()
    found = []
    for activation in ("silu", "gelu"):
        config = json.loads((folder / "unet" / "config.json").read_text())
        (folder / "unet" / "config.json").write_text(json.dumps(config | {"act_fn": activation}))
        plan = make_plan(
            make_config(None, {"priors": "gaussian", "t_trunc": [100], "backbone": str(folder)})
        )
        found.append(plan.cells[-1])
    assert found[0].digests["backbone"] == found[1].digests["backbone"]
    assert found[0].cell != found[1].cell
    assert found[0].fit != found[1].fit


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x", "n" * 300])
def test_a_name_that_is_no_path_is_one_line(name):
    for key in ("dataset", "backbone", "extractor"):
        with pytest.raises(UserError):
            read_plan(None, {key: name})
    with pytest.raises(UserError):
        read_plan(name, {})


def test_an_extractor_that_cannot_read_the_images_is_told_before_anything_is_computed(tmp_path):
    with pytest.raises(UserError):
        read_plan(None, {"extractor": "mnist"})


@pytest.mark.parametrize(("given", "wanted"), [(None, {40}), (24, {24}), (100, {40}), (0, set())])
def test_every_cell_is_chosen_by_equally_many_samples(given, wanted):
    """FID falls with the number of samples: t_trunc = T, or a rival, would be chosen for having
    more of them.
    """
    settings = SMALL | {"controls": ["noise", "oracle"], "rivals": ["unipc"], "n_validation": given}
    plan = make_plan(
        make_config(
            overrides={"priors": "gaussian", "t_trunc": [100, 1000], "steps": 2, "n_samples": 40},
            sets=[f"{k}={json.dumps(v)}" for k, v in settings.items()],
        )
    )
    assert {spec.t_trunc for spec in plan.cells if spec.prior == "gaussian"} == {100, 1000}
    assert {n for spec in plan.cells for split, n in spec.splits if split != "test"} == wanted


EVERY = {"controls": [], "rivals": [], "rival_timesteps": ["uniform", "quadratic", "tuned"]}


def rivals_of(**changes):
    """The cells of pure noise at T: timesteps -> (solver, steps)."""
    sets = [f"{k}={json.dumps(v)}" for k, v in (EVERY | changes).items()]
    plan = make_plan(make_config(overrides={"priors": "gaussian", "t_trunc": [1000]}, sets=sets))
    found = [s for s in plan.cells if s.prior == "noise" and s.t_trunc == 1000]
    return plan, {spec.params["timesteps"]: spec.solvers for spec in found}


def test_pure_noise_is_a_rival_with_each_kind_of_timesteps():
    plan, found = rivals_of(steps=[3, 5], rivals=["unipc"])
    each = (("dpm++", 3), ("dpm++", 5), ("unipc", 3), ("unipc", 5))
    assert found == {"uniform": (("ddim", 100), *each), "quadratic": each, "tuned": each}
    assert [spec.label for spec in plan.cells] == [
        "noise", "noise[timesteps=quadratic]", "noise[timesteps=tuned]", "gaussian"
    ]  # fmt: skip
    assert all(spec.control for spec in plan.cells[:3])


def test_no_chain_from_pure_noise_is_planned_twice():
    """One step, or all of them, leave no choice; and the longest chains have no tuned times."""
    _, found = rivals_of(steps=[1, 2, 32, 33, 1000, None])
    assert found == {
        "uniform": (
            ("ddim", 100), ("dpm++", 1), ("dpm++", 2), ("dpm++", 32), ("dpm++", 33), ("dpm++", 1000)
        ),
        "quadratic": (("dpm++", 2), ("dpm++", 32), ("dpm++", 33)),
        "tuned": (("dpm++", 2), ("dpm++", 32)),
    }  # fmt: skip
    assert set(rivals_of(steps=[1])[1]) == {"uniform"}


def test_the_kinds_of_timesteps_can_be_chosen():
    assert rivals_of(steps=[3], rival_timesteps=["uniform"])[1] == {
        "uniform": (("ddim", 100), ("dpm++", 3))
    }
    assert rivals_of(steps=[1, 3, 50], rival_timesteps=["tuned"])[1] == {
        "uniform": (("ddim", 100), ("dpm++", 1), ("dpm++", 50)),
        "tuned": (("dpm++", 3),),
    }


def test_rivals_of_a_prior_that_evaluates_the_model_have_each_kind_too():
    plan, found = rivals_of(steps=[3])
    more = {s.params["timesteps"]: s.solvers for s in plan.matched([1, 5, 40]).cells[:3]}
    assert {kind: set(more[kind]) - set(found[kind]) for kind in more} == {
        "uniform": {("dpm++", 1), ("dpm++", 5), ("dpm++", 40)},
        "quadratic": {("dpm++", 5), ("dpm++", 40)},
        "tuned": {("dpm++", 5)},
    }


def test_a_control_that_is_a_rival_already_is_no_second_cell():
    controls = ["noise", "noise[timesteps=tuned]"]
    sets = [f"controls={json.dumps(controls)}", "rivals=[]", "rival_timesteps=[uniform, tuned]"]
    overrides = {"priors": "gaussian", "t_trunc": [100, 1000], "steps": 3}
    plan = make_plan(make_config(overrides=overrides, sets=sets))
    labels = [(spec.label, spec.t_trunc) for spec in plan.cells]
    assert len(set(labels)) == len(labels) == 6

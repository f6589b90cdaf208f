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

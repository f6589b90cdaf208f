"""Configs: read, overridden, validated whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from priorbench import UserError
from priorbench.bench.config import PriorConfig, make_config, parse_priors, presets


def test_the_preset_is_the_default():
    assert make_config() == make_config("digits")
    assert make_config().name == "digits"
    assert [p.name for p in make_config().priors] == ["gaussian", "ot", "vae", "gan"]
    assert set(presets()) >= {"digits"}


def test_variants_of_a_prior():
    found = parse_priors("ot[projections=64],ot[projections=512, emits=x_t],gaussian[covariance=diagonal],vae")
    assert found == [
        {"name": "ot", "params": {"projections": 64}},
        {"name": "ot", "params": {"projections": 512, "emits": "x_t"}},
        {"name": "gaussian", "params": {"covariance": "diagonal"}},
        {"name": "vae", "params": {}},
    ]


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.integers() | st.booleans(), max_size=3))
def test_a_label_reads_back(params):
    prior = PriorConfig(name="ot", params=params)
    (again,) = parse_priors(prior.label)
    assert again == {"name": "ot", "params": params}


@pytest.mark.parametrize("text", ["ot[", "ot[projections]", "ot]x[", "", "ot,,vae", "ot[=3]"])
def test_malformed_priors_are_one_line(text):
    with pytest.raises(UserError, match="write "):
        make_config(overrides={"priors": text})


def test_overrides_and_sets():
    config = make_config(
        overrides={"t_trunc": "50,60", "steps": "all,3", "seeds": 2, "solver": None},
        sets=["full_chain.steps=7", "priors=[ot, {name: vae, params: {latent: 4}}]"],
    )
    assert config.t_trunc == [50, 60]
    assert config.steps == [None, 3]
    assert config.full_chain.steps == 7
    assert [p.label for p in config.priors] == ["ot", "vae[latent=4]"]


def test_every_mistake_is_named_in_one_go():
    sets = [
        "n_sample=3",
        "seeds=0",
        "full_chain.solvers=x",
        "t_trunc=[1, two]",
        "name=../up",
        "batch_size=many",
    ]
    with pytest.raises(UserError) as caught:
        make_config(sets=sets)
    message = str(caught.value)
    for part in (
        "'n_sample' does not exist; did you mean 'n_samples'?", "seeds: ", "'full_chain.solvers' does not exist",
        "did you mean 'solver'?", "t_trunc[1]: ", "name: ", "got '../up'", "batch_size: ",
    ):  # fmt: skip
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(("content", "message"), [
    ("steps: !!python/object/apply:os.system ['true']", "cannot be read"),
    ("- a\n- b", "must hold a mapping"),
    ("a: [", "cannot be read"),
])  # fmt: skip
def test_a_bad_file_is_one_line(tmp_path, content, message):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        make_config(path)
    assert "\n" not in str(caught.value)


def test_a_file_names_its_results(tmp_path):
    path = tmp_path / "my run.yaml"
    path.write_text("seeds: 3\n")
    assert make_config(path).name == "my-run"
    assert make_config(path).seeds == 3


@pytest.mark.parametrize(
    ("source", "message"), [("digit", "did you mean 'digits'"), ("no/such.yaml", "does not exist")]
)
def test_a_config_that_is_not_there(source, message):
    with pytest.raises(UserError, match=message):
        make_config(source)


@pytest.mark.parametrize("assignment", ["n_samples", "=3", "seeds.x=1", "steps=[1"])
def test_a_set_that_cannot_be_read(assignment):
    with pytest.raises(UserError, match="--set"):
        make_config(sets=[assignment])

"""Configs: read, overridden, validated whole."""

import math
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from priorbench import UserError
from priorbench.plan.choice import Choice, parse_choices
from priorbench.plan.layout import read_plan
from priorbench.plan.reading import make_config, presets


def test_the_preset_is_the_default():
    assert make_config() == make_config("digits")
    assert make_config().name == "digits"
    assert [p.name for p in make_config().priors] == ["gaussian", "mixture", "ot", "vae", "gan"]
    assert set(presets()) >= {"digits"}


def test_variants_of_a_prior():
    found = parse_choices(
        "ot[width=64],ot[width=512, learning_rate=1e-3],gaussian[covariance=diagonal],vae"
    )
    assert found == [
        {"name": "ot", "params": {"width": 64}},
        {"name": "ot", "params": {"width": 512, "learning_rate": 1e-3}},
        {"name": "gaussian", "params": {"covariance": "diagonal"}},
        {"name": "vae", "params": {}},
    ]


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.integers() | st.booleans(), max_size=3
    )
)
def test_a_label_reads_back(params):
    prior = Choice(name="ot", params=params)
    (again,) = parse_choices(prior.label)
    assert again == {"name": "ot", "params": params}


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(1e-3)
@example(1e-05)
@example(1e22)
def test_a_number_in_a_label_reads_back_as_a_number(value):
    """Python writes small numbers as 1e-05, without the point that YAML 1.1 wants in a float."""
    (again,) = parse_choices(Choice(name="ot", params={"learning_rate": value}).label)
    assert again["params"]["learning_rate"] == value


def test_a_learning_rate_may_be_written_with_an_exponent():
    (prior,) = make_config(overrides={"priors": "vae[learning_rate=1e-3]"}).priors
    assert prior.params == {"learning_rate": 0.001}


def test_the_label_has_the_parameters_in_one_order():
    one, two = (Choice(name="ot", params=p) for p in ({"b": 1, "a": 2}, {"a": 2, "b": 1}))
    assert one.label == two.label == "ot[a=2,b=1]"
    assert Choice(name="ot").label == "ot"


@pytest.mark.parametrize(
    "text",
    [
        "ot[",
        "ot[width]",
        "ot]x[",
        "",
        "ot,,vae",
        "ot[=3]",
        "ot[a=1]b",
        "ot[a=1][b=2]",
        "ot,",
        "ot, ",
        " ",
        "[a=1]",
    ],
)
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
        "'n_sample' does not exist; did you mean 'n_samples'?", "seeds: ",
        "'full_chain.solvers' does not exist",
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


@pytest.mark.parametrize("timeout", ["5", "500 steps", "0s", "50%"])
def test_a_timeout_is_not_refused_with_advice_that_is_refused_too(timeout):
    with pytest.raises(
        UserError, match=r"must be seconds \(60s, 2min, 1h\), more than 0"
    ) as caught:
        make_config(overrides={"timeout": timeout})
    assert "steps)" not in str(caught.value)


@pytest.mark.parametrize("assignment", ["n_samples", "=3", "seeds.x=1", "steps=[1"])
def test_a_set_that_cannot_be_read(assignment):
    with pytest.raises(UserError, match="--set"):
        make_config(sets=[assignment])


# --- nothing but a UserError, whatever is written -------------------------------------------------


@pytest.mark.parametrize(
    "value", ["{", "[1,2", "*nobody", ":", "!!python/object/apply:os.getcwd []", "2020-13-45"]
)
def test_a_parameter_that_yaml_refuses_is_one_line(value):
    with pytest.raises(UserError) as caught:
        make_config(overrides={"priors": f"ot[width={value}]"})
    assert str(caught.value).startswith("priors")
    assert "\n" not in str(caught.value)


SIGNS = st.text(st.sampled_from("ot[]=,:{}*&!%@'\"|>-.19e \n"), max_size=12)


@settings(max_examples=200, deadline=None)
@given(SIGNS | SIGNS.map("ot[a={}]".format))
def test_priors_are_read_or_refused_in_one_line(text):
    said, found = "", []
    try:
        found = make_config(overrides={"priors": text}).priors
    except UserError as error:
        said = str(error)
    assert bool(said.strip()) != bool(found)
    assert "\n" not in said
    assert all(p.name for p in found)


@pytest.mark.parametrize(
    ("assignment", "where"),
    [
        ("t_trunc=[[1]]", "t_trunc"),
        ("steps={a: 1}", "steps"),
        ("solver=[{}]", "solver"),
        ("name=2020-13-45", "name"),
        ("priors={name: ot}", "priors"),
        ("priors=[3]", "priors[0]"),
        ("full_chain=3", "full_chain"),
        ("t_trunc=[]", "t_trunc"),
        ("fit_budget=.nan", "fit_budget"),
        ("precision=fp8", "precision"),
        ("n_samples=1.5", "n_samples"),
        ("seed=-1", "seed"),
    ],
)
def test_a_value_of_the_wrong_kind_is_one_line_with_its_path(assignment, where):
    with pytest.raises(UserError) as caught:
        make_config(sets=[assignment])
    assert where in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_date_that_does_not_exist_is_one_line_in_a_file_too(tmp_path):
    path = tmp_path / "dated.yaml"
    path.write_text("seeds: 2020-13-45\n")
    with pytest.raises(UserError, match=r"dated\.yaml"):
        make_config(path)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "priors=[{name: ot, parms: {}}]",
            r"'priors\[0\]\.parms' does not exist; did you mean 'params'\?",
        ),
        (
            "controls=[{nam: ot}]",
            r"controls\[0\]\.name: field required.*'controls\[0\]\.nam' .* 'name'",
        ),
        ("full_chain.step=5", r"'full_chain\.step' does not exist; did you mean 'steps'\?"),
        ("zzz=1", r"'zzz' does not exist$"),
    ],
)
def test_a_misspelt_key_gets_the_nearest_of_its_own_mapping(assignment, message):
    with pytest.raises(UserError, match=message):
        make_config(sets=[assignment])


@pytest.mark.parametrize("where", ["file", "set", "priors"])
def test_a_yaml_tag_is_refused_and_runs_nothing(tmp_path, where):
    made = tmp_path / "made"
    tagged = f"!!python/object/apply:os.mkdir [{made}]"
    path = tmp_path / "run.yaml"
    path.write_text(f"device: {tagged}\n" if where == "file" else "seeds: 1\n")
    sets = [f"device={tagged}"] if where == "set" else []
    overrides = {"priors": f"ot[width={tagged}]"} if where == "priors" else {}
    with pytest.raises(UserError, match=r"python/object/apply:os\.mkdir"):
        make_config(path, overrides, sets)
    assert not made.exists()


# --- names that become folders --------------------------------------------------------------------


BAD_NAMES = [
    "../up",
    "a/../b",
    "..",
    ".",
    "/etc",
    "a/b",
    "a\\b",
    ".hidden",
    "-rf",
    "a\nb",
    "a\n",
    "a b",
    "",
    "x" * 65,
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leaves_the_results_folder_is_refused(name):
    with pytest.raises(UserError, match=r"^name: .*names a folder"):
        make_config(overrides={"name": name})


@given(st.text(max_size=12))
def test_a_name_that_is_taken_is_one_part_of_a_path(name):
    try:
        found = make_config(overrides={"name": name}).name
    except UserError:
        return
    assert found == name
    assert "/" not in name
    assert "\\" not in name
    assert name not in ("", ".", "..")


# --- what wins, and how axes are read -------------------------------------------------------------


def test_a_set_wins_over_an_option_and_an_option_over_the_file(tmp_path):
    path = tmp_path / "three.yaml"
    path.write_text("seeds: 2\nseed: 5\nn_samples: 30\nname: own\n")
    config = make_config(path, {"seeds": 3, "seed": 6, "n_samples": None}, ["seeds=4"])
    assert (config.seeds, config.seed, config.n_samples, config.name) == (4, 6, 30, "own")


@pytest.mark.parametrize(
    ("given_steps", "wanted"),
    [
        ("all", [None]),
        ("all,5", [None, 5]),
        ("5, 10", [5, 10]),
        (7, [7]),
        ([2, "all"], [2, None]),
        ("all,all", [None]),
    ],
)
def test_all_steps_are_none(given_steps, wanted):
    assert make_config(overrides={"steps": given_steps}).steps == wanted


def test_all_steps_are_none_in_a_file_and_a_set_too(tmp_path):
    path = tmp_path / "all.yaml"
    path.write_text("steps: all\n")
    assert make_config(path).steps == [None]
    assert make_config(sets=["steps=all"]).steps == [None]


@pytest.mark.parametrize(
    ("axis", "text", "wanted"),
    [
        ("t_trunc", "50,50", [50]),
        ("t_trunc", "50,050", [50]),
        ("t_trunc", [50, "50"], [50]),
        ("steps", [5, "5"], [5]),
        ("solver", "ddim,ddpm,ddim", ["ddim", "ddpm"]),
    ],
)
def test_a_value_given_twice_stands_once_on_its_axis(axis, text, wanted):
    assert getattr(make_config(overrides={axis: text}), axis) == wanted


def test_variants_in_a_list_read_as_on_the_command_line():
    wanted = make_config(overrides={"priors": "ot[width=64],ot[width=512],vae"}).priors
    assert len(wanted) == 3
    for given_priors in (
        ["ot[width=64]", "ot[width=512],vae"],
        ["ot[width=64],ot[width=512]", {"name": "vae"}],
        [{"name": "ot", "params": {"width": 64}}, "ot[width=512]", "vae"],
    ):
        assert make_config(overrides={"priors": given_priors}).priors == wanted


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_preset_is_a_valid_config_of_its_own_name(name):
    config = make_config(name)
    assert config.name == name
    assert config.priors
    assert all(math.isfinite(t) and t >= 1 for t in config.t_trunc)


def test_a_config_cannot_be_changed_once_it_is_checked():
    with pytest.raises(ValueError, match="frozen"):
        make_config().seeds = 3


@pytest.mark.parametrize(("source", "options", "sets", "name"), [
    (None, {}, (), "digits"), (None, {"dataset": "mnist"}, (), "mnist"),
    ("digits", {"dataset": "mnist"}, (), "digits"),
    (None, {"dataset": "some/where/my images[resize=8]"}, (), "my-images"),
    (None, {}, ("dataset=mnist",), "mnist"),
    (None, {"dataset": "mnist"}, ("name=mine",), "mine"),
    (None, {}, ("dataset={name: a.npz}",), "a.npz"),
])  # fmt: skip
def test_results_on_other_data_do_not_land_in_the_folder_of_digits(source, options, sets, name):
    assert make_config(source, options, sets).name == name


def test_long_budgets_are_written_as_they_are_read():
    config = make_config(None, {"fit_budget": "300h"}, ["timeout=400h"])
    assert config.fit_budget == ["1080000s"]
    assert config.timeout == "1440000s"


@pytest.mark.parametrize(("given", "wanted"), [
    ("10s,60s, 5min", ["10s", "60s", "300s"]), (["500 steps", 2, None], ["500 steps", "2s", None]),
    ("none,1min,60s", [None, "60s"]), (60, ["60s"]), (None, [None]), ("25%, 6 %", ["25%", "6%"]),
])  # fmt: skip
def test_budgets_are_a_list_or_text_with_commas_each_once(given, wanted):
    assert make_config(None, {}, []).fit_budget == [None]
    assert make_config({"fit_budget": given}).fit_budget == wanted


@pytest.mark.parametrize(("given", "said"), [
    ("2s,fast", "fit_budget: 'fast' must be seconds (60s, 2min, 1h), steps (500 steps) or a share"),
    ("2s,,6s", "fit_budget: has an empty value between commas, got '2s,,6s'"),
    ("", "fit_budget: must have at least one value"),
    ("5", "fit_budget: must be seconds (60s, 2min, 1h), steps (500 steps) or a share"),
    ("0%", "fit_budget: must be seconds (60s, 2min, 1h), steps (500 steps) or a share"),
])  # fmt: skip
def test_a_budget_that_is_none_is_named(given, said):
    with pytest.raises(UserError, match=re.escape(said)):
        make_config({"fit_budget": given})


def test_the_section_of_the_executor_in_use_holds_its_options(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("executor: ray\nray:\n  num_gpus: 0.5\n")
    config = make_config(path, {}, ["ray.num_cpus=2"])
    assert config.executor_options == {"num_gpus": 0.5, "num_cpus": 2}
    again = make_config(config.model_dump(), {}, [])
    assert again == config
    # A file may have the sections of several, and --executor choose.
    assert make_config(path, {"executor": "serial"}, []).executor_options == {}


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["ray.num_gpus=1"], "ray: is of the executor 'ray', and the run has 'serial'"),
        (["ray=3"], "ray: must be a mapping of the executor's options, got 3"),
        (["serial.pause=3"], "executor 'serial' has no option 'pause'; there are: none"),
        (["executor=ray", "ray.num_cpu=1"], "no option 'num_cpu'; did you mean 'num_cpus'?"),
        (["executor=ray", "ray.num_cpus=a"], "ray.num_cpus: must be a number, got 'a'"),
        (["executor=ray", "ray.address=3"], "ray.address: must be a string, got 3"),
        (["executor=ray", "ray.num_cpus=1", "executor_options=3"], "executor_options: "),
    ],
)  # fmt: skip
def test_options_of_executors_that_are_wrong_are_named(sets, message):
    with pytest.raises(UserError) as error:
        read_plan(None, {}, sets)
    assert message in str(error.value)

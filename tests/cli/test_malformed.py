"""Whatever is given wrongly: exit code 2, one line, no traceback, nothing written."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import call, command
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from priorbench import UserError, load_prior
from priorbench.plan.config import RunConfig
from priorbench.plan.layout import read_plan
from priorbench.plan.reading import make_config
from priorbench.plan.safe_yaml import read_yaml

QUIET = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def refused(tmp_path, monkeypatch, capfd):
    """Run a command line in this process, in an empty folder; its one line on stderr."""
    empty = tmp_path / "empty"
    empty.mkdir()

    def no_run(*_, **__):
        pytest.fail("it was not refused")

    monkeypatch.setattr("priorbench.runner.execute", no_run)

    def run(*arguments):
        capfd.readouterr()
        found = call(*arguments, cwd=empty)
        said = found.stderr
        assert found.returncode == 2, said
        assert found.stdout == ""
        assert capfd.readouterr() == ("", "")
        assert said.startswith("priorbench: error: ")
        assert said.count("\n") == 1
        assert said.rstrip("\n").isprintable()
        assert not list(empty.iterdir())
        return said

    return run


LINES = """
run --priors gausian
run --priors ot[widht=3]
run --priors ot[width=0]
run --priors ot[
run --priors ot[width=many]
run --priors ot[width=true]
run --priors ot[width=1.5]
run --priors vae[emits=x_5]
run --priors ot[a=1][b=2]
run --priors ,
run --priors ../ot
run --priors /etc/passwd
run --priors \x1b[2J
run --priors gaussian[covariance=\x1b]0;x]
run --priors gaussian[rank=0,covariance=low_rank]
run --priors vae[latent=0]
run --priors gan[critic_steps=0]
run --priors vae[learning_rate=fast]
run --priors memoriser[n=3]
run --priors \x00
run --t-trunc 0
run --t-trunc -1
run --t-trunc 2000
run --t-trunc x
run --t-trunc 1.5
run --t-trunc ,
run --t-trunc 100,100000
run --t-trunc nan
run --t-trunc 1e2
run --t-trunc ∞
run --steps 0
run --steps -5
run --steps 101 --t-trunc 100
run --steps many
run --steps 2.5
run --steps ,,
run --steps all,none
run --solver dmp++
run --solver ddim,ddimm
run --solver os.system
run --solver ../ddim
run --solver DDIMScheduler()
run --solver \x1b[31mddim
run --fit-budget 0
run --fit-budget -3s
run --fit-budget 3weeks
run --fit-budget 1.5steps
run --fit-budget inf
run --seeds 0
run --seeds x
run --seeds 1.5
run --seeds 100000
run --seed -1
run --seed 99999999999
run --n-samples 0
run --n-samples many
run --n-samples -8
run --n-samples 7
run --n-samples 1e3
run --dataset digit
run --dataset ../nothing
run --dataset /nothing/at/all
run --dataset x.npz
run --dataset digits[size=3]
run --dataset digits[resize=0]
run --dataset digits[channels=2]
run --dataset digits,mnist
run --dataset torchvision:os
run --dataset torchvision:
run --dataset \x1b[1m
run --dataset digits[resize={a: 1}]
run --dataset digits[resize=9]
run --backbone nothing
run --backbone ../nothing
run --backbone /etc
run --backbone mnist
run --extractor nothing
run --extractor digits[weights=x]
run --extractor ..
run --extractor mnist,digits
run --metrics nothing
run --metrics a,b,c
run --device quantum
run --device cuda:99
run --device \x1b
run --executor serail
run --executor ''
run --workers 0 --executor process
run --workers 2
run --workers -1
run --workers many
run --timeout 0
run --timeout 5steps
run --timeout soon
run --timeout -1s
run --collect --fresh
run --collect --dry-run
run digits --from x
run --from nothing.json
run --from .
run --from /etc/hostname
run --set
run --set x
run --set =3
run --set n_sample=3
run --set a.b.c=1
run --set seeds.x=1
run --set full_chain=3
run --set full_chain.solver=x
run --set full_chain.steps=0
run --set full_chain.steps=5000
run --set full_chain.stepps=5
run --set name=../up
run --set name=/etc
run --set name=.
run --set name=-rf
run --set name=
run --set name=a/b
run --set priors=3
run --set priors=[3]
run --set priors={}
run --set priors=[{name:ot}]
run --set controls=[{nam:x}]
run --set priors=[{name:3}]
run --set steps={}
run --set t_trunc=[[1]]
run --set t_trunc=[]
run --set batch_size=0
run --set w2_points=1
run --set n_validation=3
run --set precision=fp8
run --set compile=maybe
run --set save_samples=3.5
run --set rivals=[nothing]
run --set rivals=3
run --set rival_timesteps=[fast]
run --set rival_timesteps=[]
run --priors noise[timesteps=fast]
run --set seeds=[1
run --set seeds=!!python/name:os.system
run --set seeds=*x
run --set seeds=2020-13-45
run --set workers=2000
run --set exclusive_timing=perhaps
run --set timeout=[1]
run --set =
run --set ==
run --set controls=[gausian]
run missing.yaml
run digit
run ../digits
run /
run /dev/null/x.yaml
run digits mnist
run --nonsense
run --n-samples
run \x1b[2J
run --\x1b[2J
runn
\x1b[2J
--nonsense
compare
compare nothing
compare .
compare / /
check
check nothing
check ot[width=0]
check ot --only nothing
check ot[
backbone
backbone trian
backbone check
backbone check nothing
backbone train --steps 0
backbone train --channels 3 --output x
backbone train --dataset nothing --output x
extractor trian
extractor train --epochs 0 --output x
extractor train --dataset nothing --output x
new
new ../up
new my-prior x
plugins x
plugins --nonsense
--plugin
--plugin nothing.py run
--plugins-dir nothing run
-p ot run
-p no: run
-p no:nothing run
""".strip().split("\n")


LINES += [f"{command} {'a' * 400}" for command in ("report", "compare x", "run", "check")]


@pytest.mark.parametrize("line", LINES)
def test_a_malformed_command_line(refused, line):
    refused(*(part.strip("'") for part in line.split(" ")))


# --- config files ---------------------------------------------------------------------------------

BOMB = "a: &a [x, x]\n" + "".join(
    f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)
BAD_FILES = {
    "bomb": BOMB, "deep": "[" * 5000, "deep mapping": "{a: " * 5000,
    "tag": "seeds: !!python/object/apply:os.getcwd []",
    "own tag": "seeds: !mine 3", "binary": "seeds: !!binary aGVsbG8=", "torn": "priors: [ot",
    "list": "- ot\n", "text": "ot",
    "number": "3", "control": 'device: "\\e[2J"', "control key": '"\\e[2J": 3',
    "bell": 'priors: ["ot\\a"]',
    "right to left": 'backbone: "\\u202Egnp"', "long number": "seeds: " + "9" * 6000,
    "null byte": "seeds: \x00",
    "merge": "<<: 3", "merge twice": "<<: [a, b]", "none": "priors: null",
    "number key": "3: 4", "nan": "seeds: .nan", "inf": "n_samples: .inf",
    "date": "seed: 2020-01-01",
    "outside": "name: ../../etc", "many": "\n".join(f"key{i}: {i}" for i in range(200)),
    "recursive": "priors: &a [*a]",
    "recursive mapping": "full_chain: &a {solver: *a}", "tab": "\tseeds: 3",
    "twice": "seeds: 0\nseeds: 0",
    "no int": 'seeds: !!int ""', "no float": 'seeds: !!float ""',
    "no truth": "compile: !!bool perhaps",
    "no time": "seed: !!timestamp noon", "long float": "seeds: " + "1:" * 400 + "1.5",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_malformed_file(refused, tmp_path, name):
    path = tmp_path / "bad.yaml"
    path.write_text(BAD_FILES[name])
    assert len(refused("run", str(path))) < 20_000


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"\x80", "seeds: é".encode("latin-1"), bytes(range(256))]
)
def test_a_file_that_is_no_text(refused, tmp_path, content):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    refused("run", str(path))


FEW_ALIASES = {
    "lists": [f"&a [{'x, ' * 3000}]"]
    + [f"&{c} [*{p}, *{p}]" for p, c in zip("abcdefghi", "bcdefghij", strict=True)],
    "mappings": ["&a {x: 1}"]
    + [f"&{c} {{{', '.join(f'{i}: *{p}' for i in range(9))}}}" for p, c in ("ab", "bc", "cd")]
    + ["&e [*d, *d, *d, *d, *d, *d, *d]"]
    + [f"&{c} [*{p}, *{p}, *{p}]" for p, c in ("ef", "fg", "gh")],
    "merge keys": [f"&a {{{', '.join(f'k{i}: {i}' for i in range(400))}}}"]
    + [f"&{c} {{<<: [*{p}, *{p}], {c}: 1}}" for p, c in zip("abcdefgh", "bcdefghi", strict=True)],
}


@pytest.mark.parametrize("name", FEW_ALIASES)
@pytest.mark.parametrize("where", ["file", "set"])
def test_refuses_a_short_text_that_stands_for_very_many_values(tmp_path, name, where):
    """Eighteen aliases, or forty, in a few kilobytes."""
    flow = f"[{', '.join(FEW_ALIASES[name])}]"
    path = tmp_path / "bomb.yaml"
    path.write_text(f"zzz: {flow}\n")
    assert len(flow) < 10_000
    with pytest.raises(UserError, match="more than 100,000 values") as caught:
        make_config(path) if where == "file" else make_config(sets=[f"zzz={flow}"])
    assert "\n" not in str(caught.value)


def test_anchors_are_taken_as_they_are_used():
    assert read_yaml("t_trunc: &t [5]\nsteps: *t\n") == {"t_trunc": [5], "steps": [5]}
    assert read_yaml("x: &x 1\nt: [" + ", ".join(["*x"] * 1000) + "]") == {"x": 1, "t": [1] * 1000}
    merged = read_yaml(
        "one: &a {name: ot, width: 2}\ntwo: &b {<<: *a, width: 3}\nthree: {<<: [*b], depth: 4}"
    )
    assert merged["two"] == {"name": "ot", "width": 3}
    assert merged["three"] == {"name": "ot", "width": 3, "depth": 4}


@pytest.mark.parametrize(
    "text", ["&a [*a]", "&a {b: *a}", "&a {? [*a] : 1}", "&a {<<: *a}", "[&a [&b {c: [*b, *a]}]]"]
)
def test_refuses_what_would_contain_itself(text):
    with pytest.raises(
        ValueError, match=r"^an alias \(\*name\) inside what it stands for \(&name\)$"
    ):
        read_yaml(text)


def test_every_mistake_of_names_and_values_in_one_go_with_its_path(tmp_path):
    """Those that only the config's form shows, and those that need the plugins, in one message."""
    path = tmp_path / "bad.yaml"
    path.write_text(
        "priors: [gaussian, {name: ot, params: {depth: 0, iterations: -1, wdth: 3}}, "
        "{nam: vae}, gausian]\n"
        "controls: [oracel]\nsolver: [ddim, dmp++]\nseeds: 0\nn_sample: 3\nmetrics: [mesure]\n"
        "executor: procces\n"
    )
    with pytest.raises(UserError) as caught:
        read_plan(path, {})
    said = str(caught.value).split("; ")
    for part in (
        "priors[1].params.depth: must be at least 1, got 0",
        "priors[1].params.iterations: must be at least 0, got -1",
        "priors[1].params.wdth: prior 'ot' has no parameter 'wdth'", "did you mean 'width'?",
        "config key 'priors[2].nam' does not exist", "did you mean 'name'?",
        "priors[3].name: there is no prior 'gausian'", "did you mean 'gaussian'?",
        "controls[0].name: there is no prior 'oracel'", "did you mean 'oracle'?",
        "solver[1]: ", "seeds: input should be greater than or equal to 1, got 0",
        "config key 'n_sample' does not exist", "metrics[0]: ", "executor: ",
        "did you mean 'process'?",
    ):  # fmt: skip
        assert any(part in one for one in said), (part, said)


# --- generated ------------------------------------------------------------------------------------

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@QUIET
@given(key=st.sampled_from(sorted(RunConfig.model_fields)), value=JUNK)
def test_any_value_of_any_key_is_taken_or_refused_in_one_line(key, value):
    said = "taken"
    try:
        make_config({key: value})
    except UserError as error:
        said = str(error)
    assert said.strip()
    assert said.isprintable()


@QUIET
@example(key="a\nb", value={"\x1f": None})
@given(
    key=st.text(min_size=1, max_size=10).filter(lambda k: k not in RunConfig.model_fields),
    value=JUNK,
)
def test_any_unknown_key_is_refused(key, value):
    with pytest.raises(UserError) as caught:
        make_config({key: value})
    assert str(caught.value).isprintable()


@QUIET
@given(st.text(max_size=12).filter(lambda t: not t.startswith("-")))
def test_any_name_of_a_prior_that_there_is_not(text):
    with pytest.raises(UserError) as caught:
        read_plan(None, {"priors": f"no-{text}"})
    assert "\n" not in str(caught.value)


# --- as processes, and other files ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("line", [["run", "--priors", "\x1b[2Jot"], ["runn"]])
def test_a_malformed_command_line_as_a_process(tmp_path, line):
    found = command(*line, cwd=tmp_path)
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert found.stderr.rstrip("\n").isprintable()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content", [{}, [], {"config": 3}, {"config": {"seeds": 0}}, {"config": {"name": "../up"}}]
)
def test_a_run_json_that_is_none(refused, tmp_path, content):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(content))
    refused("run", "--from", str(path))


def test_an_image_that_is_a_bomb_is_refused(refused, tmp_path, monkeypatch):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        Image.new("L", (40, 40), i).save(folder / f"{i}.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "exceeds limit" in refused(
        "run", "--dataset", str(folder), "--backbone", "digits", "--extractor", "digits"
    )


@pytest.mark.parametrize("what", ["pickle", "cut", "huge", "empty"])
def test_an_npz_that_is_none_is_refused(refused, tmp_path, what):
    path = tmp_path / "images.npz"
    np.savez(
        path,
        images=np.array([{"a": 1}], dtype=object)
        if what == "pickle"
        else np.zeros((9, 8, 8), np.uint8),
    )
    if what == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    elif what == "empty":
        path.write_bytes(b"")
    elif what == "huge":
        path = path.with_suffix(".npy")
        header = (
            b"{'descr': '|u1', 'fortran_order': False, 'shape': (999999999999, 8, 8), }".ljust(117)
            + b"\n"
        )
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    said = refused("run", "--dataset", str(path), "--backbone", "digits", "--extractor", "digits")
    assert "images.np" in said


@pytest.mark.parametrize("header", [2**63, 2**40, 10, 0])
def test_weights_with_a_false_header_are_refused(tmp_path, header):
    about = {"prior": "gaussian", "params": {}, "shape": [1, 8, 8]}
    (tmp_path / "prior.json").write_text(json.dumps(about))
    (tmp_path / "prior.safetensors").write_bytes(header.to_bytes(8, "little") + b'{"mean": 3}')
    with pytest.raises(UserError, match="holds no fitted prior that can be read"):
        load_prior(Path(tmp_path))

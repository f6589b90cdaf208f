"""What samples outside of a run is what a run measured."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.commands import call
from helpers.runs import SMALL, small_run
from PIL import Image

import priorbench
from priorbench import CleanGuess, FrozenDiffusion, TruncatedSampler, TruncPrior, UserError
from priorbench.sampler import BadSample, Streams

PRIORS = "gaussian,mixture[components=3],vae[iterations=20,width=16]"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three priors, one that emits x_t and two that emit x_0, with samples saved."""
    folder = tmp_path_factory.mktemp("run")
    settings = SMALL | {"n_validation": 24}
    small_run(folder, priors=PRIORS, steps="2,3", settings=settings, device="cpu")
    return folder


@pytest.fixture(scope="module")
def diffusion():
    return FrozenDiffusion.from_pretrained("digits", device="cpu")


class Given(TruncPrior):
    """Emits whatever it is given."""

    def __init__(self, *, emits="x_0", images=None, times=None):
        super().__init__()
        self.emits, self.images, self.own = emits, images, times
        self.fitted.fill_(True)

    def fit(self, marginal, run):
        pass

    def sample(self, n, generator):
        if self.images is not None:
            return self.images
        return 0.1 * torch.randn(n, 1, 8, 8, generator=generator)

    def times(self, t_trunc, steps):
        return self.own


# --- as in the run --------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["gaussian", "mixture", "vae", "noise"])
@pytest.mark.parametrize("nfe", [2, 3])
def test_the_seed_of_the_run_draws_what_the_run_measured(run, prior, nfe):
    sampler = priorbench.load_best(run, prior, nfe, device="cpu")
    table = pd.read_csv(run / "comparison.csv")
    row = table[(table.fit == sampler.row["fit"]) & (table.split == "test") & (table.nfe == nfe)]
    (cell,) = row.cell
    with np.load(run / "images" / f"{cell}.npz", allow_pickle=False) as images:
        (measured,) = (images[name] for name in images.files if name.startswith("x_0 "))
    assert len(measured) == 40
    assert np.array_equal(sampler(40, 0, "uint8").numpy(), measured)
    assert not np.array_equal(sampler(40, 1, "uint8").numpy(), measured)


def test_the_best_setting_is_that_of_the_choosing_split(run):
    summary = pd.read_csv(run / "summary.csv")
    chosen = summary[(summary.split == "validation") & ~summary.control]
    first = chosen.loc[chosen.fid.idxmin()]
    found = priorbench.load_best(run, device="cpu")
    assert (found.row["prior"], len(found.times)) == (first.prior, first.steps)
    assert found.picked.startswith(f"Picked {first.prior}")
    assert "against" in found.picked
    assert found.picked in repr(found)
    best = pd.read_csv(run / "best.csv")
    mine = best[(best.prior == first.prior) & (best.nfe == first.nfe)].iloc[0]
    assert mine.fit == found.row["fit"] == first.fit
    assert (run / "priors" / mine.fit / "prior.json").is_file()
    assert found.row["fid"] == pytest.approx(mine.fid)


def test_a_loaded_prior_knows_where_it_is_from(run, diffusion):
    (folder,) = run.glob("priors/gaussian-*")
    prior = priorbench.load_prior(folder, "cpu")
    assert {n: prior.about[n] for n in ("t_trunc", "backbone", "seed")} == {
        "t_trunc": 100, "backbone": "digits", "seed": 0,
    }  # fmt: skip
    assert TruncatedSampler(prior, diffusion, solver="ddim", steps=2).t_trunc == 100
    with pytest.raises(UserError, match="t_trunc must be given"):
        TruncatedSampler(Given(), diffusion, steps=2)


@pytest.mark.parametrize(("options", "said"), [
    ({"prior": "gausian"}, "did you mean 'gaussian'?"),
    ({"nfe": 7}, "nfe must be one that these settings have, 2, 3, got 7"),
    ({"max_seconds": 1e-9}, "max_seconds must be at least"),
])  # fmt: skip
def test_what_a_run_does_not_have_is_named(run, options, said):
    with pytest.raises(UserError) as caught:
        priorbench.load_best(run, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_that_chose_nothing_names_the_settings(tmp_path):
    small_run(tmp_path, steps="2,3")
    with pytest.raises(UserError, match=r"n_validation is 0.*3 steps of dpm"):
        priorbench.load_best(tmp_path)
    assert len(priorbench.load_best(tmp_path, nfe=3, device="cpu").times) == 3


def test_a_flagged_prior_is_picked_only_by_its_name(run, tmp_path):
    table = pd.read_csv(run / "comparison.csv")
    first = priorbench.load_best(run, device="cpu").row["prior"]
    for name in ("run.json", "priors"):
        (tmp_path / name).symlink_to(run / name)

    def flagged(which, flag):
        table.loc[which, "flag"] = flag
        table.to_csv(tmp_path / "comparison.csv", index=False)

    flagged(table.prior == first, "less noise than the real x_100 (0.5 of it)")
    second = priorbench.load_best(tmp_path, device="cpu").row["prior"]
    assert second != first
    named = priorbench.load_best(tmp_path, first, device="cpu")
    assert "It is flagged: less noise" in named.picked
    flagged(table.prior != first, "fails checks: deadline")
    with pytest.raises(UserError, match="every contender of the run failed or is flagged"):
        priorbench.load_best(tmp_path)


def test_another_backbone_than_that_of_the_run_is_refused(run, tmp_path):
    table = pd.read_csv(run / "comparison.csv").assign(backbone_sha256="00000000")
    for name in ("run.json", "priors"):
        (tmp_path / name).symlink_to(run / name)
    table.to_csv(tmp_path / "comparison.csv", index=False)
    with pytest.raises(UserError, match="'digits' is another model now than in the run"):
        priorbench.load_best(tmp_path, device="cpu")


# --- the sampler itself ---------------------------------------------------------------------------


@pytest.mark.parametrize("emits", ["x_t", "x_0"])
def test_x_t_is_at_t_trunc_whatever_the_prior_emits(diffusion, emits):
    sampler = TruncatedSampler(Given(emits=emits), diffusion, 400, steps=2)
    x = sampler.x_t(500, torch.Generator().manual_seed(0))
    assert type(x) is torch.Tensor
    signal, noise = diffusion.process.coefficients(400)
    wanted = 0.1 if emits == "x_t" else (0.01 * signal**2 + noise**2) ** 0.5
    assert float(x.std()) == pytest.approx(wanted, rel=0.02)


def test_outputs_and_batches(diffusion):
    sampler, seen = TruncatedSampler(Given(), diffusion, 100, "ddim", 2, batch_size=4), []
    images = sampler(10, 3, progress=lambda done, n: seen.append((done, n)))
    assert seen == [(4, 10), (8, 10), (10, 10)]
    assert (images.shape, images.dtype, float(images.abs().max()) <= 1) == (
        (10, 1, 8, 8), torch.float32, True,
    )  # fmt: skip
    assert torch.equal(torch.cat([*sampler.batches(10, 3)]), images)
    as_bytes = ((images + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(sampler(10, 3, "uint8"), as_bytes)
    pictures = sampler(10, 3, "pil")
    assert [p.size for p in pictures] == [(8, 8)] * 10
    assert np.array_equal(np.asarray(pictures[7]), as_bytes[7, 0].numpy())
    with pytest.raises(UserError, match="did you mean 'uint8'"):
        sampler(2, output="uint")
    with pytest.raises(UserError, match="n must be at least 1, got 0"):
        sampler(0)


def test_the_global_state_is_untouched_and_a_seed_repeats(diffusion):
    sampler = TruncatedSampler(Given(), diffusion, 100, steps=2)
    before = torch.get_rng_state()
    assert torch.equal(sampler(3, 5), sampler(3, 5))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("changes", "said"), [
    ({"images": torch.zeros(2, 8, 8)}, "shape (2, 1, 8, 8), got (2, 8, 8)"),
    ({"images": torch.full((2, 1, 8, 8), torch.nan)}, "not finite"),
    ({"times": [100, 10]}, "times(100, 2): times must be 2 whole numbers"),
])  # fmt: skip
def test_a_prior_that_misbehaves_is_named(diffusion, changes, said):
    with pytest.raises(BadSample) as caught:
        TruncatedSampler(Given(**changes), diffusion, 100, steps=2)(2)
    assert said in str(caught.value)


@pytest.mark.parametrize(("changes", "said"), [
    ({"t_trunc": 0}, "t_trunc must be a whole number from 1 to T = 1000, got 0"),
    ({"solver": "dmp++"}, "did you mean 'dpm++'"),
    ({"steps": 101}, "steps must be a whole number from 1 to t_trunc = 100"),
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
])  # fmt: skip
def test_a_sampler_that_cannot_be_is_refused_at_once(diffusion, changes, said):
    with pytest.raises(UserError) as caught:
        TruncatedSampler(Given(), diffusion, **{"t_trunc": 100, "steps": 2} | changes)
    assert said in str(caught.value)


def test_the_three_streams_are_apart():
    draws = [torch.randn(4, generator=g) for g in vars(Streams.of(0)).values()]
    draws += [torch.randn(4, generator=g) for g in vars(Streams.of(0, "validation")).values()]
    assert len({tuple(x.tolist()) for x in draws}) == 6


# --- clean guesses --------------------------------------------------------------------------------


def test_a_clean_guess_is_not_taken_for_x_t(diffusion):
    generator = torch.Generator().manual_seed(0)
    x = Given().sample(4, generator)
    assert isinstance(x, CleanGuess)
    for guess in (x, x[:2], 2 * x, x.clone(), torch.cat([x, x])):
        with pytest.raises(UserError, match="this is a clean guess x_0"):
            diffusion.denoise(guess, 100, "ddim", 2)
        with pytest.raises(UserError, match="this is a clean guess x_0"):
            diffusion.trajectory(guess, 100, "ddim", 2, generator)
    x_t = diffusion.diffuse(x, 100, generator)
    assert type(x_t) is torch.Tensor
    assert diffusion.denoise(x_t, 100, "ddim", 2).isfinite().all()
    assert type(Given(emits="x_t").sample(4, generator)) is torch.Tensor


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_writes_what_the_sampler_draws(run, tmp_path):
    done = call(
        "sample", str(run), "--prior", "vae", "--nfe", "3", "-n", "20", "--device", "cpu",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Picked vae" in done.stdout
    assert "s an image: samples" in done.stdout
    wanted = priorbench.load_best(run, "vae", 3, device="cpu")(20, output="uint8")[:, 0].numpy()
    names = [f"{i:02}.png" for i in range(20)]
    found = sorted(p.name for p in (tmp_path / "samples").iterdir())
    assert found == sorted([*names, "grid.png"])
    assert np.array_equal([np.asarray(Image.open(tmp_path / "samples" / n)) for n in names], wanted)
    again = call("sample", str(run), "-n", "20", cwd=tmp_path)
    assert again.returncode == 2
    assert "samples exists already; choose another" in again.stderr
    rest = ["--prior", "vae", "--nfe", "3", "-n", "20", "--device", "cpu", "--output", "x.npz"]
    assert call("sample", str(run), *rest, cwd=tmp_path).returncode == 0
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        assert np.array_equal(file["arr_0"][..., 0], wanted)


@pytest.mark.parametrize(("arguments", "said"), [
    (["nowhere"], "nowhere"),
    (["{run}", "--prior", "gausian"], "the run has no prior 'gausian'; did you mean 'gaussian'?"),
    (["{run}", "-n", "0"], "'-n'"),
    (["{run}", "--seed", "-1"], "--seed"),
    (["{run}", "--nfe", "4"], "nfe must be one that these settings have, 2, 3, got 4"),
])  # fmt: skip
@pytest.mark.slow
def test_the_command_refuses_in_a_line(run, tmp_path, arguments, said):
    done = call("sample", *(a.format(run=run) for a in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


# --- names ----------------------------------------------------------------------------------------


def test_registered_names_are_never_looked_up_on_the_hub(diffusion, monkeypatch, tmp_path):
    import diffusers

    asked = []
    ask = lambda name, **_: asked.append(name) or 1 / 0  # noqa: E731
    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", ask)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="division by zero"):
        FrozenDiffusion.from_pretrained("digits")
    (folder,) = asked
    assert json.loads((Path(folder) / "model_index.json").read_text())["unet"]
    with pytest.raises(UserError, match="no backbone 'digit'; did you mean 'digits'"):
        FrozenDiffusion.from_pretrained("digit")
    with pytest.raises(UserError, match="there is no such folder"):
        FrozenDiffusion.from_pretrained(tmp_path / "digits")
    assert len(asked) == 1
    with pytest.raises(UserError, match="somebody/model"):
        FrozenDiffusion.from_pretrained("somebody/model")
    assert asked[1:] == ["somebody/model"]


# --- what is not what was measured ----------------------------------------------------------------


def copied(run, folder):
    shutil.copytree(run, folder)
    (prior,) = folder.glob("priors/gaussian-*")
    return folder, prior


def refused(folder, **options):
    with pytest.raises(UserError) as caught:
        priorbench.load_best(folder, "gaussian", device="cpu", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_damaged_fit_is_refused(run, tmp_path):
    folder, prior = copied(run, tmp_path / "run")
    weights = prior / "prior.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert "its weights are not those that were written" in refused(folder)


@pytest.mark.parametrize(("changes", "said"), [
    ({"reusable": False}, "it remembers something outside of its state_dict"),
    ({"versions": {"priorbench": "0.0.1"}}, "was measured with priorbench 0.0.1, which is"),
    ({"prior": "gone"}, "needs its plugin: --plugin FILE"),
])  # fmt: skip
def test_a_fit_that_would_draw_other_samples_is_refused(run, tmp_path, changes, said):
    folder, prior = copied(run, tmp_path / "run")
    about = json.loads((prior / "prior.json").read_text())
    (prior / "prior.json").write_text(json.dumps(about | changes))
    assert said in refused(folder)


def test_a_fit_that_is_gone_is_named(run, tmp_path):
    folder, prior = copied(run, tmp_path / "run")
    shutil.rmtree(prior)
    assert "is gone, and with it the fitted prior; 'run --fresh' fits it" in refused(folder)
    with pytest.raises(UserError, match="is not the folder of a run"):
        priorbench.load_best(tmp_path)


def test_a_precision_that_does_not_exist_is_refused(run):
    assert refused(run, precision="fp8").startswith("there is no precision 'fp8'")


def test_where_the_prior_was_fitted_is_where_the_chain_starts(run, diffusion):
    (folder,) = run.glob("priors/gaussian-*")
    prior = priorbench.load_prior(folder, "cpu")
    with pytest.raises(UserError, match="t_trunc must be 100, where the prior was fitted, got 200"):
        TruncatedSampler(prior, diffusion, 200, steps=2)
    with pytest.raises(UserError, match="a FrozenDiffusion is needed, got 'digits'"):
        TruncatedSampler(prior, "digits")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["sample", "export"])
def test_what_cannot_be_written_is_a_line(run, tmp_path, command):
    option = {"sample": "--output", "export": "--to"}[command]
    done = call(command, str(run), option, "/proc/new", "--prior", "gaussian", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot write /proc/new" in done.stderr
    assert "Traceback" not in done.stderr

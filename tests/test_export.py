"""Exported folders, loaded where there is nothing but torch and diffusers."""

import importlib
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from helpers.commands import call
from helpers.models import QUICK, tiny_unet
from helpers.runs import SMALL, small_run

import priorbench
from priorbench import FitRun, FrozenDiffusion, TruncatedMarginal, TruncatedSampler, UserError
from priorbench.data.loading import load_dataset
from priorbench.export.bundle import CannotBundle, bundle
from priorbench.metrics.fidelity import features_of, fid
from priorbench.metrics.loading import load_extractor
from priorbench.plugin_manager import FILES, load_plugins

ELSEWHERE = """
import json, sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0].startswith(("priorbench", "ot", "pluggy")):
            raise ModuleNotFoundError(f"there is no {name} here", name=name)

sys.meta_path.insert(0, Absent())
import numpy as np
import torch
from diffusers import DiffusionPipeline

before = torch.get_rng_state()
pipelines = []
for folder in sys.argv[1:]:
    pipeline = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    pipelines.append(pipeline)
for folder, pipeline in zip(sys.argv[1:], pipelines):
    np.save(folder + ".npy", pipeline(batch_size=7, seed=3, output_type="pt").images.numpy())
    pictures = pipeline(batch_size=2).images
    print(json.dumps([type(pipeline.prior).__name__, len(pictures), list(pictures[0].size)]))
"""


def elsewhere(tmp_path, *folders):
    """What a process without priorbench says of each folder; it writes its images beside it."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ELSEWHERE), *map(str, folders)],
        capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path,
        env=os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


def fitted(name, marginal, **params):
    prior = load_plugins().find("prior", name).load()(**QUICK.get(name, {}) | params)
    prior.fit(marginal, FitRun(torch.Generator().manual_seed(0), budget=3))
    return prior


def check_everywhere(sampler, folder, images):
    """The sampler, the exported folder here and the images from elsewhere agree."""
    wanted = sampler(7, 3)
    again = TruncatedSampler.from_pretrained(folder, device="cpu")
    assert torch.equal(again(7, 3), wanted)
    assert (again.t_trunc, again.times) == (sampler.t_trunc, sampler.times)
    assert np.abs(images - wanted.numpy()).max() <= 1e-5


@pytest.mark.slow
def test_every_built_in_prior_samples_where_there_is_only_diffusers(marginal, tmp_path):
    """All of them in one process, each its own class."""
    settings = [(name, {}) for name in QUICK]
    settings += [(name, {"emits": "x_t"}) for name in ("vae", "gan")]
    settings += [("noise", {"timesteps": "tuned"}), ("gaussian", {"covariance": "low_rank"})]
    samplers = {}
    for i, (name, params) in enumerate(settings):
        prior = fitted(name, marginal, **params)
        sampler = TruncatedSampler(prior, marginal.diffusion, 20, "dpm++sde", 3, batch_size=4)
        folder = priorbench.save_pipeline(sampler, tmp_path / f"{name}-{i}", name)
        samplers[folder] = sampler
    said = elsewhere(tmp_path, *samplers)
    assert [pictures for _, *pictures in said] == [[2, [8, 8]]] * len(settings)
    assert len({model for model, *_ in said}) == len(QUICK)
    for folder, sampler in samplers.items():
        check_everywhere(sampler, folder, np.load(f"{folder}.npy"))


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "settings", "solver"), [
    ((3, 32, 32), {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, "dpm++"),
    ((1, 8, 8), {"num_train_timesteps": 500, "thresholding": True, "clip_sample": False}, "ddpm"),
    ((1, 8, 8), {"prediction_type": "sample"}, "unipc"),
    ((1, 8, 8), {}, "HeunDiscreteScheduler"),
])  # fmt: skip
def test_backbones_of_other_kinds_leave_too(shape, settings, solver, tmp_path):
    diffusion = FrozenDiffusion(tiny_unet(shape), DDIMScheduler(**settings), device="cpu")
    images = torch.rand(60, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    marginal = TruncatedMarginal(images, diffusion, 200)
    prior = fitted("gaussian", marginal, covariance="diagonal")
    sampler = TruncatedSampler(prior, diffusion, 200, solver, 4, batch_size=5)
    folder = priorbench.save_pipeline(sampler, tmp_path / "saved", "gaussian")
    elsewhere(tmp_path, folder)
    check_everywhere(sampler, folder, np.load(f"{folder}.npy"))


# A plugin in a file. Its width decides what is in the way of its code: nothing, a package that is
# not torch, latents that are not normal, or a map that cannot be traced.
PLUGIN = """
import torch
from scipy.special import ndtri

from priorbench import TruncPrior, hookimpl, randn

FACTOR = 2.0


def scaled(x):
    return FACTOR * x


class Shown(TruncPrior):
    emits = "x_0"

    def __init__(self, *, width: float = 0.3):
        super().__init__()
        self.width = width

    def build(self, shape):
        self.net = torch.nn.Linear(4, shape[0] * shape[1] * shape[2])
        self.register_buffer("mean", torch.empty(0))

    def fit(self, marginal, run):
        self.mean = marginal.images.mean(0)

    def from_latents(self, z):
        x = torch.nn.functional.softplus(self.net(z))
        return self.width * scaled(x).view(len(z), *self.mean.shape) + self.mean


class Alone(Shown):
    def sample(self, n, generator):
        return self.from_latents(randn((n, 4), generator, self.device))


class Normal(Shown):
    def latents(self, n, generator):
        return randn((n, 4), generator, self.device)

    def sample(self, n, generator):
        assert ndtri(0.5) == 0
        return self.from_latents(self.latents(n, generator))


class Uniform(Normal):
    def latents(self, n, generator):
        return torch.rand((n, 4), generator=generator)


class Branching(Normal):
    def from_latents(self, z):
        return super().from_latents(z) * (2.0 if z.sum() > 0 else 1.0)


class Hidden(Shown):
    def sample(self, n, generator):
        u = torch.rand((n, 4), generator=generator).numpy()
        return self.from_latents(torch.as_tensor(ndtri(u)))


class Stateful(Shown):
    def fit(self, marginal, run):
        self.mean = marginal.images.mean(0)
        self.extra = 1.0

    def sample(self, n, generator):
        return self.from_latents(randn((n, 4), generator, self.device)) + self.extra


@hookimpl
def register_priors(register):
    for cls in (Alone, Normal, Uniform, Branching, Hidden, Stateful):
        register(cls.__name__.lower(), f"given_plugin:{cls.__name__}", summary="a test's")
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugins") / "given_plugin.py"
    path.write_text(PLUGIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FILES, str(path))
        load_plugins.cache_clear()
        yield
    load_plugins.cache_clear()


@pytest.mark.slow
def test_a_plugin_leaves_with_its_code_or_else_with_its_map(marginal, tmp_path, plugin):
    samplers = {}
    for name, kind in (("alone", "class Alone(Shown)"), ("normal", "class NormalPrior_")):
        prior = fitted(name, marginal, width=0.2)
        sampler = TruncatedSampler(prior, marginal.diffusion, 20, "ddim", 2, batch_size=4)
        folder = priorbench.save_pipeline(sampler, tmp_path / name, name)
        (code,) = (folder / "prior").glob("*.py")
        assert kind in code.read_text()
        assert "scipy" not in code.read_text()
        samplers[folder] = sampler
    elsewhere(tmp_path, *samplers)
    for folder, sampler in samplers.items():
        check_everywhere(sampler, folder, np.load(f"{folder}.npy"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "said"), [
    ("uniform", "needs scipy; its latents are not the standard normal draws of priorbench.randn"),
    ("branching", "needs scipy; torch.export of its map of latents: "),
    ("hidden", "needs scipy, and it shows no latents, whose map could be traced"),
    ("stateful", "AttributeError: 'Stateful' object has no attribute 'extra', and it shows no"),
])  # fmt: skip
def test_a_plugin_that_cannot_leave_is_told_why(marginal, tmp_path, plugin, name, said):
    sampler = TruncatedSampler(fitted(name, marginal), marginal.diffusion, 20, "ddim", 2)
    with pytest.raises(UserError) as caught:
        priorbench.save_pipeline(sampler, tmp_path / "saved", name)
    assert str(caught.value).startswith(f"prior '{name}' cannot be exported: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_kept(marginal, tmp_path):
    sampler = TruncatedSampler(fitted("gaussian", marginal), marginal.diffusion, 20, steps=2)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="exists already; choose another"):
        priorbench.save_pipeline(sampler, tmp_path, "gaussian")
    with pytest.raises(UserError, match="the registered name of the prior must be given"):
        priorbench.save_pipeline(sampler, tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("damage", ["nothing", "json", "weights", "prior", "bit", "scheduler"])
def test_what_is_no_exported_folder_is_a_line(marginal, tmp_path, damage):
    sampler = TruncatedSampler(fitted("gaussian", marginal), marginal.diffusion, 20, steps=2)
    folder = priorbench.save_pipeline(sampler, tmp_path / "saved", "gaussian")
    about = folder / "priorbench.json"
    if damage == "nothing":
        folder = tmp_path / "none"
    elif damage == "json":
        about.write_text("[]")
    elif damage == "bit":
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-3] ^= 1
        weights.write_bytes(content)
    elif damage == "scheduler":
        (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    elif damage == "weights":
        (folder / "prior" / "diffusion_pytorch_model.safetensors").write_bytes(b"no")
    else:
        about.write_text(about.read_text().replace('"gaussian"', '"gausian"'))
    with pytest.raises(UserError) as caught:
        TruncatedSampler.from_pretrained(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_run_leaves_by_one_command(tmp_path):
    """From the run to the pictures of a process without priorbench: the table's very samples."""
    run = tmp_path / "run"
    settings = SMALL | {"n_validation": 24, "full_chain.steps": 2}
    small_run(run, priors="mixture[components=3]", settings=settings, device="cpu")
    done = call("export", str(run), "--to", "out/mixture", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Picked mixture[components=3] at t_trunc = 100")
    folder = tmp_path / "out" / "mixture"
    elsewhere(tmp_path, folder)
    best = priorbench.load_best(run, device="cpu")
    assert np.abs(np.load(f"{folder}.npy") - best(7, 3).numpy()).max() <= 1e-5

    sampler = TruncatedSampler.from_pretrained(folder, device="cpu")
    extractor = load_extractor("digits", {})
    test = load_dataset("digits", {}).test
    found = fid(features_of(sampler(40, 0, "uint8"), extractor), features_of(test, extractor))
    assert found == pytest.approx(best.row["fid"], rel=1e-6)

    card = (folder / "README.md").read_text()
    assert f"FID | {best.row['fid']:.3f}" in card
    assert "licence apache-2.0" in card
    assert best.picked in card
    again = call("export", str(run), "--to", "out/mixture", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "exists already" in again.stderr


def test_the_card_says_what_it_is(marginal, tmp_path):
    from huggingface_hub import ModelCard

    sampler = TruncatedSampler(fitted("mixture", marginal), marginal.diffusion, 20, "ddim", 2)
    folder = priorbench.save_pipeline(sampler, tmp_path / "saved", "mixture")
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "diffusers"
    assert "priorbench" in card.data.tags
    assert "entered at t_trunc = 20" in card.text
    assert "licence not known" in card.text
    assert (folder / "samples.png").is_file()


# --- the code that leaves -------------------------------------------------------------------------


def test_only_what_is_needed_leaves():
    cls = load_plugins().find("prior", "vae").load()
    own = {"priorbench", "priorbench_vae", "priorbench_mixture"}
    code = bundle([cls], ["build", "sample"], own)
    for name in ("def sample", "def build", "class Density", "def randn", "def decoder"):
        assert name in code
    for name in ("sklearn", "def fit(", "negative_elbo", "GaussianMixture", "class EMA"):
        assert name not in code
    space = {}
    exec(compile(code, "bundle", "exec"), space)
    assert issubclass(space["VAEPrior"], torch.nn.Module)


def test_a_statement_that_binds_two_names_leaves_once(tmp_path, monkeypatch):
    (tmp_path / "paired.py").write_text(
        "LOW, HIGH = 2, 3\n\n\nclass Between:\n    def width(self):\n        return HIGH - LOW\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    code = bundle([importlib.import_module("paired").Between], ["width"], {"paired"})
    assert code.count("LOW, HIGH =") == 1
    space = {}
    exec(compile(code, "bundle", "exec"), space)
    assert space["Between"]().width() == 1


def test_what_cannot_leave_is_named():
    cls = load_plugins().find("prior", "vae").load()
    own = {"priorbench", "priorbench_vae", "priorbench_mixture"}
    with pytest.raises(CannotBundle, match="needs sklearn"):
        bundle([cls], ["build", "sample", "fit"], own)

"""What a cell keeps to be looked at, and the page that shows it."""

import numpy as np
import pytest
import torch
from helpers.commands import call
from helpers.runs import SMALL, Plugin, small_run

import priorbench
from priorbench import TruncPrior, hookimpl, randn
from priorbench.plugin_manager import load_plugins
from priorbench.report.gather import gather

pytestmark = pytest.mark.slow


class Latent(TruncPrior):
    """x = m + z: a map that shows its latents."""

    def __init__(self, *, emits: str = "x_t") -> None:
        super().__init__()
        self.emits = emits

    def build(self, shape):
        self.register_buffer("mean", torch.zeros(shape))

    def fit(self, marginal, run):
        self.mean.copy_(marginal.draw(100, run.generator).mean(0))

    def latents(self, n, generator):
        return randn((n, self.mean.numel()), generator, self.device)

    def from_latents(self, z):
        return self.mean + z.view(-1, *self.mean.shape)

    def sample(self, n, generator):
        return self.from_latents(self.latents(n, generator))


class WrongLatents(Latent):
    """Samples as it should, but its map does not return an image for each z."""

    def from_latents(self, z):
        return super().from_latents(z)[:1]

    def sample(self, n, generator):
        return super().from_latents(self.latents(n, generator))


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A run of priors that show their latents, of one that gets it wrong, and of one that
    has none.
    """

    def register_priors(register):
        register("latent", f"{__name__}:Latent")
        register("wrong", f"{__name__}:WrongLatents")

    plugins = load_plugins()
    plugins.add(Plugin(register_priors=hookimpl(register_priors)), "shown", "shown", "1")
    folder = tmp_path_factory.mktemp("shown")
    priors, settings = "latent,latent[emits=x_0],wrong,gaussian", SMALL | {"controls": []}
    found = small_run(
        folder, priors=priors, steps=5, t_trunc=[200], settings=settings, report=False
    )
    assert not (folder / "report.html").exists()
    found = small_run(folder, priors=priors, steps=5, t_trunc=[200], settings=settings, report=True)
    yield folder, found
    plugins.manager.unregister(name="shown/shown")
    for name in ("latent", "wrong"):
        del plugins.registrations["prior", name]


def kept(folder, found, prior, params=""):
    cell = found[(found.prior == prior) & (found.params == params)].cell.iloc[0]
    with np.load(folder / "images" / f"{cell}.npz") as images:
        return {name: images[name] for name in images.files}


def test_a_cell_keeps_a_few_samples_on_their_way_and_the_nearest_training_images(shown):
    images = kept(*shown, "gaussian")
    chain = {name: x for name, x in images.items() if name.startswith("chain ")}
    assert list(chain) == [f"chain dpm++ 5 {t}" for t in (200, 160, 80, 40, 0)]
    assert all(x.shape == (10, 1, 8, 8) for x in chain.values())
    train = priorbench.task.load_data(priorbench.task.Source("digits")).train.numpy()
    assert all((train == image).all(axis=(1, 2, 3)).any() for image in images["nearest"])
    assert not {"z", "f(z)"} & set(images)


def test_a_map_shows_z_beside_what_it_makes_of_it(shown):
    images = kept(*shown, "latent")
    assert images["z"].shape == images["f(z)"].shape == (10, 1, 8, 8)
    assert (images["f(z)"] == images["chain dpm++ 5 200"]).all()  # and the chain starts there
    clean = kept(*shown, "latent", "emits=x_0")
    assert not (
        clean["f(z)"] == clean["chain dpm++ 5 200"]
    ).all()  # a clean guess is diffused first
    rows = {(g.label, g.t_trunc): g.rows for g in gather([str(shown[0])]).grids}
    assert rows["latent", 200][:2] == ["z", "f(z) = x_200"]
    assert rows["latent[emits=x_0]", 200][:3] == ["z", "f(z)", "x_200"]
    assert rows["latent", 200][-1] == "x_0"


def test_latents_that_are_wrong_cost_a_picture_alone(shown):
    folder, found = shown
    assert (found.status == "ok").all()
    (log,) = folder.glob("logs/*.log")
    assert "wrong t_trunc 200 seed 0 has no picture of its way: from_latents" in log.read_text()


def test_a_run_writes_its_page_unless_told_not_to(shown):
    folder, _ = shown
    assert "latent at t_trunc" in (folder / "report.html").read_text()
    assert "priorbench.run" in (folder / "report.html").read_text()
    assert "--no-report" in call("run", "--help").stdout

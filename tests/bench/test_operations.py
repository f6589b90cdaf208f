"""Operations, against what is known of the layers."""

import helpers
import pytest
import torch
from helpers.runs import SMALL, small_run
from helpers.specs import SPEC
from torch import nn

import priorbench
from priorbench import TruncPrior
from priorbench.bench.operations import counted, evaluations_of_prior, of_evaluation, of_prior
from priorbench.plugin_manager import load_plugins
from priorbench.task import Source, load_task


class Perceptron(TruncPrior):
    def __init__(self) -> None:
        super().__init__()

    def build(self, shape):
        self.shape = shape
        self.layers = nn.Sequential(nn.Linear(16, 24), nn.Linear(24, 64))

    def fit(self, marginal, run):
        pass

    def sample(self, n, generator):
        z = torch.randn(n, 16, generator=generator)
        return self.layers(z).reshape(n, *self.shape)


@pytest.fixture(scope="module")
def digits():
    return load_task(Source("digits"), "digits", Source("digits")).diffusion


def test_a_perceptron_takes_two_operations_for_each_weight():
    prior = Perceptron()
    prior.build((1, 8, 8))
    prior.fitted.fill_(True)
    assert of_prior(prior, SPEC) == 2 * (16 * 24 + 24 * 64)


def test_an_evaluation_takes_what_its_layers_and_its_attention_take(digits):
    """Convolutions and linear layers by their sizes; attention over N places of C channels has two
    products of 2 N^2 C operations.
    """
    sizes = []

    def note(module, inputs, output):
        if isinstance(module, nn.Conv2d):
            places = output.shape[-1] * output.shape[-2]
            sizes.append(2 * module.weight.numel() * places)
        elif isinstance(module, nn.Linear):
            sizes.append(2 * module.weight.numel() * (output.numel() // module.out_features))
        elif type(module).__name__ == "Attention":
            _, channels, height, width = output.shape
            sizes.append(4 * (height * width) ** 2 * channels)

    hooks = [module.register_forward_hook(note) for module in digits.network.modules()]
    with torch.no_grad():
        digits.network(torch.zeros(1, *digits.shape), torch.zeros(1))
    for hook in hooks:
        hook.remove()
    assert of_evaluation(digits) == sum(sizes)


@torch.no_grad()
def test_images_of_a_batch_take_the_same(digits):
    x, t = torch.zeros(5, *digits.shape), torch.zeros(5)
    together = counted(lambda: digits.network(x, t))
    # The embedding of the time is that of each image, too.
    assert together == 5 * of_evaluation(digits)


@pytest.mark.slow
def test_a_chain_takes_an_evaluation_a_step_and_a_prior_that_evaluates_takes_its_own(
    monkeypatch, tmp_path, digits
):
    monkeypatch.setenv("PRIORBENCH_PLUGINS", "")
    priorbench.add_plugin(helpers.FOLDER / "cheats.py")
    settings = SMALL | {"controls": []}
    found = small_run(tmp_path, priors="runs-the-model,gaussian", steps="2,3", settings=settings)
    load_plugins.cache_clear()
    assert (found.status == "ok").all()
    one = of_evaluation(digits)
    assert (found.flops_chain == (found.nfe - found.nfe_prior) * one).all()
    mine = found.set_index("prior")
    assert (mine.loc["gaussian", "flops_prior"] == 2 * 64 * 64).all()
    assert (mine.loc["noise", "flops_prior"] == 0).all()
    evaluated = mine.loc["runs-the-model"]
    assert (evaluated.nfe_prior > 0).all()
    assert evaluated.flops_prior.to_numpy() == pytest.approx(evaluated.nfe_prior * one, rel=0.01)


@pytest.mark.parametrize(("evaluated", "flops", "nfe"), [
    (0, 0, 0), (0, 49, 0), (0, 50, 1), (0, 101, 1), (0, 250, 3),  # networks of its own
    (1.5, 150, 1.5), (1.5, 190, 1.5), (1.5, 200, 2.5), (2, 190, 2),  # of the frozen one, too
    (1.5, float("nan"), 1.5),
])  # fmt: skip
def test_a_prior_is_charged_for_networks_of_its_own(evaluated, flops, nfe):
    assert evaluations_of_prior(evaluated, flops, 100) == nfe


@pytest.mark.slow
def test_a_copy_of_the_frozen_network_counts_as_the_frozen_network(tmp_path, digits):
    prior = "distil[iterations=1,batch_size=4,steps=2]"
    found = small_run(tmp_path, priors=f"{prior},vae[iterations=2]", steps="1,2")
    assert (found.status == "ok").all()
    mine = found[found.prior == "distil"]
    assert (mine.nfe_prior == 1).all()
    assert (mine.nfe == mine.steps + 1).all()
    assert mine.flops_prior.to_numpy() == pytest.approx(of_evaluation(digits), rel=0.01)
    others = found[~found.prior.isin(["distil", "noise"])]
    assert (others.nfe_prior == 0).all()
    assert set(found[found.prior == "noise"].nfe) >= {2, 3}, "it is compared at equal NFE"

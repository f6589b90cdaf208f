"""No measure reads or changes a global random state."""

import random

import numpy as np
import pytest
import torch
from helpers.draws import gaussian

from priorbench.data.dataset import to_float
from priorbench.data.digits import load
from priorbench.metrics.fidelity import features_of, fidelity
from priorbench.metrics.loading import digits
from priorbench.metrics.memorisation import authenticity
from priorbench.metrics.wasserstein import distances, exact_w2, gaussian_w2, sliced_w2


def test_no_measure_touches_the_global_random_state():
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    data = load()
    features = features_of(data.test, digits())
    fidelity(features, features[:200])
    distances(
        to_float(data.test[:50]), to_float(data.train[:50]), torch.Generator().manual_seed(0), 50
    )
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()  # noqa: NPY002


X, Y = gaussian(12), gaussian(12, seed=1)
MEASURES = {
    "exact": lambda: exact_w2(X, Y),
    "gaussian": lambda: gaussian_w2(X, Y),
    "sliced": lambda: sliced_w2(X, Y, torch.Generator().manual_seed(0)),
    "authenticity": lambda: authenticity(X, Y),
    "fidelity": lambda: tuple(fidelity(X, Y).values()),
    "features": lambda: features_of(load().test[:20], digits()).sum().item(),
    "extractor": lambda: digits().classifier.last.weight.sum().item(),
    "digits": lambda: load().digest(),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_neither_changes_nor_reads_the_global_random_states(name):
    def states():
        numpy_state = np.random.get_state()  # noqa: NPY002
        return (
            torch.get_rng_state().tolist(),
            numpy_state[1].tolist(),
            numpy_state[2],
            random.getstate(),
        )

    before = states()
    first = MEASURES[name]()
    assert states() == before
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        assert MEASURES[name]() == first

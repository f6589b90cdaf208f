"""The digits: one split, every image, a digest that sees every pixel."""

import json

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from priorbench import UserError
from priorbench.assets import folder
from priorbench.data.dataset import Dataset
from priorbench.data.digits import load


def test_digits_are_split_once():
    data = load()
    assert [len(s) for s in (data.train, data.validation, data.test)] == [1077, 360, 360]
    for split, size in (("train", 1077), ("validation", 360), ("test", 360)):
        share = data.labels[split].bincount(minlength=10) / size
        assert (share - 0.1).abs().max() < 0.01  # stratified
    rows = torch.cat([data.train, data.validation, data.test]).flatten(1)
    assert len(rows.unique(dim=0)) == len(rows)  # so no image stands in two splits


DIGEST = "8662596594a310b4e5823dd824b62a4cfe31f8b25649e9a235bd800e6ae4d7f4"


def test_the_split_is_the_one_that_the_shipped_models_saw():
    assert load().digest() == DIGEST
    assert (
        json.loads((folder("digits/extractor") / "extractor.json").read_text())["dataset"] == DIGEST
    )
    assert DIGEST in (folder("digits/backbone") / "training.json").read_text()


def test_the_digest_sees_every_split_and_every_pixel():
    data = load()
    seen = {data.digest(), Dataset("d", data.train, data.test, data.validation).digest()}
    for split in ("train", "validation", "test"):
        splits = {s: getattr(data, s).clone() for s in ("train", "validation", "test")}
        splits[split][-1, 0, 4, 4] ^= 1
        seen.add(Dataset("d", **splits).digest())
    assert len(seen) == 5


def test_a_split_that_moved_is_refused(monkeypatch):
    import sklearn.model_selection

    real = sklearn.model_selection.train_test_split
    monkeypatch.setattr(
        "sklearn.model_selection.train_test_split",
        lambda *a, **k: real(*a, **(k | {"random_state": 1})),
    )
    with pytest.raises(UserError, match="splits digits differently"):
        load()


def test_every_image_of_scikit_learn_is_there_with_its_label():
    data = load()
    pixels, labels = load_digits(return_X_y=True)
    wanted = sorted(
        (tuple(np.rint(p * 255 / 16).astype(int)), int(k))
        for p, k in zip(pixels, labels, strict=True)
    )
    found = sorted(
        (tuple(image.flatten().tolist()), int(label))
        for split in ("train", "validation", "test")
        for image, label in zip(getattr(data, split), data.labels[split], strict=True)
    )
    assert found == wanted

"""The data sets of ``torchvision.datasets``, by the name of their class."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError, one_line, unknown
from .convert import Read, read_images
from .options import check_options, parameters

TORCHVISION = "torchvision:"

# Classes with an argument ``split`` that takes "train" and "test".
_TRAIN_AND_TEST = (
    "CLEVRClassification", "CelebA", "Cityscapes", "Country211", "DTD", "ETH3DStereo",
    "FER2013", "FGVCAircraft", "Flowers102", "FlyingThings3D", "Food101", "GTSRB", "HD1K",
    "InStereo2k", "Kitti2012Stereo", "Kitti2015Stereo", "KittiFlow", "Middlebury2014Stereo",
    "PCAM", "RenderedSST2", "STL10", "SVHN", "Sintel", "StanfordCars", "WIDERFace",
)  # fmt: skip
#: Class -> the values of its argument ``split`` for training and for test images.
SPLIT_NAMES = dict.fromkeys(_TRAIN_AND_TEST, ("train", "test")) | {
    "OxfordIIITPet": ("trainval", "test")
}


def read_torchvision(name: str, options: dict[str, Any], common: dict[str, Any]) -> Read:
    """The images of ``torchvision:CLASS``: of its own training and test split, or all under "".

    Arguments:
        options: arguments of the class; ``root`` is ``data`` if it is not given.
        common: ``resize`` and ``channels``.

    Raises:
        UserError: if there is no such class or option, if the class does not say which images are
            for training, or if it cannot load them.
    """
    from torchvision import datasets

    class_name = name.removeprefix(TORCHVISION)
    classes = [
        n for n in datasets.__all__ if inspect.isclass(getattr(datasets, n)) and "Folder" not in n
    ]
    if class_name not in classes:
        raise unknown("data set of torchvision", class_name, classes)
    factory = getattr(datasets, class_name)
    takes = parameters(factory)
    if "root" in takes:
        options = {"root": "data"} | options
    if "kwargs" not in takes:  # EMNIST and ImageNet hand their options to another class
        known = [p for p in takes if p != "loader" and "transform" not in p]
        check_options(name, options, known)
    images: dict[str, Tensor] = {}
    labels: dict[str, Tensor] = {}
    for split, arguments in _splits(name, takes, options).items():
        pairs = _loaded(name, factory, options | arguments)
        images[split] = read_images({"": [image for image, _ in pairs]}, **common).images[""]
        found = [label for _, label in pairs]
        if all(isinstance(label, int) for label in found):
            labels[split] = torch.tensor(found)
    return Read(images, labels)


def _splits(name: str, takes: list[str], options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The arguments by which the class loads each of its splits; {"": {}} if it has none."""
    if "train" in takes and "train" not in options:
        return {"train": {"train": True}, "test": {"train": False}}
    if "split" in takes and "split" not in options:
        class_name = name.removeprefix(TORCHVISION)
        if class_name not in SPLIT_NAMES:
            raise UserError(f"data set {name!r}: say which split to take, as split=NAME")
        train, test = SPLIT_NAMES[class_name]
        return {"train": {"split": train}, "test": {"split": test}}
    return {"": {}}


def _loaded(
    name: str, factory: Callable[..., Any], options: dict[str, Any]
) -> list[tuple[Any, Any]]:
    """(image, label) of each item; what else an item may have is left out."""
    try:
        found = factory(**options)
        return [(image, label) for image, label in (found[i][:2] for i in range(len(found)))]
    except Exception as error:  # each class of torchvision raises errors of its own
        hint = "; download=true fetches it, root=FOLDER says where it is"
        hint = "" if options.get("download") else hint
        raise UserError(f"data set {name!r} cannot be loaded: {one_line(error)}{hint}") from error

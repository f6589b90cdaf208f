"""Options that several commands share."""

from typing import TYPE_CHECKING

from ..data.dataset import Dataset
from ..data.loading import load_dataset
from ..errors import UserError
from ..plan.choice import Choice, read_choice
from ..task import default_for

if TYPE_CHECKING:
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase


def _choice(option: str, text: str) -> Choice:
    try:
        return Choice(**read_choice(text))
    except ValueError as error:
        raise UserError(f"{option}: {error}") from error


def named_dataset(text: str) -> Dataset:
    """The data set of ``--dataset``."""
    choice = _choice("--dataset", text)
    return load_dataset(choice.name, choice.params)


def named_extractor(text: str | None, data: Dataset) -> "FeatureExtractorBase":
    """The extractor of ``--extractor``; without it, the default for the data set."""
    choice = (
        Choice(name=default_for("extractor", data.name, data.shape[0]))
        if text is None
        else _choice("--extractor", text)
    )
    from ..metrics.loading import load_extractor  # takes a second

    return load_extractor(choice.name, choice.params)

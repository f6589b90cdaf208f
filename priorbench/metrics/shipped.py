"""The extractors that come with priorbench."""

from ..assets import folder
from .extractors import FolderExtractor, from_folder


def digits() -> FolderExtractor:
    """64 features of a classifier trained on the training split of digits."""
    return from_folder(folder("digits/extractor"))


def mnist() -> FolderExtractor:
    """64 features of a classifier trained on the training split of mnist."""
    return from_folder(folder("mnist/extractor"))

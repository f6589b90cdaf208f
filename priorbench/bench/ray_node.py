"""What Ray runs on a node besides cells. Each is a process, so nothing here imports torch."""

from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import one_line
from ..files import write_atomically
from ..version import MEASUREMENT, __version__


def look_around(note: str, versions: dict[str, str]) -> str:
    """Write the file ``note``, if it has a name, and compare what is installed with ``versions``.

    Returns:
        What is wrong, or "".
    """
    try:
        found = {"priorbench": __version__, "measurement": MEASUREMENT}
        for name in versions.keys() - found.keys():
            with suppress(metadata.PackageNotFoundError):  # a plugin file, say
                found[name] = metadata.version(name)
        for name, version in found.items():
            if name in versions and version != versions[name]:
                what = "figures of measurement" if name == "measurement" else name
                return f"has {what} {version}, and the run has {versions[name]}"
        if note:
            write_atomically(Path(note), b"seen\n")
    except Exception as error:
        return one_line(error, named=True)
    return ""


class Board:
    """An actor that keeps the news of cells until the run asks for them."""

    def __init__(self) -> None:
        self.news: list[tuple[Any, ...]] = []

    def post(self, *news: Any) -> None:
        """Leave news."""
        self.news.append(news)

    def take(self) -> list[tuple[Any, ...]]:
        """All news since the last call, the oldest first."""
        found, self.news = self.news, []
        return found

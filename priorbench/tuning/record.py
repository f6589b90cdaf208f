"""tuning.json: the seconds that a resumed tuning has to know."""

import json
from pathlib import Path

from ..files import write_atomically

RECORD = "tuning.json"


def recorded(folder: Path) -> dict[str, float]:
    """The seconds on record, by name; none where there is no file that can be read."""
    try:
        found = json.loads((folder / RECORD).read_bytes())
        return {str(name): float(seconds) for name, seconds in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def write(record: dict[str, float], folder: Path) -> None:
    """Put ``record`` in the place of what was there."""
    write_atomically(folder / RECORD, json.dumps(record, indent=2).encode() + b"\n")

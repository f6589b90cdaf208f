"""Fast: the loss, the fits and the chain."""

from . import chains, fits, losses
from .section import Section


def run(section: Section) -> None:
    """The points that compile come last: they take what time is left."""
    points = chains.Points(section)
    losses.run(section)
    points.plain()
    fits.run(section)
    points.compiled()

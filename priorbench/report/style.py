"""Colours that colour-blind readers can tell apart (Okabe and Ito, 2008), with a marker and a dash
for each besides.
"""

from dataclasses import dataclass

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)
COLOURS = [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY]
SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x"]
DASHES = ["solid", "dash", "dot", "dashdot"]


@dataclass(frozen=True)
class Style:
    """``colour`` is a hex code, or ``ink`` or ``muted``, which depend on light and dark."""

    colour: str
    symbol: str = "circle"
    dash: str = "solid"
    size: float = 8


NOISE = Style("muted", "circle-open", "dash")
ORACLE = Style("ink", "star", "dot")
FRONT = Style("ink", dash="solid")
FLOOR = Style("muted", dash="dot")
CHAIN = Style("muted", "star-open", "dashdot", 13)


def styles(labels: list[tuple[str, bool]]) -> dict[str, Style]:
    """A style a label, of (label, control): the oracle and other controls are grey, no two
    contenders look alike until there are 42 of them.
    """
    found: dict[str, Style] = {}
    contenders = [label for label, control in labels if not control]
    for i, label in enumerate(contenders):
        dash = DASHES[(i // len(COLOURS)) % len(DASHES)]
        found[label] = Style(COLOURS[i % len(COLOURS)], SYMBOLS[i % len(SYMBOLS)], dash)
    for i, label in enumerate(label for label, control in labels if control):
        found.setdefault(
            label,
            Style(
                "muted", ["hexagon-open", "pentagon-open", "square-open"][i % 3], DASHES[3 - i % 3]
            ),
        )
    return found | {label: ORACLE for label, _ in labels if label == "oracle"}

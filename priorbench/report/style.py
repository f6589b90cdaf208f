"""How series look: a colour, a marker and a dash for each.

Colour-blind readers can tell the colours apart (Okabe and Ito, 2008).
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
    """``colour`` is a hex code, or ``ink`` or ``muted``, which follow the light or dark theme."""

    colour: str
    symbol: str = "circle"
    dash: str = "solid"
    size: float = 8


PURE_NOISE = Style("muted", "circle-open", "dash")
ORACLE = Style("ink", "star", "dot")
FRONT = Style("ink", dash="solid")
FLOOR = Style("muted", dash="dot")
FULL_CHAIN = Style("muted", "star-open", "dashdot", 13)
CONTROL_SYMBOLS = ["hexagon-open", "pentagon-open", "square-open"]


def styles(labels: list[tuple[str, bool]]) -> dict[str, Style]:
    """A style for each (label, whether it is a control).

    The first 42 contenders all look different. The oracle and the other controls are grey.
    """
    found: dict[str, Style] = {}
    contenders = [label for label, control in labels if not control]
    for i, label in enumerate(contenders):
        dash = DASHES[(i // len(COLOURS)) % len(DASHES)]
        found[label] = Style(COLOURS[i % len(COLOURS)], SYMBOLS[i % len(SYMBOLS)], dash)
    for i, label in enumerate(label for label, control in labels if control):
        found.setdefault(label, Style("muted", CONTROL_SYMBOLS[i % 3], DASHES[3 - i % 3]))
    return found | {label: ORACLE for label, _ in labels if label == "oracle"}

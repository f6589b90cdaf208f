"""The sections of ``benchmarks/gpu.py``: a module each, with a function ``run(section)``."""

import sys

#: Section -> the seconds, its start included, after which it begins no further check. Their sum
#: stays below 330, so that all of them fit ten minutes even if several overrun.
BUDGETS = {"right": 85.0, "timed": 20.0, "fast": 150.0, "train": 35.0, "data": 35.0}


def say(line: str) -> None:
    """Print ``line`` at once, since the process may be cut off. It needs no library."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()

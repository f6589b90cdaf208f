"""The sections of ``benchmarks/gpu.py``: a module each, with a function ``run(section)``."""

import sys

#: Section -> the seconds, its start included, after which it begins no further check. Their sum
#: stays below ten minutes, with room for some to overrun.
BUDGETS = {"right": 130.0, "timed": 30.0, "fast": 210.0, "train": 110.0, "data": 40.0}


def say(line: str) -> None:
    """Print ``line`` at once, since the process may be cut off. It needs no library."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()

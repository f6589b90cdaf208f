"""Ctrl-C and SIGTERM: the first stops after tidying up, the second at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asked for the end; ``code`` is the exit code that says which."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


@contextmanager
def stops_tidily() -> Iterator[None]:
    """Inside, the first signal raises :class:`Stopped`, and the system answers the second, whatever
    the program does meanwhile.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [
        s for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN
    ]  # as nohup and shell scripts ask
    before = {s: signal.signal(s, stop) for s in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

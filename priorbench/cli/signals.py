"""Ctrl-C and SIGTERM: the first one stops a run tidily, the second one stops it at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asked the run to stop; ``code`` is the exit code that names the signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


@contextmanager
def stops_tidily() -> Iterator[None]:
    """Inside, the first signal raises :class:`Stopped`.

    The second signal ends the process at once, whatever the program is doing.
    """

    caught: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        caught.append(number)
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # nohup and shell scripts ask a process to ignore a signal
    heeded = [s for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
    before = {s: signal.signal(s, stop) for s in heeded}
    try:
        yield
    except KeyboardInterrupt as error:
        # A library that waits in C, as Ray does, raises one of its own in place of ours.
        if caught and not isinstance(error, Stopped):
            raise Stopped(caught[0]) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Clocks for tests that must not depend on how busy the machine is."""

import time


class OwnTime:
    """In the place of :mod:`time`: seconds of computing, whatever else goes on."""

    def __init__(self):
        self.ahead = 0.0

    def monotonic(self):
        return time.process_time() + self.ahead

    def sleep(self, seconds):
        self.ahead += seconds


class Ticking:
    """In the place of :mod:`time`: each reading is ``tick`` seconds after the one before."""

    def __init__(self, tick):
        self.now, self.tick = 0.0, tick

    def monotonic(self):
        self.now += self.tick
        return self.now

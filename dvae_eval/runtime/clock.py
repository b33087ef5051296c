"""The wall time of an estimate against its limit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar


class Clock:
    """Seconds since it was made, less those while it was paused.

    Parameters
    ----------
    limit : float
        Seconds that there are in all; infinite unless given.
    now : callable, optional
        Tells the time, in seconds; `Clock.usual` unless given.

    Attributes
    ----------
    usual : callable
        The wall clock.  A process of a benchmark, in which only one estimate is made, sets it to its CPU time.
    """

    usual: ClassVar[Callable[[], float]] = staticmethod(time.monotonic)

    def __init__(self, limit: float = math.inf, now: Callable[[], float] | None = None) -> None:
        self.limit, self.now = limit, now or Clock.usual
        self._started = self.now()

    @property
    def elapsed(self) -> float:
        """Seconds that have gone."""
        return self.now() - self._started

    @property
    def left(self) -> float:
        """Seconds that are left, negative beyond the limit."""
        return self.limit - self.elapsed

    def is_past(self, share: float) -> bool:
        """Return whether this share of the limit has gone; never without a limit."""
        return self.elapsed > share * self.limit

    def part(self, share: float) -> Clock:
        """Return a clock that began when this one did, with that share of its limit; pauses are its own."""
        clock = Clock(share * self.limit, self.now)
        clock._started = self._started
        return clock

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what is done within."""
        began = self.now()
        try:
            yield
        finally:
            self._started += self.now() - began

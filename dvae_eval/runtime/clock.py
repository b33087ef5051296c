"""The wall time of an estimate against its limit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar


class Clock:
    """The seconds since the clock was made, without those while it was paused, and their limit.

    Parameters
    ----------
    limit : float
        Total seconds; infinite by default.
    now : callable, optional
        Returns the time in seconds; `Clock.usual` by default.

    Attributes
    ----------
    usual : callable
        The wall clock.  A benchmark's process, which makes a single estimate, replaces it by its CPU time.
    """

    usual: ClassVar[Callable[[], float]] = staticmethod(time.monotonic)

    def __init__(self, limit: float = math.inf, now: Callable[[], float] | None = None) -> None:
        self.limit, self.now = limit, now or Clock.usual
        self._started = self.now()

    @property
    def elapsed(self) -> float:
        """Seconds used so far."""
        return self.now() - self._started

    @property
    def left(self) -> float:
        """Seconds until the limit; negative beyond it."""
        return self.limit - self.elapsed

    def is_past(self, share: float) -> bool:
        """Return whether this share of the limit is used; never without a limit."""
        return self.elapsed > share * self.limit

    def part(self, share: float) -> Clock:
        """Return a clock with the same start and this share of the limit, which is paused separately."""
        clock = Clock(share * self.limit, self.now)
        clock._started = self._started
        return clock

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time within the block."""
        began = self.now()
        try:
            yield
        finally:
            self._started += self.now() - began

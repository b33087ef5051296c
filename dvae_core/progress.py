"""Progress of long work: one value, and one type of function that receives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Progress(NamedTuple):
    """Progress within a phase of the work.

    Attributes
    ----------
    phase : str
        Its name, in words.
    done, total : int
        Work done so far, and in total.
    value, std_err : float, optional
        Estimate so far, and its standard error.
    """

    phase: str
    done: int
    total: int
    value: float | None = None
    std_err: float | None = None


Report = Callable[[Progress], Any]
# What public functions take: called with the fields of a `Progress` as arguments.
ProgressCallback = Callable[..., Any]


def ignore(progress: Progress) -> None:
    """Do nothing: the default of functions that report."""


def report_to(callback: ProgressCallback | None, n: int = len(Progress._fields)) -> Report:
    """Return a report that calls `callback` with the first n fields as arguments."""
    return ignore if callback is None else lambda progress: callback(*progress[:n])


def changed(report: Report, phase: str = "{}", **fields: Any) -> Report:
    """Return a report with other fields; `{}` in the phase stands for the original one."""
    return lambda progress: report(progress._replace(phase=phase.format(progress.phase), **fields))

"""The option --label, which names runs in tables and figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .options import Parsed

F = TypeVar("F", bound=Callable[..., Any])


def _run_and_name(text: str) -> tuple[str, str]:
    """Return a run and its name, separated by the first =."""
    run, _, label = text.partition("=")
    if not run or not label:
        raise ValueError(f"{text!r} is not of the form RUN=NAME, such as runs/a=ours")
    return run, label


def label_option(function: F) -> F:
    """Add --label."""
    return click.option(
        "--label",
        "labels",
        type=Parsed("RUN=NAME", _run_and_name),
        multiple=True,
        help="Name a run and its seeds NAME; RUN is its directory, a result, or its name as shown. $...$ is "
        "mathematics in LaTeX and in figures. Repeatable.",
    )(function)

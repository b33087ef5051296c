"""The option --label, which names runs in tables and figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class LabelType(click.ParamType["tuple[str, str]"]):
    """A run and its name, separated by the first =."""

    name = "RUN=NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return the run and its name."""
        if isinstance(value, tuple):
            return value
        run, _, label = value.partition("=")
        if not run or not label:
            self.fail(f"{value!r} is not of the form RUN=NAME, such as runs/a=ours", param, ctx)
        return run, label


def label_option(function: F) -> F:
    """Add --label."""
    return click.option(
        "--label",
        "labels",
        type=LabelType(),
        multiple=True,
        metavar="RUN=NAME",
        help="Name a run and its seeds NAME; RUN is its directory, a result, or its name as shown. $...$ is "
        "mathematics in LaTeX and in figures. Repeatable.",
    )(function)

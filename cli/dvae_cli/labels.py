"""The option --label, by which tables and figures call runs as their reader does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class LabelType(click.ParamType["tuple[str, str]"]):
    """A run and its name, with = between them; the name may hold another one."""

    name = "RUN=NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return the run and its name."""
        if isinstance(value, tuple):
            return value
        run, _, label = value.partition("=")
        if not run or not label:
            self.fail(f"{value!r} is no RUN=NAME, such as runs/a=ours", param, ctx)
        return run, label


def label_option(function: F) -> F:
    """Add --label."""
    return click.option(
        "--label",
        "labels",
        type=LabelType(),
        multiple=True,
        metavar="RUN=NAME",
        help="Call a run with its seeds NAME; RUN: its directory, a result, or its name as shown. "
        "$...$ is mathematics in LaTeX and figures. Repeatable.",
    )(function)

"""The options for the look of a table: the fields of `dvae_reports.tables.style.TableStyle`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
MOST_DIGITS = 9


class NameList(click.ParamType["tuple[str, ...]"]):
    """Names separated by commas."""

    name = "NAME,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names, with hyphens replaced by underscores."""
        if isinstance(value, tuple):
            return value
        return tuple(part.strip().replace("-", "_") for part in value.split(",") if part.strip())


class Digits(click.ParamType["int | None"]):
    """A number of decimals, or `auto`."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Return the number; None for `auto`."""
        if value == "auto":
            return None
        if not str(value).isdecimal() or int(value) > MOST_DIGITS:
            self.fail(f"{value!r} is neither auto nor an integer from 0 to {MOST_DIGITS}", param, ctx)
        return int(value)


def style_options(function: F) -> F:
    """Add the options; the command passes their values to `TableStyle`."""
    options = [
        click.option(
            "--columns",
            type=NameList(),
            default=(),
            help="Columns to show, in this order, by their names in CSV; the column of names always comes first. "
            "[default: all]",
        ),
        click.option(
            "--order",
            default="given",
            show_default=True,
            metavar="given|name|COLUMN",
            callback=lambda ctx, param, value: value.replace("-", "_"),
            help="Order of the rows: as given, by name, or by a column, largest first.",
        ),
        click.option(
            "--digits",
            type=Digits(),
            metavar="N|auto",
            default="auto",
            show_default=True,
            help="Decimals of measured numbers; auto: as many as the errors justify.",
        ),
        click.option(
            "--errors",
            "with_errors",
            type=click.Choice(["cells", "columns"]),
            callback=lambda ctx, param, value: None if value is None else value == "cells",
            help="Errors beside their numbers, as in -88.71 ± 0.12, or in separate columns. "
            "[default: cells in LaTeX, else columns]",
        ),
        click.option("--caption", default="", help="Caption. [default: the title of the table]"),
        click.option(
            "--latex-label",
            "label",
            default="",
            metavar="LABEL",
            help="Label for \\ref, such as tab:results.",
        ),
        click.option(
            "--notes/--no-notes", default=True, show_default=True, help="Show legend and notes below the table."
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function

"""The options for the look of a table: the fields of `dvae_reports.tables.style.TableStyle`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .options import Parsed

F = TypeVar("F", bound=Callable[..., Any])
MOST_DIGITS = 9


def _names(text: str) -> tuple[str, ...]:
    """Return names separated by commas, with hyphens replaced by underscores."""
    return tuple(part.strip().replace("-", "_") for part in text.split(",") if part.strip())


def _decimals(text: str) -> int | None:
    """Return a number of decimals; None for `auto`."""
    if text != "auto" and (not text.isdecimal() or int(text) > MOST_DIGITS):
        raise ValueError(f"{text!r} is neither auto nor an integer from 0 to {MOST_DIGITS}")
    return None if text == "auto" else int(text)


def style_options(function: F) -> F:
    """Add the options; the command passes their values to `TableStyle`."""
    options = [
        click.option(
            "--columns",
            type=Parsed("NAME,...", _names),
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
            type=Parsed("N|auto", _decimals),
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

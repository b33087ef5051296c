"""dvae-eval table: results beside the paper's, as a table to print, to paste or to publish."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dvae_core.errors import ConfigError, ResultError
from dvae_reports.names import TABLE_SUFFIXES, TABLES

from ..options import FORCE, OUTPUT, common_options

if TYPE_CHECKING:
    from dvae_reports.results.loaded import LoadedResult
    from dvae_reports.tables.formats import Table

__all__ = ["command", "print_tables"]


@click.command("table", epilog="Kinds:\n\n\b\n" + "\n".join(f"  {kind:9} {text}" for kind, text in TABLES.items()))
@click.argument("results", nargs=-1, type=click.Path(path_type=Path, exists=True), metavar="[RESULT]...")
@click.option("--kind", type=click.Choice(list(TABLES)), default="table1", show_default=True, help="Which table.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(TABLE_SUFFIXES)),
    help="[default: text, or what the name of -o ends in]",
)
@click.option("--with-later", is_flag=True, help="Show results that were published after the paper, too (table1).")
@click.option("--references", is_flag=True, help="List the publications in full below the table (table1).")
@click.option("--commands", is_flag=True, help="Add a table of the commands that made every result.")
@click.option("--output", "-o", type=OUTPUT, help="[default: standard output]")
@click.option("--force", is_flag=True, help=FORCE)
@common_options
def command(
    results: tuple[Path, ...],
    kind: str,
    format_name: str | None,
    with_later: bool,
    references: bool,
    commands: bool,
    output: Path | None,
    force: bool,
    quiet: bool,
    debug: bool,
) -> int:
    """Show results as a table, beside the paper's.

    \b
    Example:
      dvae-eval table runs/mnist-*
      dvae-eval table runs/mnist-* -o table1.tex
      dvae-eval table --kind ablation ablation/* --commands -o ablation.md
      dvae-eval table --kind results runs/*/ll.json --format csv

    RESULT is a run directory or a result file. Runs that differ in their seeds alone become one row, mean and
    standard deviation. What is best is bold; a result that may be wrong is marked with † and never the best, and
    makes the exit status 3; one that could be better is marked with ¶. Without RESULT, the paper's table alone.
    """
    from dvae_reports.tables import command_table, make_tables
    from dvae_reports.tables.formats import write_tables

    from ..console import say
    from ..outputs import STANDARD_OUTPUT, find_output
    from ..runner import NOT_TRUSTWORTHY

    for option, given in (("--with-later", with_later), ("--references", references)):
        if given and kind != "table1":
            raise ConfigError(f"{option}: goes with --kind table1, not {kind}; leave it out")
    place = find_output(output, force)
    chosen = format_name or _format_of(place.path)
    found, measured = _read(results, kind)
    tables = make_tables(kind, measured, with_later=with_later, references=references)
    if commands and found:
        tables.append(command_table(found))
    if place and place.stream != STANDARD_OUTPUT:
        place.write(write_tables(tables, chosen))
        say(f"saved: {place}", quiet)
    else:
        print_tables(tables, chosen)
    # Architectures do not hang on any measurement.
    distrusted = [one for one in measured if not one.result.trustworthy and kind != "table2"]
    for one in distrusted:
        say(f"may be wrong: {one.path}", quiet)
    return NOT_TRUSTWORTHY if distrusted else 0


def _format_of(path: Path | None) -> str:
    """Return the format that the name of a file asks for; ConfigError for one that is none of them."""
    formats = {suffix: name for name, suffix in TABLE_SUFFIXES.items()}
    suffix = path.suffix.lower() if path else ""
    if suffix and suffix not in formats:
        raise ConfigError(
            f"--output: {path}: no format is called {suffix}; give {', '.join(formats)}, or --format as well"
        )
    return formats.get(suffix, "text")


def _read(paths: tuple[Path, ...], kind: str) -> tuple[list[LoadedResult], list[LoadedResult]]:
    """Return all results at `paths`, and those that a kind of table is made of; ResultError for a path without."""
    from dvae_reports.results.loaded import load_results

    wanted = {"results": ("ll", "logz"), "benchmark": ("benchmark",)}.get(kind, ("ll",))
    everything: list[LoadedResult] = []
    measured: list[LoadedResult] = []
    for path in paths:
        found = load_results(path)
        chosen = [one for one in found if kind == "table2" or one.result.kind in wanted]
        if not chosen:
            raise ResultError(
                f"{path}: holds no result of kind {' or '.join(wanted)}; make one with dvae-eval {wanted[0]}"
            )
        everything += found
        measured += chosen
    if kind in ("results", "benchmark") and not measured:
        raise ResultError("RESULT: none given; give run directories or result files")
    return everything, measured


def print_tables(tables: Sequence[Table], format_name: str) -> None:
    """Print tables on standard output, as wide as its terminal and with its type if it is one."""
    from dvae_core.terminal import terminal_width
    from dvae_reports.tables.formats import map_texts, write_tables

    from ..encoding import encodable

    out, width = sys.stdout, terminal_width(sys.stdout)
    color = width is not None and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    if format_name == "text":
        # Before the layout: a symbol may become several letters.
        tables = [map_texts(table, lambda text: encodable(text, out.encoding)) for table in tables]
    click.echo(write_tables(tables, format_name, width=width, color=color), nl=False)

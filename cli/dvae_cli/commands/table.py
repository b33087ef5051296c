"""dvae-eval table: results next to those of the paper, as text, Markdown, LaTeX, CSV or HTML."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dvae_core.errors import ConfigError, ResultError
from dvae_reports.names import TABLE_SUFFIXES, TABLES

from ..labels import label_option
from ..options import OUTPUT, RESULT, common_options, file_options
from ..sections import Command
from ..table_options import style_options

if TYPE_CHECKING:
    from dvae_reports.results.loaded import LoadedResult
    from dvae_reports.tables.table import Table

    from ..outputs import Output


@click.command(
    "table",
    cls=Command,
    epilog="Kinds:\n\n\b\n" + "\n".join(f"  {kind:9} {text}" for kind, text in TABLES.items()),
)
@click.argument("results", nargs=-1, type=RESULT, metavar="[RESULT]...")
@click.option(
    "--kind",
    type=click.Choice(list(TABLES)),
    default="table1",
    show_default=True,
    help="Kind of table, see below.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(TABLE_SUFFIXES)),
    help="Format of the table. [default: text, or from the suffix of --output]",
)
@click.option("--with-later", is_flag=True, help="Also show results published after the paper (table1).")
@click.option("--references", is_flag=True, help="List the cited publications below the table (table1).")
@click.option("--baseline", default="", metavar="RUN", help="Add the gain of each run over this run (results).")
@click.option("--commands", is_flag=True, help="Add a table of the commands that made each result.")
@label_option
@style_options
@click.option(
    "--bib",
    type=OUTPUT,
    help="Cite published rows by \\cite (LaTeX), and add the missing entries to this .bib file.",
)
@file_options("File to write; in CSV, further tables go to files beside it. [default: standard output]")
@common_options
def command(
    results: tuple[Path, ...],
    kind: str,
    format_name: str | None,
    with_later: bool,
    references: bool,
    baseline: str,
    commands: bool,
    labels: tuple[tuple[str, str], ...],
    bib: Path | None,
    output: Path | None,
    force: bool,
    **look: Any,
) -> int:
    """Show results in a table, next to the paper's.

    \b
    Example:
      dvae-eval table runs/mnist-*
      dvae-eval table runs/mnist-* -o table1.tex --bib table1.bib
      dvae-eval table --kind ablation ablation/* --commands -o ablation.md
      dvae-eval table --kind results runs/*/ll.json --format csv
      dvae-eval table --kind results runs/a runs/b --baseline runs/a

    RESULT is a run directory, a result file or a .jsonl file of several results; without it, only the rows of
    the paper are shown. Runs that differ only in their seeds form one row, with their mean and standard
    deviation. The best result is bold. A result that may be wrong is marked with †, is never the best, and leads
    to exit status 3; one that could be better is marked with ¶.
    """
    from dvae_reports.results.labels import labelled
    from dvae_reports.tables import command_table, make_tables
    from dvae_reports.tables.bibtex import write_bib
    from dvae_reports.tables.style import TableStyle, styled_tables

    from ..console import say
    from ..outputs import STANDARD_OUTPUT, find_output
    from ..runner import NOT_TRUSTWORTHY

    of_kind = {"--with-later": (with_later, "table1"), "--references": (references, "table1")}
    for option, (given, its_kind) in {**of_kind, "--baseline": (baseline, "results")}.items():
        if given and kind != its_kind:
            raise ConfigError(f"{option}: needs --kind {its_kind}, not {kind}; omit the option")
    place = find_output(output, force)
    chosen = format_name or _format_of(place.path)
    for option, given in {"--bib": bib, "--latex-label": look["label"]}.items():
        if given and chosen != "latex":
            raise ConfigError(f"{option}: needs LaTeX, not {chosen}; give --format latex, or omit the option")
    entries = find_output(bib, force=True, option="--bib")  # existing entries stay
    known = _bib_before(entries)
    found = labelled(_read(results, kind), labels)
    measured = [one for one in found if _is_wanted(one, kind)]
    # A label also names the run as baseline.
    baseline = dict(labels).get(baseline, baseline)
    tables = make_tables(kind, measured, with_later=with_later, references=references, baseline=baseline)
    if commands and found:
        tables.append(command_table(found))
    tables = styled_tables(tables, TableStyle(**look, cite=bool(entries)), chosen)
    contents = _contents(tables, chosen, place, force) if place and place.stream != STANDARD_OUTPUT else []
    contents += [(entries, write_bib(tables, known))] if entries else []
    for file, content in contents:
        file.write(content)
        say(f"saved: {file}")
    if not place or place.stream == STANDARD_OUTPUT:
        print_tables(tables, chosen)
    _say_what_is_left_out(tables, chosen)
    # Table 2 shows architectures, which depend on no measurement.
    distrusted = [one for one in measured if not one.result.trustworthy and kind != "table2"]
    for one in distrusted:
        say(f'may be wrong: {one.path}; the file lists the failed checks and what to do, under "reasons"')
    return NOT_TRUSTWORTHY if distrusted else 0


def _contents(tables: Sequence[Table], format_name: str, place: Output, force: bool) -> list[tuple[Output, str]]:
    """Return the files with their contents: one file for all tables or, in CSV, one file per table."""
    from dvae_reports.tables.formats import write_table, write_tables

    from ..outputs import find_output

    if format_name != "csv" or place.path is None:
        return [(place, write_tables(tables, format_name))]
    path = place.path
    beside = [find_output(path.with_name(f"{path.stem}-{t.name}{path.suffix}"), force) for t in tables[1:]]
    return [(file, write_table(table, "csv")) for file, table in zip([place, *beside], tables, strict=True)]


def _bib_before(entries: Output) -> str:
    """Return the present content of the .bib file; ConfigError if it is not text."""
    if entries.path is None or not entries.path.exists():
        return ""
    try:
        return entries.path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--bib: {entries.path}: cannot be read as UTF-8 ({error}); save it as UTF-8, or give another name"
        ) from error


def _say_what_is_left_out(tables: Sequence[Table], format_name: str) -> None:
    """Print the columns of LaTeX tables that did not fit the page."""
    from dvae_reports.tables.latex import left_out

    from ..console import say

    for table in tables if format_name == "latex" else ():
        for line in left_out(table):
            say(f"{table.title}: {line}")


def _format_of(path: Path | None) -> str:
    """Return the format for the suffix of a file, text without one; ConfigError for an unknown suffix."""
    formats = {suffix: name for name, suffix in TABLE_SUFFIXES.items()}
    suffix = path.suffix.lower() if path else ""
    if suffix and suffix not in formats:
        raise ConfigError(
            f"--output: {path}: unknown suffix {suffix}; end it in {', '.join(formats)}, or give --format as well"
        )
    return formats.get(suffix, "text")


# Kinds of results that a table shows, if not only log-likelihoods; empty for any kind.
WANTED = {"results": ("ll", "logz"), "table2": (), "benchmark": ("benchmark",)}


def _read(paths: tuple[Path, ...], kind: str) -> list[LoadedResult]:
    """Return all results at `paths`; ResultError for a path without a result for this kind of table."""
    from dvae_reports.results.loaded import load_results

    everything: list[LoadedResult] = []
    for path in paths:
        found = load_results(path)
        if not any(_is_wanted(one, kind) for one in found):
            kinds = WANTED.get(kind, ("ll",))
            raise ResultError(
                f"{path}: has no result of kind {' or '.join(kinds)}; make one with dvae-eval {kinds[0]}"
            )
        everything += found
    if kind in ("results", "benchmark") and not everything:
        raise ResultError("RESULT: missing; give run directories or result files")
    return everything


def _is_wanted(one: LoadedResult, kind: str) -> bool:
    """Return whether a kind of table shows this result."""
    wanted = WANTED.get(kind, ("ll",))
    return not wanted or one.result.kind in wanted


def print_tables(tables: Sequence[Table], format_name: str) -> None:
    """Print tables on standard output; on a terminal, fitted to its width and with its bold type."""
    from dvae_core.terminal import terminal_width
    from dvae_reports.tables.formats import write_tables
    from dvae_reports.tables.table import map_texts

    from ..encoding import encodable

    out, width = sys.stdout, terminal_width(sys.stdout)
    color = width is not None and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    if format_name == "text":
        # Before the layout: a symbol may become several characters.
        tables = [map_texts(table, lambda text: encodable(text, out.encoding)) for table in tables]
    click.echo(write_tables(tables, format_name, width=width, color=color), nl=False)

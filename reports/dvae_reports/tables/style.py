"""How a table is to look, in one value, and the table made so: which columns and rows, digits, caption, notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dvae_core.errors import ConfigError

from .formats import FOR_PROGRAMS
from .table import Cell, Column, Section, Table, map_cells

GIVEN, BY_NAME = "given", "name"


@dataclass(frozen=True, slots=True)
class TableStyle:
    """How tables are to look; the defaults leave them as they are.

    Attributes
    ----------
    columns : tuple of str
        Names of the columns in their order, after that of the rows' names; empty for all.
    order : str
        `given`, `name`, or a column, whose largest number then comes first; within every section.
    digits : int or None
        Decimals of measured numbers; None for as many as their errors allow.  Published ones stay as printed.
    with_errors : bool or None
        Whether a number and its error are one cell; None for LaTeX alone.
    caption : str
        Of the first table; empty for its own title.
    label : str
        What LaTeX refers to the first table by; others add their names to it.
    notes : bool
        Whether legend and notes are printed.
    cite : bool
        Whether published rows are cited by their keys in a .bib file (LaTeX).
    """

    columns: tuple[str, ...] = ()
    order: str = GIVEN
    digits: int | None = None
    with_errors: bool | None = None
    caption: str = ""
    label: str = ""
    notes: bool = True
    cite: bool = False


def styled_tables(tables: Sequence[Table], style: TableStyle, format: str) -> list[Table]:
    """Return the tables as `style` wants them in a format of `dvae_reports.names.TABLE_SUFFIXES`.

    A table that has nothing in the chosen columns is left out, unless none has.

    Raises
    ------
    ConfigError
        If no table has a column of a given name; the message lists those that there are.
    """
    names = list(dict.fromkeys(column.name for table in tables for column in table.columns))
    wanted = [("--columns", name) for name in style.columns]
    wanted += [("--order", style.order)] if style.order not in (GIVEN, BY_NAME) else []
    for option, name in wanted:
        if name not in names:
            raise ConfigError(f"{option}: no column is called {name}; give some of {', '.join(names)}")
    found = [_styled(table, style, format) for table in tables]
    kept = [table for table in found if _says_anything(table) or not style.columns] or found[:1]
    return [_captioned(table, style, is_first=not i) for i, table in enumerate(kept)]


def _says_anything(table: Table) -> bool:
    """Return whether a table says anything of the rows that its first column names."""
    return any(cell.text for row in table.rows for cell in row[1:])


def _styled(table: Table, style: TableStyle, format: str) -> Table:
    """Return a table with its rows, numbers and columns as they are wanted."""
    table = replace(_ordered(table, style.order), has_notes=style.notes, has_citations=style.cite)
    if format not in FOR_PROGRAMS:
        if style.digits is not None:
            digits = style.digits
            table = map_cells(table, lambda cell, _: cell.rounded_to(digits))
        if format == "latex" if style.with_errors is None else style.with_errors:
            table = _with_errors(table, style.columns)
    return _chosen(table, style.columns) if style.columns else table


def _ordered(table: Table, order: str) -> Table:
    """Return a table with the rows of every section in order; unnumbered ones come last."""
    names = [column.name for column in table.columns]
    if order == BY_NAME:
        sections = [Section(s.title, sorted(s.rows, key=lambda row: row[0].text)) for s in table.sections]
    elif order in names:
        i = names.index(order)
        sections = [Section(s.title, sorted(s.rows, key=lambda row: _rank(row[i]))) for s in table.sections]
    else:
        sections = table.sections
    return replace(table, sections=sections)


def _rank(cell: Cell) -> tuple[bool, float, str]:
    """Return a key that puts the largest number first, then texts, then what is empty."""
    shown = cell.text if cell.value is None else cell.value
    try:
        return False, -float(shown), ""
    except ValueError:
        return True, float(not shown), str(shown)


def _with_errors(table: Table, chosen: Sequence[str]) -> Table:
    """Return a table whose numbers have their errors beside them, without the columns of these errors.

    An error whose column was chosen stays there.
    """
    with_error = {
        column.name
        for i, column in enumerate(table.columns)
        if column.errors and not {*column.errors} & {*chosen} and any(row[i].error_text for row in table.rows)
    }
    replaced = {name for column in table.columns if column.name in with_error for name in column.errors}

    def changed(cell: Cell, column: Column) -> Cell:
        is_one = column.name in with_error and cell.text and cell.error_text
        return replace(cell, text=f"{cell.text} ± {cell.error_text}") if is_one else cell

    def explained(column: Column) -> Column:
        if column.name not in with_error or not column.error_name:
            return column
        return replace(column, meaning=f"{column.meaning}, ± {column.error_name}".removeprefix(", "))

    table = replace(map_cells(table, changed), columns=[*map(explained, table.columns)])
    return table.keeping([i for i, column in enumerate(table.columns) if column.name not in replaced])


def _chosen(table: Table, names: Sequence[str]) -> Table:
    """Return a table with its first column, which names the rows, and those of these names."""
    places = {column.name: i for i, column in enumerate(table.columns)}
    return table.keeping([0, *(i for name in dict.fromkeys(names) if (i := places.get(name, 0)))])


def _captioned(table: Table, style: TableStyle, *, is_first: bool) -> Table:
    """Return a table with its caption and its label."""
    if is_first:
        return replace(table, title=style.caption or table.title, label=style.label)
    return replace(table, label=f"{style.label}-{table.name}" if style.label else "")

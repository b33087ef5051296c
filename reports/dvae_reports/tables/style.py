"""The style of tables: columns, order of rows, digits, caption, notes; and its application."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dvae_core.errors import ConfigError

from .formats import FOR_PROGRAMS
from .table import Cell, Column, Section, Table, map_cells

GIVEN, BY_NAME = "given", "name"


@dataclass(frozen=True, slots=True)
class TableStyle:
    """The style of tables; the defaults change nothing.

    Attributes
    ----------
    columns : tuple of str
        Names of the columns to show after the first one, in this order; empty for all.
    order : str
        Order of rows within a section: `given`, `name`, or the name of a column, largest number first.
    digits : int or None
        Decimals of measured numbers; None for those that their errors allow.  Published numbers stay as printed.
    with_errors : bool or None
        Whether a number and its error share a cell; None: only in LaTeX.
    caption : str
        Caption of the first table; empty for its title.
    label : str
        LaTeX label of the first table; other tables append their names.
    notes : bool
        Whether to print legend and notes.
    cite : bool
        Whether published rows cite the keys of a .bib file (LaTeX).
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
    """Return the tables in this style, for a format of `dvae_reports.names.TABLE_SUFFIXES`.

    Tables that are empty in the chosen columns are omitted, unless all are.

    Raises
    ------
    ConfigError
        If no table has a column of a given name; the message lists the names.
    """
    names = list(dict.fromkeys(column.name for table in tables for column in table.columns))
    wanted = [("--columns", name) for name in style.columns]
    wanted += [("--order", style.order)] if style.order not in (GIVEN, BY_NAME) else []
    for option, name in wanted:
        if name not in names:
            raise ConfigError(f"{option}: no column is called {name}; choose from {', '.join(names)}")
    found = [_styled(table, style, format) for table in tables]
    kept = [table for table in found if _says_anything(table) or not style.columns] or found[:1]
    return [_captioned(table, style, is_first=not i) for i, table in enumerate(kept)]


def _says_anything(table: Table) -> bool:
    """Return whether a table has any text after its first column."""
    return any(cell.text for row in table.rows for cell in row[1:])


def _styled(table: Table, style: TableStyle, format: str) -> Table:
    """Return a table with the order, digits, errors and columns of a style."""
    table = replace(_ordered(table, style.order), has_notes=style.notes, has_citations=style.cite)
    if format not in FOR_PROGRAMS:
        if style.digits is not None:
            digits = style.digits
            table = map_cells(table, lambda cell, _: cell.rounded_to(digits))
        if format == "latex" if style.with_errors is None else style.with_errors:
            table = _with_errors(table, style.columns)
    return _chosen(table, style.columns) if style.columns else table


def _ordered(table: Table, order: str) -> Table:
    """Return a table with the rows of every section sorted; rows without a number come last."""
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
    """Return a sorting key: numbers from the largest, then texts, then empty cells."""
    shown = cell.text if cell.value is None else cell.value
    try:
        return False, -float(shown), ""
    except ValueError:
        return True, float(not shown), str(shown)


def _with_errors(table: Table, chosen: Sequence[str]) -> Table:
    """Return a table with errors in the cells of their numbers, without the columns of these errors.

    An error whose column was chosen keeps its column.
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
    """Return a table with its first column and the columns of these names."""
    places = {column.name: i for i, column in enumerate(table.columns)}
    return table.keeping([0, *(i for name in dict.fromkeys(names) if (i := places.get(name, 0)))])


def _captioned(table: Table, style: TableStyle, *, is_first: bool) -> Table:
    """Return a table with its caption and its label."""
    if is_first:
        return replace(table, title=style.caption or table.title, label=style.label)
    return replace(table, label=f"{style.label}-{table.name}" if style.label else "")

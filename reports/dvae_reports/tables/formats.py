"""Formats of tables: text, Markdown, LaTeX, HTML, and for programs CSV and JSON.

The best numbers are bold; plain text marks them with an asterisk.  CSV and JSON have unrounded numbers, the other
formats rounded ones.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from ..page import page_template
from .latex import write_latex
from .table import Cell, Column, Table, table_notes, without_empty_columns
from .text_layout import BEST, lay_out


def write_table(table: Table, format: str, *, width: int | None = None, color: bool = False) -> str:
    """Return the table in a format of `FORMATS`, ending with a line break.

    Parameters
    ----------
    table : Table
    format : str
        `text`, `markdown`, `latex`, `csv`, `json` or `html`.
    width : int, optional
        Columns of the terminal, for `text`; None does not break lines.
    color : bool
        Use the terminal's bold and faint type, for `text`.
    """
    if format in FOR_PROGRAMS:
        return FORMATS[format](table)
    shown = without_empty_columns(table)
    return _text(shown, width, color) if format == "text" else FORMATS[format](shown)


def write_tables(tables: Sequence[Table], format: str, *, width: int | None = None, color: bool = False) -> str:
    """Return several tables in a format of `FORMATS`, in sequence; HTML and JSON are one document."""
    if format == "json":
        return _json(tables)
    if format == "html":
        return _html([without_empty_columns(table) for table in tables])
    return "\n".join(write_table(table, format, width=width, color=color) for table in tables)


def _text(table: Table, width: int | None, color: bool) -> str:
    """Return the table for a terminal or a log."""
    return lay_out(table, table_notes(table, f"{BEST} best"), width, color)


def _markdown(table: Table) -> str:
    """Return a Markdown table per section, in GitHub's dialect."""
    lines = [f"**{_md(table.title)}**", ""]
    for section in table.sections:
        lines += [*([_md(section.title), ""] if section.title else [])]
        lines += ["| " + " | ".join(_md(column.heading) for column in table.columns) + " |"]
        lines += ["| " + " | ".join("---:" if column.is_number else "---" for column in table.columns) + " |"]
        lines += ["| " + " | ".join(map(_markdown_cell, row)) + " |" for row in section.rows]
        lines += [""]
    lines += [line for note in table_notes(table, "Bold: best") for line in (_md(note), "")]
    return "\n".join(lines[:-1]) + "\n"


def _markdown_cell(cell: Cell) -> str:
    """Return a cell in Markdown."""
    if cell.is_code:
        # Inside code, only the separator of cells needs escaping.
        return f"`{cell.text.replace('|', chr(92) + '|')}`{cell.mark}"
    text = _md(cell.text)
    return (f"**{text}**" if cell.is_best else text) + cell.mark


def _md(text: str) -> str:
    """Return `text` with Markdown's special characters escaped; MkDocs would show the backslash before a <."""
    return "".join("&lt;" if c == "<" else f"\\{c}" if c in r"\`*_[]>|#$~" else c for c in text)


def _csv(table: Table) -> str:
    """Return CSV with a header: section, unrounded values, best columns, marks."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["section", *(column.name for column in table.columns), "best", "marks"])
    for section in table.sections:
        for row in section.rows:
            best = " ".join(c.name for c, cell in zip(table.columns, row, strict=True) if cell.is_best)
            marks = "".join(cell.mark for cell in row)
            writer.writerow([section.title, *(_raw(cell) for cell in row), best, marks])
    return buffer.getvalue()


def _raw(cell: Cell) -> str:
    """Return the unrounded number, else the text."""
    return cell.text if cell.value is None else str(cell.value)


def _json(tables: Sequence[Table]) -> str:
    """Return JSON: a list of tables with columns, rows (unrounded and as text, best, marks) and notes."""
    return json.dumps([*map(_object, tables)], ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _object(table: Table) -> dict[str, Any]:
    """Return a table as an object for JSON."""
    names = [column.name for column in table.columns]
    rows = [
        {
            "section": section.title,
            "values": {c.name: _number(cell, c) for c, cell in zip(table.columns, row, strict=True)},
            "texts": {name: cell.text for name, cell in zip(names, row, strict=True)},
            "best": [name for name, cell in zip(names, row, strict=True) if cell.is_best],
            "marks": "".join(cell.mark for cell in row),
        }
        for section in table.sections
        for row in section.rows
    ]
    columns = [{"name": column.name, "heading": column.heading} for column in table.columns]
    notes = table_notes(table, "best")
    return {"name": table.name, "title": table.title, "columns": columns, "rows": rows, "notes": notes}


def _number(cell: Cell, column: Column) -> float | int | str | None:
    """Return the unrounded number, else the text; None for an empty cell."""
    if not column.is_number or cell.value is None:
        return (cell.text if cell.value is None else cell.value) or None
    return float(cell.value) if isinstance(cell.value, str) else cell.value


def _html(tables: Sequence[Table]) -> str:
    """Return a self-contained HTML page with the tables."""
    shown = [(table, table_notes(table, "Bold: best")) for table in tables]
    return page_template("table.html.j2").render(tables=shown) + "\n"


# Formats for programs, which keep empty columns.
FOR_PROGRAMS = ("csv", "json")
FORMATS: dict[str, Callable[[Table], str]] = {
    "text": lambda table: _text(table, None, False),
    "markdown": _markdown,
    "latex": write_latex,
    "csv": _csv,
    "json": lambda table: _json([table]),
    "html": lambda table: _html([table]),
}

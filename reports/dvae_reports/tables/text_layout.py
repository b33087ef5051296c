"""The layout of a table as text, at most as wide as the terminal, with names and marks in full.

If a table is wider than the terminal, its headings are broken into lines; then columns are omitted, with a note on
how to see them; if that is not enough, each row becomes a paragraph with all its cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dvae_core.terminal import cell_width, fold, fold_command, fold_parts

if TYPE_CHECKING:
    from .table import Cell, Column, Table

BEST = "*"
GAP, RULE = "  ", "─"
# The columns that may be omitted, in this order, and how many of them before rows become paragraphs.
GIVE_WAY = (
    "source",
    "n_samples",
    "n_repeats",
    "encoder_hidden",
    "sharing",
    "prior_hidden",
    "n_runs",
    "paper",
    "in_errors",
    "std_err_gain",
    "std_dev",
    "elbo",
    "gap_to_paper",
)
MOST_LEFT_OUT = 5
STYLES = {"bold": "\x1b[1m", "faint": "\x1b[2m", "italic": "\x1b[3m"}
PLAIN = "\x1b[0m"


def lay_out(table: Table, notes: Sequence[str], width: int | None, color: bool) -> str:
    """Return a table as lines of text, each with a line break.

    Parameters
    ----------
    table : Table
        Without empty columns.
    notes : sequence of str
        Lines below the table.
    width : int or None
        Columns of the terminal; None does not break lines.
    color : bool
        Use the terminal's bold, faint and italic type.
    """
    kept = _columns_that_fit(table, width)
    lines = [_styled(line, "bold", color) for line in fold(table.title, width, "")]
    lines += ["", *(_grid(table, kept, width, color) if kept else _paragraphs(table, width, color))]
    said = [*([_left_out(table, kept)] if kept and len(kept) < len(table.columns) else []), *notes]
    lines += [""] if said else []
    lines += [_styled(line, "faint", color) for note in said for line in fold(note, width)]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _columns_that_fit(table: Table, width: int | None) -> list[int]:
    """Return the places of the columns to show; none if rows become paragraphs."""
    kept = list(range(len(table.columns)))
    if width is None:
        return kept
    for name in (None, *GIVE_WAY):
        kept = [i for i in kept if table.columns[i].name != name or _is_marked(table, i)]
        fits = sum(_widths(table, i)[0] for i in kept) + len(GAP) * (len(kept) - 1) <= width
        if fits and len(table.columns) - len(kept) <= MOST_LEFT_OUT and _says_something(table, kept):
            return kept
    return []


def _says_something(table: Table, kept: Sequence[int]) -> bool:
    """Return whether every row has text after its name in these columns."""
    rows = (row for section in table.sections for row in section.rows)
    return len(table.columns) == 1 or all(any(row[i].text for i in kept[1:]) for row in rows)


def _is_marked(table: Table, i: int) -> bool:
    """Return whether a column has the names or a mark, and so is never omitted."""
    return i == 0 or any(row[i].mark for section in table.sections for row in section.rows)


def _left_out(table: Table, kept: Sequence[int]) -> str:
    """Return the note on the omitted columns and how to see them."""
    names = [column.heading for i, column in enumerate(table.columns) if i not in kept]
    return f"Columns that do not fit: {', '.join(names)}; to see them, widen the window or pipe into less -S."


def _widths(table: Table, i: int) -> tuple[int, int]:
    """Return the width of a column with its heading broken into lines, and with its heading on one line."""
    heading = table.columns[i].heading
    content = max((cell_width(_text(row[i])) for section in table.sections for row in section.rows), default=0)
    return max(content, *map(cell_width, heading.split(" "))), max(content, cell_width(heading))


# --- side by side ---------------------------------------------------------------------------------------------


def _grid(table: Table, kept: Sequence[int], width: int | None, color: bool) -> Iterator[str]:
    """Yield the headings, a rule, and the rows of every section below its title."""
    columns = [table.columns[i] for i in kept]
    widths = _column_widths(table, kept, width)
    total = sum(widths) + len(GAP) * (len(widths) - 1)
    yield from _headings(columns, widths, color)
    yield RULE * total
    for n, section in enumerate(table.sections):
        if n:
            yield ""
        if section.title:
            yield from (_styled(line, "italic", color) for line in fold(section.title, width))
        for row in section.rows:
            cells = [row[i] for i in kept]
            yield GAP.join(map(_aligned, cells, columns, widths, [color] * len(cells)))


def _column_widths(table: Table, kept: Sequence[int], width: int | None) -> list[int]:
    """Return the widths of columns; headings stay on one line as far as there is room."""
    widths = [_widths(table, i) for i in kept]
    room = None if width is None else width - sum(least for least, _ in widths) - len(GAP) * (len(widths) - 1)
    found = []
    for least, whole in widths:
        if room is not None and whole - least > room:
            found.append(least)
            continue
        room = None if room is None else room - (whole - least)
        found.append(whole)
    return found


def _headings(columns: Sequence[Column], widths: Sequence[int], color: bool) -> Iterator[str]:
    """Yield the lines of the headings, aligned at the bottom."""
    folded = [fold(column.heading, width, "") for column, width in zip(columns, widths, strict=True)]
    height = max(map(len, folded))
    for line in zip(*([""] * (height - len(lines)) + lines for lines in folded), strict=True):
        yield GAP.join(map(_padded, line, columns, widths))


def _aligned(cell: Cell, column: Column, width: int, color: bool) -> str:
    """Return a cell padded to the width of its column, bold if it is the best."""
    padded = _padded(_text(cell), column, width)
    return _styled(padded, "bold", color) if cell.is_best else padded


def _padded(text: str, column: Column, width: int) -> str:
    """Return a text padded to the width of its column; numbers are right-aligned."""
    spaces = " " * (width - cell_width(text))
    return spaces + text if column.is_number else text + spaces


# --- one below the other ----------------------------------------------------------------------------------------


def _paragraphs(table: Table, width: int | None, color: bool) -> Iterator[str]:
    """Yield a paragraph per row: its name, then its cells with their headings."""
    for n, section in enumerate(table.sections):
        if n:
            yield ""
        if section.title:
            yield from (_styled(line, "italic", color) for line in fold(section.title, width))
        for name, *cells in section.rows:
            yield from (_styled(line, "bold", color) for line in fold(_text(name), width, ""))
            pairs = [(column, cell) for column, cell in zip(table.columns[1:], cells, strict=True) if cell.text]
            said = [f"{column.heading} {_text(cell)}" for column, cell in pairs if not cell.is_code]
            yield from fold_parts(said, width, indent="  ") if said else []
            for _, cell in pairs:
                if cell.is_code:
                    yield from fold_command(_text(cell), width, indent="  ")


def _text(cell: Cell) -> str:
    """Return a cell's text with its marks."""
    return f"{cell.text}{BEST if cell.is_best else ''}{cell.mark}"


def _styled(text: str, style: str, color: bool) -> str:
    """Return a text in a style of the terminal."""
    return f"{STYLES[style]}{text}{PLAIN}" if color and text.strip() else text

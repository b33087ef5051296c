"""A table as a value: its columns, its rows, and what is said below them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from dvae_core.text import error_text, fixed, signed


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell: a text, and what stands behind it.

    Attributes
    ----------
    text : str
        As it is printed, without its mark.
    value : float, int, str or None
        The number with all its digits; None where there is none.
    is_best : bool
        Whether it is the best of its section.
    mark : str
        The sign of a note below the table.
    is_code : bool
        Whether the text is a command.
    digits : int or None
        Decimals that `value` is rounded to in `text`; None where it is no rounded number.
    is_signed : bool
        Whether a positive number has its sign, too.
    error : float, str or None
        What the number is compared by, for one cell of both; a text where it is a published one.
    cite : str
        The publication's key that the text names.
    """

    text: str = ""
    value: float | int | str | None = None
    is_best: bool = False
    mark: str = ""
    is_code: bool = False
    digits: int | None = None
    is_signed: bool = False
    error: float | str | None = None
    cite: str = ""

    def rounded_to(self, digits: int) -> Cell:
        """Return the cell with `digits` decimals, if it is a rounded number."""
        if self.digits is None or not isinstance(self.value, int | float):
            return self
        text = (signed if self.is_signed else fixed)(self.value, digits)
        return replace(self, text=text, digits=digits)

    @property
    def error_text(self) -> str:
        """The error with as many decimals as the number has, with two digits of its own if that leaves none."""
        if self.error is None or isinstance(self.error, str) or self.digits is None:
            return str(self.error or "")
        text = fixed(self.error, self.digits)
        return text if any(c in text for c in "123456789") else error_text(self.error)


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes
    ----------
    heading, name : str
        What stands above it, and what programs call it.
    is_number : bool
        Whether it holds numbers, which stand on the right.
    meaning : str
        What the legend says of it.
    latex : str
        The heading in LaTeX, where it is another.
    errors : tuple of str
        Names of the columns that an error in the same cell replaces.
    error_name : str
        What that error is.
    """

    heading: str
    name: str
    is_number: bool = True
    meaning: str = ""
    latex: str = ""
    errors: tuple[str, ...] = ()
    error_name: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Rows under a title of their own; the title is empty where a table has one section."""

    title: str
    rows: list[list[Cell]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes
    ----------
    title : str
        The caption.
    columns : list of Column
    sections : list of Section
    notes : list of str
        What is said below it, after the legend.
    name : str
        Two or three words that name it among tables of one kind, and its file.
    label : str
        What LaTeX refers to it by.
    has_notes : bool
        Whether legend and notes are printed.
    has_citations : bool
        Whether published rows are cited by their keys (LaTeX).
    """

    title: str
    columns: list[Column]
    sections: list[Section]
    notes: list[str] = field(default_factory=list)
    name: str = ""
    label: str = ""
    has_notes: bool = True
    has_citations: bool = False

    @property
    def rows(self) -> list[list[Cell]]:
        """The rows of all sections."""
        return [row for section in self.sections for row in section.rows]

    @property
    def has_best(self) -> bool:
        """Whether some cell is marked as the best."""
        return any(cell.is_best for row in self.rows for cell in row)

    def keeping(self, places: Sequence[int]) -> Table:
        """Return the table with the columns at these places alone, in this order."""
        sections = [Section(s.title, [[row[i] for i in places] for row in s.rows]) for s in self.sections]
        return replace(self, columns=[self.columns[i] for i in places], sections=sections)


def number_cell(value: float, digits: int, *, error: float | None = None, is_signed: bool = False) -> Cell:
    """Return a number rounded to `digits` decimals, and the error that it is compared by."""
    text = (signed if is_signed else fixed)(value, digits)
    return Cell(text, value, digits=digits, is_signed=is_signed, error=error)


def map_cells(table: Table, change: Callable[[Cell, Column], Cell]) -> Table:
    """Return the table with every cell changed."""

    def changed(row: list[Cell]) -> list[Cell]:
        return [change(cell, column) for cell, column in zip(row, table.columns, strict=True)]

    return replace(table, sections=[Section(s.title, [*map(changed, s.rows)]) for s in table.sections])


def map_texts(table: Table, change: Callable[[str], str]) -> Table:
    """Return the table with every text in it changed, such as for a terminal that lacks some letters."""
    found = map_cells(table, lambda cell, _: replace(cell, text=change(cell.text), mark=change(cell.mark)))
    return replace(
        found,
        title=change(table.title),
        columns=[replace(c, heading=change(c.heading), meaning=change(c.meaning)) for c in table.columns],
        sections=[Section(change(s.title), s.rows) for s in found.sections],
        notes=[*map(change, table.notes)],
    )


def without_empty_columns(table: Table) -> Table:
    """Return the table without the columns that no row has anything in; their headings would only puzzle."""
    return table.keeping([i for i in range(len(table.columns)) if any(row[i].text for row in table.rows)])


def table_notes(table: Table, best: str) -> list[str]:
    """Return what stands below a table: how the best is marked, the legend, its notes; nothing without notes."""
    if not table.has_notes:
        return []
    legend = "; ".join(f"{heading}: {meaning}" for heading, meaning in table_legend(table))
    said = [*([f"{best} of its data set."] if table.has_best else []), *([f"{legend}."] if legend else [])]
    return [*said, *table.notes]


def table_legend(
    table: Table, heading: Callable[[Column], str] = lambda c: c.heading
) -> Iterator[tuple[str, str]]:
    """Yield the heading of every column that needs words, and these; headings of one meaning together."""
    meanings: dict[str, list[str]] = {}
    for column in table.columns:
        if column.meaning:
            meanings.setdefault(column.meaning, []).append(heading(column))
    for meaning, headings in meanings.items():
        yield ", ".join(headings), meaning

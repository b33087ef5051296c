"""A table as a value: columns, rows and notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from dvae_core.text import error_text, fixed, signed


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell: its text and the number behind it.

    Attributes
    ----------
    text : str
        As printed, without the mark.
    value : float, int, str or None
        The unrounded number; None without one.
    is_best : bool
        Whether it is the best of its section.
    mark : str
        The mark of a note below the table.
    is_code : bool
        Whether the text is a command.
    digits : int or None
        Decimals of `text` if it is a rounded number; else None.
    is_signed : bool
        Whether a positive number has a plus sign.
    error : float, str or None
        The error of the number, to show in the same cell; a text for a published one.
    cite : str
        Key of the cited publication.
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
        """The error with the decimals of the number; with two significant digits if that leaves none."""
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
        Text above the column, and name for programs and options.
    is_number : bool
        Whether the column has numbers, which are right-aligned.
    meaning : str
        Explanation in the legend.
    latex : str
        The heading in LaTeX, if different.
    errors : tuple of str
        Names of the columns that are dropped when the error is shown in the same cell.
    error_name : str
        Meaning of that error.
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
    """Rows under a title; the title is empty in a table with a single section."""

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
        Notes below the table, after the legend.
    name : str
        Short name, also of its file.
    label : str
        LaTeX label.
    has_notes : bool
        Whether to print legend and notes.
    has_citations : bool
        Whether published rows cite their keys (LaTeX).
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
        """Whether a cell is marked as the best."""
        return any(cell.is_best for row in self.rows for cell in row)

    def keeping(self, places: Sequence[int]) -> Table:
        """Return the table with only the columns at these places, in this order."""
        sections = [Section(s.title, [[row[i] for i in places] for row in s.rows]) for s in self.sections]
        return replace(self, columns=[self.columns[i] for i in places], sections=sections)


def number_cell(value: float, digits: int, *, error: float | None = None, is_signed: bool = False) -> Cell:
    """Return a cell with a number rounded to `digits` decimals, and its error."""
    text = (signed if is_signed else fixed)(value, digits)
    return Cell(text, value, digits=digits, is_signed=is_signed, error=error)


def map_cells(table: Table, change: Callable[[Cell, Column], Cell]) -> Table:
    """Return the table with every cell changed."""

    def changed(row: list[Cell]) -> list[Cell]:
        return [change(cell, column) for cell, column in zip(row, table.columns, strict=True)]

    return replace(table, sections=[Section(s.title, [*map(changed, s.rows)]) for s in table.sections])


def map_texts(table: Table, change: Callable[[str], str]) -> Table:
    """Return the table with `change` applied to every text, for example for a terminal without some letters."""
    found = map_cells(table, lambda cell, _: replace(cell, text=change(cell.text), mark=change(cell.mark)))
    return replace(
        found,
        title=change(table.title),
        columns=[replace(c, heading=change(c.heading), meaning=change(c.meaning)) for c in table.columns],
        sections=[Section(change(s.title), s.rows) for s in found.sections],
        notes=[*map(change, table.notes)],
    )


def without_empty_columns(table: Table) -> Table:
    """Return the table without the columns that are empty in all rows."""
    return table.keeping([i for i in range(len(table.columns)) if any(row[i].text for row in table.rows)])


def table_notes(table: Table, best: str) -> list[str]:
    """Return the lines below a table: the mark of the best, the legend, the notes; none if notes are off."""
    if not table.has_notes:
        return []
    legend = "; ".join(f"{heading}: {meaning}" for heading, meaning in table_legend(table))
    said = [*([f"{best} of its data set."] if table.has_best else []), *([f"{legend}."] if legend else [])]
    return [*said, *table.notes]


def table_legend(
    table: Table, heading: Callable[[Column], str] = lambda c: c.heading
) -> Iterator[tuple[str, str]]:
    """Yield the headings of explained columns with their explanations; headings with one meaning are joined."""
    meanings: dict[str, list[str]] = {}
    for column in table.columns:
        if column.meaning:
            meanings.setdefault(column.meaning, []).append(heading(column))
    for meaning, headings in meanings.items():
        yield ", ".join(headings), meaning

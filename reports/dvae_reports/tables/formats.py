r"""A table as a value, and how it is written: text, Markdown, LaTeX, CSV and HTML.

What is best is bold, and an asterisk beside it says so where type has no weight.  CSV holds the numbers as they
were measured; the other formats hold them as they are printed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from unicodedata import lookup

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from .text_layout import BEST, lay_out

__all__ = [
    "FORMATS",
    "Cell",
    "Column",
    "Section",
    "Table",
    "map_texts",
    "table_notes",
    "without_empty_columns",
    "write_table",
    "write_tables",
]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell: its text, the number behind it, if it is the best of its section or code, and a mark of a note."""

    text: str = ""
    value: float | int | str | None = None
    is_best: bool = False
    mark: str = ""
    is_code: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, its name in CSV, and whether it holds numbers, which stand on the right."""

    heading: str
    name: str
    is_number: bool = True


@dataclass(frozen=True, slots=True)
class Section:
    """Rows under a title of their own; the title is empty where a table has one section."""

    title: str
    rows: list[list[Cell]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its title, its columns and what is to be said below it."""

    title: str
    columns: list[Column]
    sections: list[Section]
    notes: list[str] = field(default_factory=list)

    @property
    def has_best(self) -> bool:
        """Whether some cell is marked as the best."""
        return any(cell.is_best for section in self.sections for row in section.rows for cell in row)


def write_table(table: Table, format: str, *, width: int | None = None, color: bool = False) -> str:
    """Return the table in a format of `FORMATS`, ending with a line break.

    Parameters
    ----------
    table : Table
    format : str
        `text`, `markdown`, `latex`, `csv` or `html`.
    width : int, optional
        Columns of the terminal that `text` is for; None does not break lines.
    color : bool
        Let `text` use the terminal's bold and faint type.
    """
    if format == "csv":
        return _csv(table)
    shown = without_empty_columns(table)
    return _text(shown, width, color) if format == "text" else FORMATS[format](shown)


def write_tables(tables: Sequence[Table], format: str, *, width: int | None = None, color: bool = False) -> str:
    """Return several tables in a format of `FORMATS`, one after the other; in HTML on one page."""
    if format == "html":
        return _html([without_empty_columns(table) for table in tables])
    return "\n".join(write_table(table, format, width=width, color=color) for table in tables)


def without_empty_columns(table: Table) -> Table:
    """Return the table without the columns that no row has anything in; their headings would only puzzle."""
    rows = [row for section in table.sections for row in section.rows]
    kept = [i for i in range(len(table.columns)) if any(row[i].text for row in rows)]
    sections = [Section(s.title, [[row[i] for i in kept] for row in s.rows]) for s in table.sections]
    return replace(table, columns=[table.columns[i] for i in kept], sections=sections)


def map_texts(table: Table, change: Callable[[str], str]) -> Table:
    """Return the table with every text in it changed, such as for a terminal that lacks some letters."""

    def changed(cell: Cell) -> Cell:
        return replace(cell, text=change(cell.text), mark=change(cell.mark))

    sections = [Section(change(s.title), [[*map(changed, row)] for row in s.rows]) for s in table.sections]
    columns = [replace(column, heading=change(column.heading)) for column in table.columns]
    return Table(change(table.title), columns, sections, [*map(change, table.notes)])


def _text(table: Table, width: int | None, color: bool) -> str:
    """Return the table for a terminal or a log."""
    return lay_out(table, table_notes(table, f"{BEST} best"), width, color)


def table_notes(table: Table, best: str) -> list[str]:
    """Return the notes, the first of which says how the best is marked."""
    return [*([f"{best} of its data set."] if table.has_best else []), *table.notes]


def _markdown(table: Table) -> str:
    """Return one table a section, for GitHub and its like."""
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
        # The separator of cells is the only character that counts inside code.
        return f"`{cell.text.replace('|', chr(92) + '|')}`{cell.mark}"
    text = _md(cell.text)
    return (f"**{text}**" if cell.is_best else text) + cell.mark


def _md(text: str) -> str:
    """Return `text` with Markdown's own characters taken as they are."""
    return "".join(f"\\{c}" if c in r"\`*_[]<>|#$~" else c for c in text)


def _csv(table: Table) -> str:
    """Return comma-separated values with a header: numbers unrounded, the section first, what is best last."""
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
    """Return a number with all its digits, else the text."""
    return cell.text if cell.value is None else str(cell.value)


GREEK = "alpha beta gamma delta epsilon zeta theta lambda mu nu xi pi rho sigma tau phi chi psi omega".split()
# What TeX reads otherwise, and what its fonts may lack.
TEX = {
    **{lookup(f"GREEK SMALL LETTER {name}".upper().replace("LAMBDA", "LAMDA")): f"$\\{name}$" for name in GREEK},
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": r"$-$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "…": r"\ldots{}",
    "\u202f": r"\,",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "§": r"$^\S$",
    "¶": r"$^\P$",
    "×": r"$\times$",
    "✓": r"$\surd$",
    "✗": r"$\times$",
    "–": "--",
    "—": "---",
    "Λ": r"$\Lambda$",
    "Σ": r"$\Sigma$",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "\n": " ",
}
# The end of the Latin letters that every TeX knows how to compose.
LATIN = "\u0180"


def _latex(table: Table) -> str:
    """Return a `table` environment for LaTeX's booktabs, with its notes below."""
    width = len(table.columns)
    align = "".join("r" if column.is_number else "l" for column in table.columns)
    head = " & ".join(_tex(column.heading) for column in table.columns)
    notes = [_tex(note) for note in table_notes(table, "Bold: best")]
    lines = [
        "% \\usepackage{booktabs,graphicx} in the preamble",
        "\\begin{table}",
        "\\centering\\small\\setlength{\\tabcolsep}{4pt}",
        f"\\caption{{{_tex(table.title)}}}",
        # Made smaller where it is wider than the page.
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{{align}}}",
        "\\toprule",
        f"{head} \\\\",
        *(line for section in table.sections for line in _latex_section(section, width)),
        "\\bottomrule",
        "\\end{tabular}}",
        *(["", "\\medskip", "\\begin{minipage}{\\linewidth}\\footnotesize"] if notes else []),
        *(f"{note}\\par" for note in notes),
        *(["\\end{minipage}"] if notes else []),
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_section(section: Section, width: int) -> Iterator[str]:
    """Yield a rule, the title across all columns, and the rows."""
    yield "\\midrule"
    if section.title:
        yield f"\\multicolumn{{{width}}}{{l}}{{\\emph{{{_tex(section.title)}}}}} \\\\"
    for row in section.rows:
        yield " & ".join(_latex_cell(cell) for cell in row) + " \\\\"


def _latex_cell(cell: Cell) -> str:
    """Return a cell for LaTeX; a bold minus needs bold mathematics."""
    if cell.is_code:
        return f"\\texttt{{{_tex(cell.text)}}}{_tex(cell.mark)}"
    if not cell.is_best:
        return _tex(cell.text + cell.mark)
    return f"\\textbf{{\\boldmath {_tex(cell.text)}}}{_tex(cell.mark)}"


def _tex(text: str) -> str:
    """Return `text` with TeX's own characters as they are; a letter that it lacks becomes a question mark."""
    letters = "".join(TEX.get(c, c if c < LATIN else "?") for c in text.replace("--", "-\0-"))
    return letters.replace("\0", "{}")  # TeX makes a dash of two hyphens


def _html(tables: Sequence[Table]) -> str:
    """Return a page of its own, complete in itself, with the tables as its only content."""
    return _page().render(tables=[(table, table_notes(table, "Bold: best")) for table in tables]) + "\n"


@cache
def _page() -> Template:
    """Return the page's template, with escaping on and missing names an error."""
    environment = Environment(
        loader=PackageLoader("dvae_reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("table.html.j2")


FORMATS: dict[str, Callable[[Table], str]] = {
    "text": lambda table: _text(table, None, False),
    "markdown": _markdown,
    "latex": _latex,
    "csv": _csv,
    "html": lambda table: _html([table]),
}

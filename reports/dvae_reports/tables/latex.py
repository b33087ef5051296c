r"""Tables for LaTeX with booktabs: in one column of the page if it fits, else across two, never below 8 pt.

Widths are estimated, slightly too large, from those of Computer Modern's letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from unicodedata import lookup

from .table import Cell, Column, Section, Table, table_legend, without_empty_columns
from .text_layout import GIVE_WAY

GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi "
    "psi omega"
).split()
GREEK_CAPITALS = "gamma delta theta lambda xi pi sigma upsilon phi psi omega".split()
# Characters that are special in TeX or may be missing in its fonts.
TEX = {
    **{lookup(f"GREEK SMALL LETTER {name}".upper().replace("LAMBDA", "LAMDA")): f"$\\{name}$" for name in GREEK},
    **{
        lookup(f"GREEK CAPITAL LETTER {name}".upper().replace("LAMBDA", "LAMDA")): f"$\\{name.title()}$"
        for name in GREEK_CAPITALS
    },
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": r"$-$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "…": r"\ldots{}",
    "\u202f": r"\,",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "§": r"$^\S$",
    "¶": r"$^\P$",
    "‖": r"$^\Vert$",
    "×": r"$\times$",
    "✓": r"$\surd$",
    "–": "--",
    "—": "---",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "→": r"$\to$",
    "←": r"$\leftarrow$",
    "∞": r"$\infty$",
    "≈": r"$\approx$",
    "≠": r"$\neq$",
    "√": r"$\surd$",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "\n": " ",
}
# Mathematics in a name or a caption of the user.
OWN_MATH = re.compile(r"(\$[^$]+\$)")
# The first character after the Latin letters that every TeX can compose.
LATIN = "\u0180"
# Mathematical expressions in headings and notes.
MATHS = {"log Z": r"$\log Z$", "log p(x)": r"$\log p(x)$"}
MATH = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, MATHS))})(?!\w)")
NUMBER = re.compile(r"[−+]?[\d\u202f.]+( ± [\d\u202f.]+)?")
# Points: a column and the text width of a two-column article on letter paper, and the space between columns.
COLUMN, PAGE, GAP = 229.0, 469.0, 8.0
SIZES = {9: 11, 8: 9.5}  # font size and line spacing, points
# Space between the caption and the rule below it, points; many classes have none.
ABOVE = 3
# A text column wider than this may be broken into lines, down to the second width.
LONG, NARROWEST = 130.0, 100.0
# Widths of letters relative to the font size: Computer Modern is slightly wider at 8 and 9 pt than at 10.
WIDTHS = {
    letter: 1.05 * width
    for letters, width in {
        "ijl.,:;'!|": 0.29,
        "frtsI()[] -": 0.38,
        "cez": 0.45,
        "agovxyk0123456789/": 0.52,
        "−±+=<>": 0.78,
        "mwMW%@—…": 0.9,
    }.items()
    for letter in letters
}
CAPITAL, LETTER, BOLD, TYPEWRITER = 0.78, 0.585, 1.15, 0.55
# A command may be broken after these.
BREAKS = "/,=_"


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns to show, the widths of those broken into lines, the font size, whether it spans two columns."""

    places: list[int]
    widths: list[float | None]
    size: int
    is_wide: bool


def write_latex(table: Table) -> str:
    """Return a `table` environment, or `table*` if it is wider than a column, with the notes below."""
    layout = _layout(table)
    shown = table.keeping(layout.places)
    aligned = map(_alignment, shown.columns, layout.widths)
    kind = "table*" if layout.is_wide else "table"
    packages = "booktabs,array" if any(layout.widths) else "booktabs"
    lines = [
        f"% \\usepackage{{{packages}}} in the preamble",
        *(f"% {line}" for line in left_out(table)),
        f"\\begin{{{kind}}}",
        "\\centering",
        f"\\caption{{{_prose(table.title)}}}" + (f"\\label{{{table.label}}}" if table.label else ""),
        f"{_font(layout.size)}\\setlength{{\\tabcolsep}}{{{GAP / 2:g}pt}}",
        f"\\setlength{{\\abovetopsep}}{{{ABOVE}pt}}",
        f"\\begin{{tabular}}{{@{{}}{''.join(aligned)}@{{}}}}",
        "\\toprule",
        f"{' & '.join(map(_head, shown.columns, _contents(shown, layout.size)))} \\\\",
        *(line for section in shown.sections for line in _section(section, shown)),
        "\\bottomrule",
        "\\end{tabular}",
        *_notes(shown),
        f"\\end{{{kind}}}",
    ]
    return "\n".join(lines) + "\n"


def left_out(table: Table) -> list[str]:
    """Return notes on columns and letters that the page cannot show, each with a remedy."""
    return [*_columns_left_out(without_empty_columns(table)), *_letters_left_out(table)]


def _letters_left_out(table: Table) -> list[str]:
    """Return the note on letters that were replaced by question marks."""
    texts = [table.title, *(section.title for section in table.sections), *table.notes]
    texts += [cell.text for row in table.rows for cell in row]
    letters = "".join(dict.fromkeys(c for c in "".join(texts) if not (c in TEX or c < LATIN)))
    return [f"printed as ?: {letters}; replace them with --label or --caption"] if letters else []


def _columns_left_out(table: Table) -> list[str]:
    """Return the note on columns that do not fit the page."""
    layout = _layout(table)
    names = [column.name for i, column in enumerate(table.columns) if i not in layout.places]
    if names:
        return [f"left out, wider than the page: {', '.join(names)}; choose others with --columns"]
    if _needed(table.keeping(layout.places), layout.size, layout.widths) > PAGE:
        return ["wider than the page; choose fewer columns with --columns"]
    return []


# --- layout ---------------------------------------------------------------------------------------------------


def _layout(table: Table) -> Layout:
    """Return the layout with the largest font and the most columns that fits; the narrowest if none fits."""
    everything = list(range(len(table.columns)))
    for size, is_wide in ((9, False), (9, True), (8, True)):
        widths = _fitted(table, size, PAGE if is_wide else COLUMN)
        if widths is not None:
            return Layout(everything, widths, size, is_wide)
    places = everything
    for name in GIVE_WAY:
        places = [i for i in places if table.columns[i].name != name]
        widths = _fitted(table.keeping(places), 8, PAGE)
        if widths is not None:
            return Layout(places, widths, 8, is_wide=True)
    return Layout(places, [NARROWEST if not table.columns[i].is_number else None for i in places], 8, is_wide=True)


def _fitted(table: Table, size: int, room: float) -> list[float | None] | None:
    """Return the widths of columns broken into lines and None for others; None if the table does not fit."""
    natural = _natural(table, size)
    if sum(natural) + GAP * (len(natural) - 1) <= room:
        return [None] * len(natural)
    is_long = [not c.is_number and width > LONG for c, width in zip(table.columns, natural, strict=True)]
    taken = sum(width for width, broken in zip(natural, is_long, strict=True) if not broken)
    share = (room - taken - GAP * (len(natural) - 1)) / max(1, sum(is_long))
    if not any(is_long) or share < NARROWEST:
        return None
    return [round(share, 1) if broken else None for broken in is_long]


def _needed(table: Table, size: int, widths: Sequence[float | None]) -> float:
    """Return the width of a table, points."""
    needed = zip(_natural(table, size), widths, strict=True)
    return sum(given or natural for natural, given in needed) + GAP * (len(widths) - 1)


def _natural(table: Table, size: int) -> list[float]:
    """Return the width of every column with only its heading broken into lines, points."""
    heads = [max(map(_text_width, _in_lines(column.heading, 0.0))) * size for column in table.columns]
    return [*map(max, heads, _contents(table, size))]


def _contents(table: Table, size: int) -> list[float]:
    """Return the width of the widest cell of every column, points."""
    return [max((_cell_width(row[i]) for row in table.rows), default=0) * size for i in range(len(table.columns))]


def _cell_width(cell: Cell) -> float:
    """Return the width of a cell in units of the font size."""
    if cell.is_code:
        return TYPEWRITER * len(cell.text)
    return _text_width(cell.text) * (BOLD if cell.is_best else 1) + 0.45 * len(cell.mark)


def _text_width(text: str) -> float:
    """Return the width of a text in units of the font size."""
    return sum(WIDTHS.get(c, CAPITAL if c.isupper() else LETTER) for c in text)


# --- parts ----------------------------------------------------------------------------------------------------


def _font(size: int) -> str:
    """Return the command that sets the font size, independent of the document's."""
    return f"\\fontsize{{{size}}}{{{SIZES[size]}}}\\selectfont"


def _alignment(column: Column, width: float | None) -> str:
    """Return the alignment of a column."""
    if width is not None:
        return f">{{\\raggedright\\arraybackslash}}p{{{width:g}pt}}"
    return "r" if column.is_number else "l"


def _head(column: Column, content: float) -> str:
    """Return a heading, broken into lines if it is wider than the cells below."""
    if column.latex or _text_width(column.heading) * 9 <= content or " " not in column.heading:
        return _heading(column)
    lines = r"\\".join(map(_prose, _in_lines(column.heading, content)))
    side = "r" if column.is_number else "l"
    return f"\\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{lines}\\end{{tabular}}"


def _in_lines(heading: str, content: float) -> list[str]:
    """Return the lines of a heading, filled to the width of the column; log Z counts as one word."""
    lines: list[str] = []
    for word in MATH.sub(lambda found: found[0].replace(" ", "\0"), heading).split(" "):
        if lines and (_text_width(f"{lines[-1]} {word}") * 9 <= content or lines[-1] == "±"):
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(word)
    return [line.replace("\0", " ") for line in lines]


def _heading(column: Column) -> str:
    """Return a heading on one line."""
    return column.latex or _prose(column.heading)


def _section(section: Section, table: Table) -> Iterator[str]:
    """Yield a rule, the title across all columns, and the rows."""
    yield "\\midrule"
    if section.title:
        yield f"\\multicolumn{{{len(table.columns)}}}{{@{{}}l@{{}}}}{{\\emph{{{_tex(section.title)}}}}} \\\\"
    for row in section.rows:
        cells = row if table.has_citations else [replace(cell, cite="") for cell in row]
        yield " & ".join(map(_cell, cells, table.columns)) + " \\\\"


def _notes(table: Table) -> list[str]:
    """Return the notes below a table, as comments if notes are off."""
    legend = [f"{heading}: {_prose(meaning)}" for heading, meaning in table_legend(table, _heading)]
    notes = [*(["; ".join(legend) + "."] if legend else []), *map(_prose, table.notes)]
    notes = [*(["Bold: best of its data set."] if table.has_best else []), *notes]
    if not table.has_notes:
        return [f"% {note}" for note in notes]
    if not notes:
        return []
    start = f"\\begin{{minipage}}{{\\linewidth}}{_font(8)}\\raggedright"
    return ["", "\\medskip", start, *(f"{note}\\par" for note in notes), "\\end{minipage}"]


def _cell(cell: Cell, column: Column) -> str:
    """Return a cell; a bold number uses bold mathematics."""
    if cell.cite:
        return f"\\cite{{{cell.cite}}}{_tex(cell.mark)}"
    if cell.is_code:
        code = "".join(f"{_tex(c)}\\allowbreak{{}}" if c in BREAKS else _tex(c) for c in cell.text)
        return f"\\texttt{{{code}}}{_tex(cell.mark)}"
    if column.is_number and NUMBER.fullmatch(cell.text):
        number = cell.text.replace("−", "-").replace("±", "\\pm").replace("\u202f", "\\,")
        text = f"${number}$"
    else:
        text = _tex(cell.text)
    return f"{{\\bfseries\\boldmath {text}}}{_tex(cell.mark)}" if cell.is_best else text + _tex(cell.mark)


def _prose(text: str) -> str:
    """Return a text of this package with its mathematics typeset."""
    return "".join(MATHS.get(part, _tex(part)) for part in MATH.split(text))


def _tex(text: str) -> str:
    """Return `text` with TeX's special characters escaped, except for mathematics between dollar signs.

    A letter that TeX lacks becomes a question mark.
    """
    return "".join(part if OWN_MATH.fullmatch(part) else _letters(part) for part in OWN_MATH.split(text))


def _letters(text: str) -> str:
    """Return `text` with TeX's special characters escaped."""
    letters = "".join(TEX.get(c, c if c < LATIN else "?") for c in text.replace("--", "-\0-").replace("<=", "≤"))
    return letters.replace("\0", "{}")  # TeX makes a dash of two hyphens

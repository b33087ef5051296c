r"""The publications of a table as a .bib file, with the keys that its `\\cite` commands name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..results import published
from ..results.published import Source
from .table import Table

# The start of an entry, with its key.
ENTRY = re.compile(r"^\s*@\w+\s*[{(]\s*([^\s,]+)\s*,", re.MULTILINE)


def write_bib(tables: Sequence[Table], before: str = "") -> str:
    """Return the text of a .bib file with the publications that the tables cite, and those of the models.

    The text starts with `before`, the present content of the file, whose entries are kept.  Names are in UTF-8,
    which LaTeX reads since 2018.
    """
    cited = {cell.cite for table in tables for row in table.rows for cell in row if cell.cite}
    rows = [*published.table_1(), *published.later()]
    keys = cited | {row.source for row in rows if row.reported_by in cited}
    keys -= {*ENTRY.findall(before)}
    entries = [_entry(key, source) for key, source in published.bibliography().items() if key in keys]
    if before:
        entries = [before.rstrip("\n") + "\n", *entries]
    return "\n".join(entries) or "% The tables cite no publication.\n"


def _entry(key: str, source: Source) -> str:
    """Return one entry; braces preserve the capital letters of its title."""
    kind = "article" if source.journal else "inproceedings" if source.booktitle else "misc"
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in _fields(source))
    return f"@{kind}{{{key},\n{lines}}}\n"


def _fields(source: Source) -> Iterator[tuple[str, str]]:
    """Yield the fields that are known."""
    yield "author", " and ".join(source.authors)
    yield "title", f"{{{source.title}}}"
    for name in ("journal", "booktitle", "volume", "number"):
        if value := getattr(source, name):
            yield name, str(value)
    if source.pages:
        yield "pages", source.pages.replace("-", "--")
    yield "year", str(source.year)
    if source.arxiv:
        yield "eprint", source.arxiv
        yield "archiveprefix", "arXiv"
        if not (source.journal or source.booktitle):
            # For styles that do not support eprint.
            yield "note", f"arXiv:{source.arxiv}"

"""Cards: short summaries of values, as lines in a terminal and as a small table in a notebook.

The method `_card` of a class returns its `Card`; `HasCard` makes `repr` and HTML from it.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

WIDTH = 80
# Largest number of lines per row; longer rows are cut.
MAX_LINES = 3
# Background of white text, in light and dark themes: the contrast to white is at least 4.5.
COLOURS = {"good": "#1a7f37", "open": "#8a6100", "bad": "#c62828"}
# Spaces between digits, which are kept although `str.isprintable` is false for them.
SPACES = "\u00a0\u202f"
# Overrides the table style of notebooks, which is right-aligned and striped.
CELL = "text-align:left;vertical-align:top;padding:2px 8px"
NAME = f"{CELL};white-space:nowrap;opacity:.75"
BADGE = "color:#fff;padding:1px 7px;border-radius:8px;font-weight:600"


@dataclass(frozen=True, slots=True)
class Card:
    """A summary of a value.

    Attributes
    ----------
    kind : str
        The name of its class.
    title : str
        The value, or its description, in one line.
    rows : tuple of (name, text)
        Further facts; each name is one word.
    verdict : str
        The verdict in a few words; empty if there is none.
    level : `good`, `open` or `bad`
        Colour of the verdict.
    """

    kind: str
    title: str
    rows: tuple[tuple[str, str], ...] = ()
    verdict: str = ""
    level: Literal["good", "open", "bad"] = "open"

    def text(self) -> str:
        """Return the card as lines of at most 80 columns."""
        rows = [("verdict", self.verdict), *self.rows] if self.verdict else list(self.rows)
        indent = max((len(name) for name, _ in rows), default=0) + 4
        lines = _wrapped(f"{self.kind}: {self.title}", "", "  ")
        for name, text in rows:
            lines += _wrapped(text, f"  {name}".ljust(indent), " " * indent)
        return "\n".join(lines)

    def html(self) -> str:
        """Return the card as a table, its text escaped."""
        rows = "".join(_row(name, _escaped(text)) for name, text in self.rows)
        if self.verdict:
            word, _, rest = self.verdict.partition("; ")
            badge = f'<span style="background:{COLOURS[self.level]};{BADGE}">{_escaped(word)}</span>'
            rows = _row("verdict", f"{badge} {_escaped(rest)}".strip()) + rows
        kind = f'<span style="font-weight:400;opacity:.75">{_escaped(self.kind)}</span>'
        head = f'<tr><th colspan="2" style="{CELL}">{_escaped(self.title)} {kind}</th></tr>'
        return f'<table style="border-collapse:collapse;max-width:48em">{head}{rows}</table>'


class HasCard:
    """Base of classes whose `repr` is a card, and which notebooks show as a table."""

    __slots__ = ()

    def _card(self) -> Card:
        """Return the card."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._card().text()

    def _repr_html_(self) -> str:
        """Return the card for notebooks."""
        return self._card().html()


def rows_of(*rows: tuple[str, object]) -> tuple[tuple[str, str], ...]:
    """Return the rows whose text is not empty."""
    return tuple((name, str(text)) for name, text in rows if text)


def _wrapped(text: str, first: str, further: str) -> list[str]:
    """Return the lines of a row, at most `MAX_LINES`."""
    return textwrap.wrap(
        _printable(text),
        WIDTH,
        initial_indent=_printable(first),
        subsequent_indent=further,
        max_lines=MAX_LINES,
        placeholder=" ...",
        break_on_hyphens=False,
    )


def _row(name: str, cell: str) -> str:
    """Return a row of the table."""
    return f'<tr><td style="{NAME}">{_escaped(name)}</td><td style="{CELL}">{cell}</td></tr>'


def _escaped(text: str) -> str:
    """Return a text with HTML escapes."""
    return html.escape(_printable(text))


def _printable(text: Iterable[str]) -> str:
    """Return a text without control characters, which file names may contain."""
    return "".join(c if c.isprintable() or c in SPACES else "\ufffd" for c in text)

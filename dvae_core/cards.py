"""A value as a short card: a few lines in a terminal, a small table in a notebook.

What a class shows is a `Card`, which its method `_card` makes; `HasCard` turns it into `repr` and HTML.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

WIDTH = 80
# Lines of one row, after which it is cut.
MAX_LINES = 3
# White letters stand on these, and they on pages of either theme: each has a contrast of 4.5 at least to white.
COLOURS = {"good": "#1a7f37", "open": "#8a6100", "bad": "#c62828"}
# Between digits, printed though Python calls them not printable.
SPACES = "\u00a0\u202f"
# Notebooks have styles of their own for tables: right-aligned and striped.
CELL = "text-align:left;vertical-align:top;padding:2px 8px"
NAME = f"{CELL};white-space:nowrap;opacity:.75"
BADGE = "color:#fff;padding:1px 7px;border-radius:8px;font-weight:600"


@dataclass(frozen=True, slots=True)
class Card:
    """What is shown of a value.

    Attributes
    ----------
    kind : str
        The name of its class.
    title : str
        The number, or what it is, in a line.
    rows : tuple of (name, text)
        Further facts; names of one word.
    verdict : str
        In a few words; empty where there is none.
    level : `good`, `open` or `bad`
        What colour the verdict has.
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
    """A class whose `repr` is a card, and which notebooks show as a table."""

    __slots__ = ()

    def _card(self) -> Card:
        """Return what is shown."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._card().text()

    def _repr_html_(self) -> str:
        """Return the card for notebooks."""
        return self._card().html()


def rows_of(*rows: tuple[str, object]) -> tuple[tuple[str, str], ...]:
    """Return the rows that have a text."""
    return tuple((name, str(text)) for name, text in rows if text)


def _wrapped(text: str, first: str, further: str) -> list[str]:
    """Return a row's lines, cut after the last one allowed."""
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
    """Return a text as HTML."""
    return html.escape(_printable(text))


def _printable(text: Iterable[str]) -> str:
    """Return a text without what would steer a terminal, such as a file's name may hold."""
    return "".join(c if c.isprintable() or c in SPACES else "\ufffd" for c in text)

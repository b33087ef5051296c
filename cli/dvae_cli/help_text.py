"""Help as wide as the terminal, up to 80 columns: no word is broken, and examples can be pasted."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click

from dvae_core.terminal import cell_width, fold, fold_command, terminal_width

PAGE = 80
# With fewer columns, the meaning of an option stands below its name and not beside it.
NARROW = 60
UNCHANGED = "\b"
PROGRAMS = ("dvae-", "torchrun ")


class _Formatter(click.HelpFormatter):
    """Click's formatter, also for narrow terminals and for words that are wider than a column."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.width = min(PAGE, terminal_width(sys.stdout) or PAGE) - 2

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage line."""
        lines = fold(f"{'Usage: ' if prefix is None else prefix}{prog} {args}".rstrip(), self.width, " " * 4)
        self.write("\n".join(lines) + "\n")

    def write_text(self, text: str) -> None:
        """Write paragraphs; one that is marked as unchanged keeps its lines, folded where they are too long."""
        indent = " " * self.current_indent
        self.write("\n\n".join("\n".join(self._paragraph(part, indent)) for part in _paragraphs(text)) + "\n")

    def _paragraph(self, lines: list[str], indent: str) -> Iterator[str]:
        """Yield the lines of a paragraph."""
        if lines[0].strip() != UNCHANGED:
            yield from fold(indent + " ".join(line.strip() for line in lines), self.width, indent)
            return
        for line in lines[1:]:
            start = indent + line[: len(line) - len(line.lstrip())]
            if line.lstrip().startswith(PROGRAMS):
                yield from fold_command(line.strip(), self.width, start)
            else:
                yield from fold(indent + line, self.width)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write terms with their meanings: beside them or, on a narrow terminal, below."""
        rows, indent = list(rows), " " * self.current_indent
        first = min(max(cell_width(term) for term, _ in rows), col_max) + col_spacing
        margin = indent + " " * (first if self.width >= NARROW else 4)
        for term, meaning in rows:
            start = indent + term
            if self.width < NARROW or cell_width(start) > self.width:
                # Spaces let a long list of choices break between them.
                start = start.replace("|", " | ")
            if self.width >= NARROW and cell_width(term) <= first - col_spacing:
                start = start.ljust(len(margin))
            else:
                self.write("\n".join(fold(start, self.width, indent + "    ")) + "\n")
                start = margin
            if meaning or start.strip():
                self.write("\n".join(self._beside(start, " ".join(meaning.split()), margin)) + "\n")

    def _beside(self, start: str, meaning: str, margin: str) -> Iterator[str]:
        """Yield the lines of a meaning, the first of which begins with `start`."""
        line, *rest = fold(margin + meaning, self.width, margin)
        yield start + line[len(margin) :]
        yield from rest


def _paragraphs(text: str) -> Iterator[list[str]]:
    """Yield each paragraph of a text as a list of its lines."""
    lines: list[str] = []
    for line in [*text.expandtabs().splitlines(), ""]:
        if line:
            lines.append(line)
        elif lines:
            yield lines
            lines = []


class HelpContext(click.Context):
    """A context whose help fits the terminal."""

    formatter_class = _Formatter

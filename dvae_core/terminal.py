"""Lines for terminals: no longer than these are wide, and never broken within a word."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TextIO
from unicodedata import combining, east_asian_width

# What a terminal that does not tell its width is taken for, and the narrowest that lines are folded for.
USUAL_WIDTH, LEAST_WIDTH = 80, 20


def terminal_width(stream: TextIO) -> int | None:
    """Return how many columns the terminal behind `stream` has; None if it is no terminal."""
    try:
        if not stream.isatty():
            return None
        # What the user or a shell has set comes first, as everywhere.
        wanted = os.environ.get("COLUMNS", "")
        columns = int(wanted) if wanted.isdecimal() else os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return None
    return max(LEAST_WIDTH, columns or USUAL_WIDTH)


def cell_width(text: str) -> int:
    """Return how many columns of a terminal a text takes: Chinese letters two each, accents of their own none."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def fold(text: str, width: int | None, further: str | None = None) -> list[str]:
    """Return a text as lines of at most `width` columns, broken at spaces alone.

    Parameters
    ----------
    text : str
        Without line breaks.  A word that is wider than the terminal gets a line of its own, whole.
    width : int or None
        None leaves the text as it is.
    further : str, optional
        What the second line and those after it begin with; two spaces more than the first by default.
    """
    if width is None or cell_width(text) <= width:
        return [text]
    words = text.lstrip(" ").split(" ")
    first = text[: len(text) - len(text.lstrip(" "))]
    return _filled(words, width, first, f"{first}  " if further is None else further, " ")


def fold_parts(parts: Iterable[str], width: int | None, indent: str = "", gap: str = "  ") -> list[str]:
    """Return short texts side by side, as many on a line as fit; one that fits on a line is not broken."""
    lines: list[str] = []
    for line in _filled(list(parts), width, indent, indent, gap):
        lines += fold(line, width)
    return lines


def fold_command(command: str, width: int | None, indent: str = "") -> list[str]:
    r"""Return a command of the shell as lines that can be pasted: each but the last ends in a backslash."""
    if width is None or cell_width(indent + command) <= width:
        return [indent + command]
    lines = _filled(command.split(" "), width - 2, indent, f"{indent}  ", " ")
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]


def _filled(words: Sequence[str], width: int | None, first: str, further: str, gap: str) -> list[str]:
    """Return lines with as many words as fit, the first of them indented by `first`, the others by `further`."""
    lines: list[str] = []
    line, is_empty = first, True
    for word in words:
        longer = line + ("" if is_empty else gap) + word
        if not is_empty and width is not None and cell_width(longer.rstrip()) > width:
            lines.append(line.rstrip())
            # A word that would go over the edge, such as a path, is indented less.
            line, is_empty = further[: max(0, width - cell_width(word))], True
            longer = line + word
        # Several spaces after one another part fields; at the beginning of a line they part nothing.
        if word or not is_empty:
            line, is_empty = longer, False
    return [*lines, line.rstrip()]

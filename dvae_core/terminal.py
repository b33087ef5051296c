"""Lines that fit the width of a terminal, broken only between words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import TextIO
from unicodedata import combining, east_asian_width

# Width that is assumed for a terminal that does not report it, and smallest width to fold lines for.
USUAL_WIDTH, LEAST_WIDTH = 80, 20
# The spaces at which a line may be broken: not between a name and its equals sign, as in `log Z = 1`.
_BREAK = re.compile(r" (?!= )(?:(?<!\blog )|(?!\S+ = ))")


def terminal_width(stream: TextIO) -> int | None:
    """Return the number of columns of the terminal behind `stream`; None if it is not a terminal."""
    try:
        if not stream.isatty():
            return None
        # A width set by the user or the shell takes precedence, as usual.
        wanted = os.environ.get("COLUMNS", "")
        columns = int(wanted) if wanted.isdecimal() else os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return None
    return max(LEAST_WIDTH, columns or USUAL_WIDTH)


def cell_width(text: str) -> int:
    """Return the number of terminal columns of a text: two per wide character (CJK), none per combining accent."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def fold(text: str, width: int | None, further: str | None = None) -> list[str]:
    """Return a text as lines of at most `width` columns, broken at spaces alone, and not before an equals sign.

    Parameters
    ----------
    text : str
        Without line breaks.  Words wider than the terminal get their own lines, unbroken.
    width : int or None
        None returns the text unchanged.
    further : str, optional
        Indentation of all lines after the first; by default that of the first line and two spaces.
    """
    if width is None or cell_width(text) <= width:
        return [text]
    words = _BREAK.split(text.lstrip(" "))
    first = text[: len(text) - len(text.lstrip(" "))]
    return _filled(words, width, first, f"{first}  " if further is None else further, " ")


def fold_parts(parts: Iterable[str], width: int | None, indent: str = "", gap: str = "  ") -> list[str]:
    """Return lines of short texts side by side; a text is broken only if it is wider than a line."""
    lines: list[str] = []
    for line in _filled(list(parts), width, indent, indent, gap):
        lines += fold(line, width)
    return lines


def fold_command(command: str, width: int | None, indent: str = "") -> list[str]:
    r"""Return a shell command as lines that can be pasted: each line except the last ends in a backslash."""
    if width is None or cell_width(indent + command) <= width:
        return [indent + command]
    lines = _filled(command.split(" "), width - 2, indent, f"{indent}  ", " ")
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]


def _filled(words: Sequence[str], width: int | None, first: str, further: str, gap: str) -> list[str]:
    """Return lines with as many words as fit, the first line indented by `first`, the others by `further`."""
    lines: list[str] = []
    line, is_empty = first, True
    for word in words:
        longer = line + ("" if is_empty else gap) + word
        if not is_empty and width is not None and cell_width(longer.rstrip()) > width:
            lines.append(line.rstrip())
            # Words that would exceed the width, such as paths, are indented less.
            line, is_empty = further[: max(0, width - cell_width(word))], True
            longer = line + word
        # Consecutive spaces separate fields; at the beginning of a line they are dropped.
        if word or not is_empty:
            line, is_empty = longer, False
    return [*lines, line.rstrip()]

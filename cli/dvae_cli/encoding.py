"""Letters that a terminal or a pipe cannot write: plain ones in their place, and never an error."""

from __future__ import annotations

import codecs
import sys
from io import TextIOWrapper
from unicodedata import normalize

__all__ = ["adapt_streams"]

ERRORS = "dvae-plain"
# One character each where a table's columns are to stay in line.
PLAIN = {
    "−": "-",
    "–": "-",
    "—": "-",
    "‐": "-",
    "─": "-",
    "━": "-",
    "╸": "-",
    "╺": "-",
    "│": "|",
    "†": "+",
    "‡": "#",
    "…": "~",
    "×": "x",
    "→": ">",
    "∞": "inf",
    "±": "+-",
    "≥": ">=",
    "≤": "<=",
    "∝": "~",
    "≈": "~",
    "\u202f": " ",
    "α": "alpha",
    "β": "beta",
    "ζ": "zeta",
    "Λ": "Lambda",
    "Σ": "sum ",
    "“": '"',
    "”": '"',
    "’": "'",
}


def adapt_streams() -> None:
    """Let standard output and standard error write plain letters where their encoding lacks some."""
    codecs.register_error(ERRORS, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors=ERRORS)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return plain letters for those that could not be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = "".join(map(_letter, error.object[error.start : error.end]))
    return letters, error.end


def _letter(letter: str) -> str:
    """Return a letter in ASCII: without its accent, or a question mark."""
    return PLAIN.get(letter) or normalize("NFKD", letter).encode("ascii", "ignore").decode() or "?"

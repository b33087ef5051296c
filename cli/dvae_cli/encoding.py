"""Characters that the encoding of a terminal or a pipe lacks: plain text replaces them, without an error."""

from __future__ import annotations

import codecs
import json
import sys
from io import TextIOWrapper

ERRORS = "dvae-plain"
PLAIN = {
    "\u202f": " ",
    "−": "-",
    "–": "-",
    "—": "-",
    "─": "-",
    "━": "#",
    "±": "+-",
    "×": "x",
    "✓": "+",
    "·": "*",
    "…": "...",
    "→": "->",
    "≥": ">=",
    "≤": "<=",
    "≈": "~",
    "∝": "~",
    "∞": "inf",
    "∂": "d",
    "√": "sqrt",
    "²": "^2",
    "³": "^3",
    # The marks of tables; a plus or a star would be read as part of a number.
    "†": "!",
    "‡": "^",
    "§": "%",
    "¶": "|",
    "‖": "=",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "ε": "epsilon",
    "ζ": "zeta",
    "θ": "theta",
    "κ": "kappa",
    "λ": "lambda",
    "μ": "mu",
    "µ": "mu",
    "ν": "nu",
    "ξ": "xi",
    "π": "pi",
    "ρ": "rho",
    "σ": "sigma",
    "τ": "tau",
    "φ": "phi",
    "χ": "chi",
    "ψ": "psi",
    "Δ": "Delta",
    "Λ": "Lambda",
    "Π": "Pi",
    "Σ": "Sigma",
    "Φ": "Phi",
}


def adapt_streams() -> None:
    """Make standard output and standard error replace characters as `encodable` does."""
    codecs.register_error(ERRORS, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def encodable(text: str, encoding: str | None) -> str:
    """Return a text with every character that `encoding` lacks replaced.

    Symbols become ASCII with the same meaning; any other character becomes an escape as in JSON, so that names
    stay distinct.  Lay out text after this, since some symbols become longer.
    """
    codecs.register_error(ERRORS, _replace)
    name = encoding or "utf-8"
    return text.encode(name, ERRORS).decode(name)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return the replacement of the characters that cannot be encoded, and the position after them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(letter: str) -> str:
    """Return ASCII for a character; an undecodable byte of a file name becomes a backslash escape."""
    if 0xDC80 <= ord(letter) <= 0xDCFF:
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return PLAIN.get(letter) or json.dumps(letter)[1:-1]

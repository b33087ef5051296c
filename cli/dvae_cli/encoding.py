"""What a terminal or a pipe cannot write: plain letters in its place, and never an error."""

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
    """Let standard output and standard error write what `encodable` returns for their encodings."""
    codecs.register_error(ERRORS, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def encodable(text: str, encoding: str | None) -> str:
    """Return a text with plain letters in the place of what `encoding` lacks.

    Symbols become ASCII that says the same; any other letter becomes an escape like those of JSON, so that names
    stay distinct.  Layouts are made after this, since some symbols become longer.
    """
    codecs.register_error(ERRORS, _replace)
    name = encoding or "utf-8"
    return text.encode(name, ERRORS).decode(name)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what stands for the letters that could not be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(letter: str) -> str:
    """Return ASCII for a letter; a byte of a file name that is no text is shown as such."""
    if 0xDC80 <= ord(letter) <= 0xDCFF:
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return PLAIN.get(letter) or json.dumps(letter)[1:-1]

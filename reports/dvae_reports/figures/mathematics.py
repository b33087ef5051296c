"""Mathematical expressions in the texts of a figure, typeset in the figure's font."""

from __future__ import annotations

import re

from matplotlib.axes import Axes
from matplotlib.mathtext import MathTextParser

SIGNS = {
    "d log p̃/dβ": r"$\mathrm{d}\,\log\tilde{p}\,/\,\mathrm{d}\beta$",
    "log p(x) ≥": r"$\log p(x) \geq$",
    "log p(x)": r"$\log p(x)$",
    "log Z": r"$\log Z$",
    "q(z = 1)": r"$q(z = 1)$",
    "β = 0": r"$\beta = 0$",
    "β": r"$\beta$",
    "ζ": r"$\zeta$",
    "ρ": r"$\rho$",
}
SIGN = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, SIGNS))})(?!\w)")


def with_mathematics(text: str) -> str:
    """Return a text with its mathematical expressions typeset; a text with dollar signs is not changed.

    Dollar signs that do not enclose valid mathematics, as in some names, are printed.
    """
    if "$" not in text:
        return SIGN.sub(lambda found: SIGNS[found[0]], text)
    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return text.replace("$", r"\$")
    return text


def set_mathematics(ax: Axes) -> None:
    """Typeset the mathematical expressions in the labels of axes, of their contents and of their legend."""
    ax.set_xlabel(with_mathematics(ax.get_xlabel()))
    ax.set_ylabel(with_mathematics(ax.get_ylabel()))
    for artist in ax.get_legend_handles_labels()[0]:
        artist.set_label(with_mathematics(str(artist.get_label())))
    if legend := ax.get_legend():
        for text in legend.get_texts():
            text.set_text(with_mathematics(text.get_text()))

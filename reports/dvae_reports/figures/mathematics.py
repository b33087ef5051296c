"""Mathematics in the texts of a figure: set as such, in the font of its letters."""

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
    """Return a text with what is mathematics in it; one that has some of its own stays as it is.

    Where that cannot be set, as in a name with two dollar signs, these are letters.
    """
    if "$" not in text:
        return SIGN.sub(lambda found: SIGNS[found[0]], text)
    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return text.replace("$", r"\$")
    return text


def set_mathematics(ax: Axes) -> None:
    """Set the mathematics in the labels of axes, of what is drawn in them, and of the legend that is there."""
    ax.set_xlabel(with_mathematics(ax.get_xlabel()))
    ax.set_ylabel(with_mathematics(ax.get_ylabel()))
    for artist in ax.get_legend_handles_labels()[0]:
        artist.set_label(with_mathematics(str(artist.get_label())))
    if legend := ax.get_legend():
        for text in legend.get_texts():
            text.set_text(with_mathematics(text.get_text()))

"""Pictures as text in a page: SVG in the colours of the page's theme, and PNG as data URIs."""

from __future__ import annotations

import base64
import io
import re

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from ..figures.registry import FORMATS
from ..figures.style import PALETTE


def figure_svg(figure: Figure, salt: str) -> str:
    """Return the figure as an `<svg>` element whose colours are CSS variables and whose text is text.

    Parameters
    ----------
    figure : Figure
        Drawn with the colours of `PALETTE`.
    salt : str
        Unique on the page: it makes the identifiers of the figure unique.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=FORMATS["svg"])
    return _inline(buffer.getvalue())


def _inline(svg: str) -> str:
    """Return a stand-alone SVG file as an element of a page.

    Removes the prologue, the names of groups (they would repeat on the page) and the fonts (the page has its own).
    """
    box = re.search(r'viewBox="[^"]*"', svg)
    body = svg[svg.index("<g id=") : svg.rindex("</svg>")]
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    # Matplotlib before 3.10 writes size and family in one property, later ones in two.
    body = re.sub(r"font: (?:[\w-]+ )*([\d.]+px) [^;\"]*", r"font-size: \1", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    # The data of an image inside the figure is broken into lines: join them.
    body = re.sub(r"base64,[^\"]*", lambda found: re.sub(r"\s", "", found[0]), body)
    body = re.sub(r"\s*\n\s*", " ", body)
    for name, color in PALETTE.items():
        body = body.replace(color, f"var(--{name})")
    return f'<svg {box.group() if box else ""} aria-hidden="true" focusable="false">{body}</svg>'


def png_uri(image: NDArray[np.uint8]) -> str:
    """Return an RGBA image, shape (height, width, 4), as the data URI of a PNG with the same pixels."""
    buffer = io.BytesIO()
    imsave(buffer, image, format="png", metadata=FORMATS["png"])
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

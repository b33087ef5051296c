"""Figures that a notebook displays at the end of a cell."""

from __future__ import annotations

import base64
import io
from typing import Any

from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

# Page pixels per inch, and picture pixels per page pixel, for high-resolution screens.
PIXELS_PER_INCH, SHARPNESS = 100, 2


class ShownFigure(Figure):
    """A Figure that notebooks show once and with an opaque background; pyplot does not track it."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        """Return the picture as PNG, and its size on the page."""
        buffer = io.BytesIO()
        ground = to_rgba(self.get_facecolor())
        look: dict[str, Any] = {} if ground[3] else {"facecolor": "white"}
        self.savefig(buffer, format="png", dpi=PIXELS_PER_INCH * SHARPNESS, **look)
        width, height = (round(inches * PIXELS_PER_INCH) for inches in self.get_size_inches())
        size = {"image/png": {"width": width, "height": height}}
        return {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": repr(self)}, size

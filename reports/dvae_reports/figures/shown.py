"""Figures that show themselves where a notebook's cell ends with one."""

from __future__ import annotations

import base64
import io
from typing import Any

from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

# Pixels of a page for each inch, and those of the picture for each of the page's: screens have two, or more.
PIXELS_PER_INCH, SHARPNESS = 100, 2


class ShownFigure(Figure):
    """A Figure that notebooks show once, never see-through; pyplot does not know it."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        """Return the picture as PNG, and the size that it has on the page."""
        buffer = io.BytesIO()
        ground = to_rgba(self.get_facecolor())
        look: dict[str, Any] = {} if ground[3] else {"facecolor": "white"}
        self.savefig(buffer, format="png", dpi=PIXELS_PER_INCH * SHARPNESS, **look)
        width, height = (round(inches * PIXELS_PER_INCH) for inches in self.get_size_inches())
        size = {"image/png": {"width": width, "height": height}}
        return {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": repr(self)}, size

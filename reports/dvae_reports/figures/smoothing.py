"""The transfer functions of the smoothing transformations (Figures 2a, 7 and 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dvae_eval.samples.smoothing_curves import SmoothingCurves

from .mathematics import with_mathematics
from .panels import DPI, grid_shape, label_panels
from .style import PALETTE, styled

COLORS = ("blue", "orange", "green", "violet")
# Markers at these q distinguish curves without colour; most curves are well separated there.
MARKERS, MARKED = "osD^", (0.3, 0.62, 0.94)
MARK_SIZE = 3.6
# As in Figure 2a: sharpness 1 dotted, 3 solid, 5 dashed.
LINES: dict[float, Any] = {1.0: ":", 3.0: "-", 5.0: "--"}
# Smallest width of a panel, inches.
NARROWEST = 1.6


@styled
def smoothing_figure(curves: Sequence[SmoothingCurves], width: float) -> Figure:
    """Return a figure of `width` inches with one panel per transformation and a common legend."""
    n_rows, n_columns = grid_shape(len(curves), width, NARROWEST)
    height = n_rows * (0.85 * width / n_columns) + 0.4
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False)
    for ax, one in zip(panels.ravel(), curves, strict=False):
        _draw(one, ax)
    for ax in panels[:, 0]:
        ax.set_ylabel(with_mathematics("ζ"))
    for ax in panels.ravel()[len(curves) :]:
        ax.set_axis_off()
    label_panels(list(panels.ravel()), [one.smoothing for one in curves])
    figure.legend(handles=_key(curves), loc="outside upper left", ncols=3 if n_columns < 3 else 6)
    return figure


def _key(curves: Sequence[SmoothingCurves]) -> list[Line2D]:
    """Return the entries of the legend: one per ρ and one per sharpness."""
    rho = curves[0].rho
    colors = [
        Line2D([], [], color=color, marker=marker, markersize=MARK_SIZE, label=with_mathematics(f"ρ = {r:g}"))
        for r, color, marker in zip(rho, _colors(), MARKERS, strict=False)
    ]
    sharpness = sorted({s for one in curves for s in one.sharpness if s is not None})
    return colors + [
        Line2D([], [], color=PALETTE["muted"], linestyle=LINES.get(s, "-."), label=f"sharpness {s:g}")
        for s in sharpness
    ]


def _colors() -> list[str]:
    """Return the colours of the values of ρ."""
    return [PALETTE[color] for color in COLORS]


def _draw(curves: SmoothingCurves, ax: Axes) -> None:
    """Draw the inverse CDF of ζ against q, with a colour and a marker per ρ, and a line style per sharpness.

    Jumps of ζ, at the spike of a Gaussian or without smoothing, are drawn as vertical lines.
    """
    marked = np.searchsorted(curves.q, MARKED).tolist()
    for row, sharpness in zip(curves.zeta, curves.sharpness, strict=True):
        line = LINES.get(sharpness or 3.0, "-.")
        for zeta, color, marker in zip(row, COLORS, MARKERS, strict=False):
            marks: dict[str, Any] = {"marker": marker, "markevery": marked, "markersize": MARK_SIZE}
            ax.plot(curves.q, zeta, linestyle=line, color=PALETTE[color], **marks)
    ax.set(xlabel=with_mathematics("q(z = 1)"), xlim=(0, 1))

"""The transfer functions of the smoothing transformations (Figures 2a, 7 and 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dvae_eval.smoothing_curves import SmoothingCurves

from .panels import DPI, grid_shape, label_panels
from .style import PALETTE, axes, legend_above, styled

__all__ = ["plot_smoothing", "smoothing_figure"]

COLORS = ("blue", "orange", "green", "violet")
# As in Figure 2a: sharpness 1 dotted, 3 solid, 5 dashed.
LINES: dict[float, Any] = {1.0: ":", 3.0: "-", 5.0: "--"}
# Inches that a panel needs.
NARROWEST = 1.6


@styled
def plot_smoothing(curves: SmoothingCurves, *, ax: Axes | None = None) -> Axes:
    """Plot the inverse CDF of ζ against q: a colour for every ρ, a line style for every sharpness.

    ζ jumps where a Gaussian's tail meets the spike or z alone is left; the jump is drawn as it is.
    """
    ax = axes(ax)
    _draw(curves, ax)
    ax.set(ylabel=f"ζ, {curves.smoothing}")
    legend_above(ax, 3)
    return ax


@styled
def smoothing_figure(curves: Sequence[SmoothingCurves], width: float) -> Figure:
    """Return a figure of `width` inches with a panel for every transformation and one legend for all."""
    n_rows, n_columns = grid_shape(len(curves), width, NARROWEST)
    height = n_rows * (0.85 * width / n_columns) + 0.4
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False)
    for ax, one in zip(panels.ravel(), curves, strict=False):
        _draw(one, ax)
    for ax in panels[:, 0]:
        ax.set_ylabel("ζ")
    for ax in panels.ravel()[len(curves) :]:
        ax.set_axis_off()
    label_panels(list(panels.ravel()), [one.smoothing for one in curves])
    figure.legend(handles=_key(curves), loc="outside upper left", ncols=3 if n_columns < 3 else 6)
    return figure


def _key(curves: Sequence[SmoothingCurves]) -> list[Line2D]:
    """Return a line for every ρ and for every sharpness of all transformations."""
    rho = curves[0].rho
    colors = [Line2D([], [], color=c, label=f"ρ = {r:g}") for r, c in zip(rho, _colors(), strict=False)]
    sharpness = sorted({s for one in curves for s in one.sharpness if s is not None})
    return colors + [
        Line2D([], [], color=PALETTE["muted"], linestyle=LINES.get(s, "-."), label=f"sharpness {s:g}")
        for s in sharpness
    ]


def _colors() -> list[str]:
    """Return the colours of the values of ρ."""
    return [PALETTE[color] for color in COLORS]


def _draw(curves: SmoothingCurves, ax: Axes) -> None:
    """Draw the curves with their labels."""
    for i, (row, sharpness) in enumerate(zip(curves.zeta, curves.sharpness, strict=True)):
        for zeta, rho, color in zip(row, curves.rho, COLORS, strict=False):
            label = None if i else f"ρ = {rho:g}"
            ax.plot(curves.q, zeta, LINES.get(sharpness or 3.0, "-."), color=PALETTE[color], label=label)
    for sharpness in curves.sharpness:
        if sharpness is not None:
            line = LINES.get(sharpness, "-.")
            ax.plot([], [], line, color=PALETTE["muted"], label=f"sharpness {sharpness:g}")
    ax.set(xlabel="q(z = 1)", xlim=(0, 1))

"""The transfer functions of the smoothing transformations (Figures 2a, 7 and 8)."""

from __future__ import annotations

from matplotlib.axes import Axes

from dvae_eval.smoothing_curves import SmoothingCurves

from .style import PALETTE, axes, legend_above, styled

__all__ = ["plot_smoothing"]

COLORS = ("blue", "orange", "green", "violet")
# As in Figure 2a: sharpness 1 dotted, 3 solid, 5 dashed.
LINES = {1.0: ":", 3.0: "-", 5.0: "--"}


@styled
def plot_smoothing(curves: SmoothingCurves, *, ax: Axes | None = None) -> Axes:
    """Plot the inverse CDF of ζ against q: a colour for every ρ, a line style for every sharpness.

    ζ jumps where a Gaussian's tail meets the spike or z alone is left; the jump is drawn as it is.
    """
    ax = axes(ax)
    for i, (row, sharpness) in enumerate(zip(curves.zeta, curves.sharpness, strict=True)):
        for zeta, rho, color in zip(row, curves.rho, COLORS, strict=False):
            label = None if i else f"ρ = {rho:g}"
            ax.plot(curves.q, zeta, LINES.get(sharpness or 3.0, "-."), color=PALETTE[color], label=label)
    for sharpness in curves.sharpness:
        if sharpness is not None:
            line = LINES.get(sharpness, "-.")
            ax.plot([], [], line, color=PALETTE["muted"], label=f"sharpness {sharpness:g}")
    ax.set(xlabel="q(z = 1)", ylabel=f"ζ, {curves.smoothing}", xlim=(0, 1))
    legend_above(ax, 3)
    return ax

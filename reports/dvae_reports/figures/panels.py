"""A panel: how to draw, describe and read one kind of numbers; and panels in one figure of a paper's width."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .mathematics import set_mathematics, with_mathematics
from .shown import ShownFigure
from .style import legend_above, styled

T = TypeVar("T")
# A title, and what draws in the axes `ax`, a keyword.
Titled = tuple[str, Callable[..., Axes]]

DPI = 300
# Least width and height of a panel with ticks, labels and legend, inches; its height relative to its width.
NARROWEST, LOWEST, ASPECT = 2.9, 2.3, 0.66
# The margin that matplotlib's layout keeps on either side of a panel, inches.
MARGIN = 0.05


@dataclass(frozen=True, slots=True)
class Panel(Generic[T]):
    """A panel of a figure, which is also a figure of the report and a plot for notebooks.

    Attributes
    ----------
    name : str
        Unique among the panels of a result.
    title : str
        A few words, printed below the panel in a figure.
    plot : callable
        Draws the result in the axes `ax`, a keyword.
    alt : callable
        The alternative text on a page: what the panel shows for this result.
    caption : str or callable
        Below it on a page: how to read the panel, and what to do if it looks wrong.
    is_shown : callable
        Whether the result has the numbers.
    """

    name: str
    title: str
    plot: Callable[..., Axes]
    alt: Callable[[T], str] = lambda _: ""
    caption: str | Callable[[T], str] = ""
    is_shown: Callable[[T], bool] = lambda _: True


def titled(panels: Sequence[Panel[T]], result: T) -> list[Titled]:
    """Return the panels of a result for `panel_figure`."""
    return [(panel.title, partial(panel.plot, result)) for panel in panels]


@styled
def panel_figure(panels: Sequence[Titled], width: float) -> Figure:
    """Return a figure of `width` inches with these panels.

    A single panel has neither letter nor title; its description belongs in the paper's caption.
    """
    n_rows, n_columns = grid_shape(len(panels), width, NARROWEST)
    panel_width = width / n_columns
    height = max(LOWEST, ASPECT * min(panel_width, 1.6 * NARROWEST)) + 0.15 * (len(panels) > 1)
    figure = ShownFigure(figsize=(width, n_rows * height), dpi=DPI, layout="constrained")
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).ravel())
    for ax, (_, draw) in zip(axes, panels, strict=False):
        draw(ax=ax)
        set_mathematics(ax)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    if len(panels) > 1:
        label_panels(axes, [with_mathematics(title) for title, _ in panels])
    _fit_legends(figure, axes, n_columns)
    return figure


def grid_shape(n_panels: int, width: float, narrowest: float) -> tuple[int, int]:
    """Return (rows, columns) of panels at least `narrowest` wide, with rows filled as equally as possible."""
    n_rows = math.ceil(n_panels / max(1, int(width / narrowest)))
    return n_rows, math.ceil(n_panels / n_rows)


def label_panels(axes: Sequence[Axes], titles: Sequence[str]) -> None:
    """Write (a), (b), ... and a title below the axis label of each panel, as papers do."""
    for i, (ax, title) in enumerate(zip(axes, titles, strict=False)):
        ax.set_xlabel(f"{ax.get_xlabel()}\n({chr(ord('a') + i)}) {title}".strip())


def _fit_legends(figure: Figure, axes: Sequence[Axes], n_columns: int) -> None:
    """Set the number of columns of every legend so that it fits into its panel."""
    with_legend = [(i, ax, legend) for i, ax in enumerate(axes) if (legend := ax.get_legend()) is not None]
    for *_, legend in with_legend:
        legend.set_in_layout(False)
    figure.draw_without_rendering()
    panel = figure.bbox.width / n_columns
    for i, ax, legend in with_legend:
        right = (i % n_columns + 1) * panel - MARGIN * figure.dpi
        _fit(ax, len(legend.get_texts()), right - ax.get_window_extent().x0)


def _fit(ax: Axes, n_texts: int, width: float) -> None:
    """Set the number of columns of a legend of `n_texts` entries so that it fits into `width` pixels."""
    for n_columns in range(n_texts, 0, -1):
        legend_above(ax, n_columns)
        legend = ax.get_legend()
        if legend is None or legend.get_window_extent().width <= width:
            return

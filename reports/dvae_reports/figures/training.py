"""The course of training: the bound and its KL parts by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dvae_core.config import Change
from dvae_core.text import count, fixed
from dvae_core.training.metrics import Epoch
from dvae_core.types import Float, Index

from ..results.run_directory import Course
from .panels import Panel
from .style import PALETTE, axes, legend_above, styled

MAX_LAYERS = 3
# Most settings that the label of a change names.
MAX_SETTINGS = 2
# Colour and dashes of the first, second, ... run; the dashes distinguish them without colour.
LINE_STYLES = (
    ("blue", "-"),
    ("orange", "--"),
    ("green", "-."),
    ("violet", ":"),
    ("muted", (0, (6, 1, 1, 1, 1, 1))),
    ("ink", (0, (1, 2.5))),
)
# Markers for runs beyond those: they distinguish the seventh from the first, and so on.
MARKS = ("", "o", "s", "^", "D", "v")


@styled
def plot_elbo(course: Course, *, ax: Axes | None = None) -> Axes:
    """Plot the bound on the training and the validation set against epochs, in nats per image.

    A thin labelled line marks each change of settings.
    """
    ax, epochs = axes(ax), course.epochs
    numbers = _numbers(epochs)
    train = np.array([e.train.elbo for e in epochs], dtype=float)
    valid = np.array([e.valid.elbo for e in epochs], dtype=float)
    marker = "o" if len(epochs) == 1 else ""
    ax.plot(numbers, train, "--", marker=marker, color=PALETTE["orange"], label="training")
    ax.plot(numbers, valid, "-", marker=marker, color=PALETTE["blue"], label="validation")
    _shade_warmup(ax, epochs)
    focus(ax, np.concatenate([curve[len(epochs) // 10 :] for curve in (train, valid)]))
    dress(ax, "ELBO (nats per image)")
    _mark(ax, course.changes, PALETTE["muted"])
    _name(ax, course.changes)
    legend_above(ax, 3)
    return ax


@styled
def plot_kl(course: Course, *, ax: Axes | None = None) -> Axes:
    """Plot the KL of the Boltzmann machine and of the continuous layers on validation images, in nats per image.

    A thin line marks each change of settings.
    """
    ax, epochs = axes(ax), course.epochs
    numbers = _numbers(epochs)
    marker = "o" if len(epochs) == 1 else ""
    rbm = np.array([e.valid.kl_rbm for e in epochs], dtype=float)
    ax.plot(numbers, rbm, "-", marker=marker, color=PALETTE["blue"], label="Boltzmann machine")
    looks = zip(("orange", "green", "violet"), ("--", "-.", ":"), strict=True)
    for (label, values), (color, line) in zip(_layers(epochs), looks, strict=False):
        ax.plot(numbers, values, line, marker=marker, color=PALETTE[color], label=label)
    _shade_warmup(ax, epochs)
    # Include 0 before the margin is added: the margin of nearly constant curves would cut off their line.
    ax.update_datalim([(0, 0)], updatex=False)
    ax.autoscale_view()
    ax.set_ylim(bottom=0)
    dress(ax, "KL (nats per image)")
    _mark(ax, course.changes, PALETTE["muted"])
    legend_above(ax, 2)
    return ax


@styled
def plot_runs(runs: Mapping[str, Course], *, ax: Axes | None = None) -> Axes:
    """Plot the validation bounds of several runs, by their names, against epochs, in nats per image.

    A thin line in a run's colour marks each of its changes of settings.
    """
    ax = axes(ax)
    settled = []
    for i, (name, course) in enumerate(runs.items()):
        epochs = course.epochs
        color, line = LINE_STYLES[i % len(LINE_STYLES)]
        marker = MARKS[i // len(LINE_STYLES) % len(MARKS)] or ("o" if len(epochs) == 1 else "")
        marks: dict[str, Any] = {"marker": marker, "markersize": 3.5, "markevery": max(1, len(epochs) // 8)}
        values = np.array([e.valid.elbo for e in epochs], dtype=float)
        ax.plot(_numbers(epochs), values, linestyle=line, color=PALETTE[color], label=name, **marks)
        settled.append(values[len(values) // 10 :])
        _mark(ax, course.changes, PALETTE[color])
    focus(ax, np.concatenate(settled))
    dress(ax, "validation ELBO (nats per image)")
    legend_above(ax, 2)
    return ax


def _numbers(epochs: Sequence[Epoch]) -> Index:
    """Return the epochs' numbers."""
    return np.array([e.epoch for e in epochs], dtype=np.int64)


def _layers(epochs: Sequence[Epoch]) -> list[tuple[str, Float]]:
    """Return a label and a curve for each continuous layer, or for their sum above `MAX_LAYERS`."""
    table = np.array([e.valid.kl_continuous for e in epochs], dtype=float)
    n_layers = table.shape[1] if table.ndim == 2 else 0
    if n_layers > MAX_LAYERS:
        return [(f"{n_layers} continuous layers", table.sum(axis=1))]
    return [(f"continuous layer {m + 1}", table[:, m]) for m in range(n_layers)]


def _shade_warmup(ax: Axes, epochs: Sequence[Epoch]) -> None:
    """Shade the warm-up epochs, in which the objective is not the bound: KL terms have less than full weight."""
    warm = [e.epoch for e in epochs if e.kl_weight < 1]
    if warm:
        ax.axvspan(
            warm[0] - 0.5, warm[-1] + 0.5, color=PALETTE["faint"], alpha=0.45, linewidth=0, label="KL warm-up"
        )


def _mark(ax: Axes, changes: Sequence[Change], color: str) -> None:
    """Draw a thin line before the first epoch of each change."""
    for change in changes:
        ax.axvline(change.from_epoch - 0.5, color=color, linewidth=0.7, linestyle=(0, (2, 2)))


def _name(ax: Axes, changes: Sequence[Change]) -> None:
    """Label each line with the settings that changed, at the bottom, where a rising bound leaves room."""
    low, high = ax.get_xlim()
    for change in changes:
        x = change.from_epoch - 0.5
        is_at_edge = x > low + 0.88 * (high - low)
        ax.annotate(
            "\n".join(_words(change)),
            (x, 0.03),
            xycoords=ax.get_xaxis_transform(),
            xytext=(-2 if is_at_edge else 2, 0),
            textcoords="offset points",
            rotation=90,
            ha="right" if is_at_edge else "left",
            va="bottom",
            fontsize=6,
            color=PALETTE["muted"],
            # The words are drawn over curves that cross them.
            bbox={"facecolor": PALETTE["paper"], "alpha": 0.65, "edgecolor": "none", "pad": 0.6},
        )


def _words(change: Change) -> list[str]:
    """Return a change as lines: at most `MAX_SETTINGS` of its settings, and its first epoch."""
    settings = str(change).rpartition(" from ")[0].split(", ")
    # The axis already shows the epochs; the step size affects the curves most.
    settings = [words for words in settings if not words.startswith("epochs ")] or settings
    settings.sort(key=lambda words: not words.startswith("learning rate"))
    more = len(settings) - MAX_SETTINGS
    shown = settings if more <= 0 else [*settings[: MAX_SETTINGS - 1], f"and {more + 1} others"]
    return [*shown, f"from epoch {change.from_epoch}"]


def focus(ax: Axes, settled: Float) -> None:
    """Set the y range to the bounds after the first tenth, whose steep rise would flatten the rest."""
    settled = settled[np.isfinite(settled)]
    if settled.size and settled.min() < settled.max():
        margin = 0.06 * (settled.max() - settled.min())
        ax.set_ylim(settled.min() - margin, settled.max() + margin)


def dress(ax: Axes, label: str) -> None:
    """Label the axes: epochs as whole numbers, and `label`."""
    ax.set_xlabel("epoch")
    ax.set_ylabel(label)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))


def _marked(course: Course) -> str:
    """Return a sentence for each change, which a line marks."""
    return "".join(f" A vertical line marks a change: {change}." for change in course.changes)


TRAINING_PANELS: Sequence[Panel[Course]] = (
    Panel(
        "elbo",
        "bound",
        plot_elbo,
        lambda course: (
            f"Line chart of the ELBO over {count(len(course.epochs))} epochs. At the last one: "
            f"{fixed(course.epochs[-1].train.elbo, 2)} nats in training and "
            f"{fixed(course.epochs[-1].valid.elbo, 2)} in validation.{_marked(course)}"
        ),
        lambda course: (
            "The evidence lower bound. If validation falls while training rises, the model overfits: stop "
            f"earlier or use a smaller model.{_marked(course)}"
        ),
    ),
    Panel(
        "kl",
        "KL",
        plot_kl,
        lambda course: (
            f"Line chart of the KL parts by epoch. At the last one: {fixed(course.epochs[-1].valid.kl_rbm, 2)} "
            "nats for the Boltzmann machine and "
            f"{fixed(sum(course.epochs[-1].valid.kl_continuous), 2)} for the continuous layers."
        ),
        "KL divergence of each part of the latent space on validation images, an upper bound on the "
        "information that it carries about them. A part at 0 is not used.",
    ),
)

"""The table that `dvae-train --list-presets` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dvae_core.training.presets import Preset

__all__ = ["preset_table"]

HEADINGS = tuple("preset,data set,RBM,groups,layers,q hidden,p hidden,sharing,decoder,epochs".split(","))
SHARING = ("none", "complete")


def preset_table(presets: Mapping[str, Preset]) -> Iterator[str]:
    """Yield the lines of a table with a row of columns and a line of words for each preset."""
    rows = [HEADINGS, *(_row(name, preset) for name, preset in presets.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    summaries = ["", *(preset.summary for preset in presets.values())]
    for row, summary in zip(rows, summaries, strict=True):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        if summary:
            yield f"    {summary}"


def _row(name: str, preset: Preset) -> tuple[str, ...]:
    """Return a preset's cells, in the order of `HEADINGS`; what does not apply is a dash."""
    m, n = preset.model, preset.model.n_sharing_groups
    continuous = (
        f"{m.n_layers}x{m.n_continuous}",
        _widths(m.prior_hidden),
        SHARING[n] if n < 2 else f"{n} groups",
    )
    layers, prior_hidden, sharing = continuous if m.n_layers else ("-", "-", "-")
    return (
        *(name, preset.dataset, f"{m.n_left}+{m.n_right}", str(m.n_groups), layers),
        *(_widths(m.encoder_hidden), prior_hidden, sharing, _widths(m.decoder_hidden), str(preset.train.epochs)),
    )


def _widths(hidden: tuple[int, ...]) -> str:
    """Return the widths of hidden layers as the command line takes them, or that there are none."""
    return ",".join(map(str, hidden)) or "linear"

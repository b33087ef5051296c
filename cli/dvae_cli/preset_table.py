"""The lists that `dvae-train --list-presets` and `--list-datasets` print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dvae_core.terminal import cell_width, fold, fold_parts
from dvae_core.training.presets import Preset

HEADINGS = tuple("preset,data set,RBM,groups,layers,q hidden,p hidden,sharing,decoder,epochs".split(","))
SHARING = ("none", "complete")
NAMES_WIDTH, NARROW = 24, 60


def preset_table(presets: Mapping[str, Preset], width: int | None = None) -> Iterator[str]:
    """Yield the lines of a table: one row and one line of description per preset.

    If a row does not fit into `width` columns, each preset becomes a paragraph.
    """
    rows = {name: _row(name, preset) for name, preset in presets.items()}
    columns = [max(map(len, column)) for column in zip(HEADINGS, *rows.values(), strict=True)]
    if width is not None and sum(columns) + 2 * (len(columns) - 1) > width:
        for name, preset in presets.items():
            yield from _paragraph(rows[name], preset.summary, width)
        return
    yield _aligned(HEADINGS, columns)
    for name, preset in presets.items():
        yield _aligned(rows[name], columns)
        yield from fold(f"    {preset.summary}", width, " " * 4)


def dataset_list(summaries: Mapping[str, str], width: int | None = None) -> Iterator[str]:
    """Yield the lines of a list of data sets: descriptions beside the names or, on a narrow terminal, below."""
    for name, summary in summaries.items():
        if width is not None and width < NARROW:
            yield name
            yield from fold(f"    {summary}", width, " " * 4)
        else:
            yield from fold(f"{name:{NAMES_WIDTH}} {summary}", width, " " * (NAMES_WIDTH + 1))


def _aligned(cells: tuple[str, ...], columns: list[int]) -> str:
    """Return the cells of a row, padded to the widths of their columns."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, columns, strict=True)).rstrip()


def _paragraph(row: tuple[str, ...], summary: str, width: int) -> Iterator[str]:
    """Yield the name of a preset, its description, and its cells with their headings."""
    name, dataset, *cells = row
    head = f"{name}  (data set {dataset})"
    yield from [head] if cell_width(head) <= width else [name, f"    (data set {dataset})"]
    yield from fold(f"    {summary}", width, " " * 4)
    facts = [f"{heading} {cell}" for heading, cell in zip(HEADINGS[2:], cells, strict=True) if cell != "-"]
    yield from fold_parts(facts, width, " " * 4)


def _row(name: str, preset: Preset) -> tuple[str, ...]:
    """Return the cells of a preset, in the order of `HEADINGS`; a dash where a heading does not apply."""
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
    """Return the widths of hidden layers as typed on the command line; `linear` if there are none."""
    return ",".join(map(str, hidden)) or "linear"

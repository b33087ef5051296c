"""Table 2: the architectures of the paper's models, and of the user's."""

from __future__ import annotations

from collections.abc import Sequence

from dvae_core.config import ModelConfig

from ..results import published
from ..results.loaded import LoadedResult, named
from ..results.published import Architecture
from .table import Cell, Column, Section, Table

CONTINUOUS, HIDDEN = "of continuous latent variables", "hidden units of each network"
COLUMNS = [
    Column("model", "model", is_number=False),
    Column("layers", "n_layers", meaning=CONTINUOUS),
    Column("variables per layer", "n_continuous", meaning=CONTINUOUS),
    Column("prior networks", "prior_hidden", meaning=HIDDEN),
    Column("sharing", "sharing", is_number=False, meaning="of parameters between the prior networks"),
    Column("RBM", "rbm", meaning="units on the two sides"),
    Column("groups", "n_groups", meaning="groups of the hierarchical posterior over the RBM units"),
    Column("posterior networks", "encoder_hidden", meaning=HIDDEN),
    Column("decoder", "decoder_hidden", is_number=False, meaning=HIDDEN),
]


def architecture_table(measured: Sequence[LoadedResult]) -> Table:
    """Return Table 2 with the architectures of the user's runs below the paper's."""
    paper = [
        _row(published.DATASETS[row.dataset], row, row.sharing, row.decoder) for row in published.architectures()
    ]
    own = {name: one.config.model for name, one in named(measured) if one.config is not None}
    mine = [
        _row(name, model, _sharing(model.n_sharing_groups), widths(model.decoder_hidden))
        for name, model in own.items()
    ]
    titled = {"Rolfe 2017, Table 2 and App. H": paper, "trained here": mine}
    strangers = list(dict.fromkeys(str(one.path) for one in measured if one.config is None))
    left_out = f"Not shown, because they are not in a run directory: {', '.join(strangers)}."
    sections = [Section(title, rows) for title, rows in titled.items() if rows]
    notes = [left_out] if strangers else []
    return Table("Architectures (Table 2)", COLUMNS, sections, notes, name="architectures")


def _row(name: str, model: Architecture | ModelConfig, sharing: str, decoder: str) -> list[Cell]:
    """Return an architecture as a row; a model without continuous layers has no prior networks."""
    layers = [str(model.n_layers), str(model.n_continuous), widths(model.prior_hidden), sharing]
    texts = [
        name,
        *(layers if model.n_layers else ["0", "", "", ""]),
        f"{model.n_left} + {model.n_right}",
        str(model.n_groups),
        widths(model.encoder_hidden),
        decoder,
    ]
    return [Cell(text) for text in texts]


def widths(hidden: Sequence[int]) -> str:
    """Return the widths of hidden layers as text; `linear` if there are none."""
    return ", ".join(map(str, hidden)) or "linear"


def _sharing(n_groups: int) -> str:
    """Return a degree of parameter sharing in the paper's words."""
    return {0: "none", 1: "complete"}.get(n_groups, f"{n_groups} groups")

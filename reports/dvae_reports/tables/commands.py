"""The command lines that reproduce the numbers of a table."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ..results.loaded import LoadedResult, named
from .table import Cell, Column, Section, Table

NAMES = {"ll": "log-likelihood", "logz": "log Z", "benchmark": "benchmark"}
COLUMNS = [
    Column("run", "run", is_number=False),
    Column("made", "made", is_number=False),
    Column("command", "command", is_number=False),
]


def command_table(measured: Sequence[LoadedResult]) -> Table:
    """Return the commands that train and measure every model, in the order to run them."""
    rows: dict[tuple[str, str, str], list[Cell]] = {}
    for name, one in sorted(named(measured), key=lambda pair: pair[1].result.kind, reverse=True):
        parts = {"model": list(one.training)} if one.result.kind != "benchmark" else {}
        parts[NAMES[one.result.kind]] = one.result.command
        for made, command in parts.items():
            text = shlex.join(command) or "made from Python, not by a command"
            rows[str(one.path), made, text] = [Cell(name), Cell(made), Cell(text, is_code=bool(command))]
    order = list(dict.fromkeys(str(one.path) for one in measured))
    steps = ["model", NAMES["logz"], NAMES["ll"], NAMES["benchmark"]]
    keys = sorted(rows, key=lambda key: (order.index(key[0]), steps.index(key[1])))
    notes = ["Paths are as they were given to the commands."]
    makings = {f"{NAMES[one.result.kind]} of {name}": one.result.making for name, one in named(measured)}
    notes += [f"{what}: {making}." for what, making in makings.items() if making]
    sections = [Section("", [rows[key] for key in keys])]
    return Table("The commands that made these numbers", COLUMNS, sections, notes, name="commands")

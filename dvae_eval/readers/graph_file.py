"""The edges of a machine whose file lacks them: the two units of every coupling, in the order of the couplings.

The file is text with a line `i j` or `i,j` per edge; JSON, a list of pairs or an object with `edges` and `nodes`;
or an NPZ file with the array `edges`, shape (n, 2).  Units are numbered from 0, or named.  If they are named, the
file also has the order of the names: a line with one name each, or `nodes`.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvae_core.errors import DataError
from dvae_core.io.containers import npz_names, read_npz, reading
from dvae_core.io.files import json_object, to_utf8

from .text import decode, read_text

ADVICE = "give a line 'i j' per edge, in the order of the couplings"
# The first line of a table of edges, and the attributes that networkx writes after an edge.
HEADERS = {("i", "j"), ("u", "v"), ("source", "target"), ("from", "to")}
_ATTRIBUTES = re.compile(r"\s\{.*\}\s*$")


@dataclass(frozen=True, slots=True)
class EdgeList:
    """Edges in their order, and the order of the units if the file has it.

    Attributes
    ----------
    edges : tuple of (str, str)
        The names of the two units of every edge.
    nodes : tuple of str
        The names of the units in their order; empty if the file does not list them.
    """

    edges: tuple[tuple[str, str], ...]
    nodes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the units; empty if they are just the numbers from 0."""
        return () if self.nodes == tuple(map(str, range(len(self.nodes)))) else self.nodes

    def ends(self, n_units: int, n_couplings: int) -> NDArray[np.int64]:
        """Return the numbers of the two units of every edge, shape (n_couplings, 2).

        Raises
        ------
        DataError
            If the number of edges or nodes is wrong, or an edge does not join two different units.
        """
        for given, wanted, what, of in (
            (len(self.edges), n_couplings, "edges", "couplings"),
            (len(self.nodes) or n_units, n_units, "nodes", "biases"),
        ):
            if given != wanted:
                raise DataError(f"has {given} {what} for {wanted} {of}; give the graph of this model")
        number = {name: unit for unit, name in enumerate(self.nodes or map(str, range(n_units)))}
        if len(number) < n_units:
            raise DataError("has a node twice; give every unit once, in the order of the biases")
        for edge in self.edges:
            if edge[0] == edge[1] or not number.keys() >= set(edge):
                among = (
                    "its nodes" if self.nodes else f"0 ... {n_units - 1}; name the nodes in their order as well"
                )
                raise DataError(
                    f"has an edge {edge[0][:40]!r}, {edge[1][:40]!r}, which does not join two units of {among}"
                )
        found = [(number[i], number[j]) for i, j in self.edges]
        return np.array(found, np.int64).reshape(-1, 2)


def read_edges(path: Path) -> EdgeList:
    """Return the edges in a file.

    Raises
    ------
    DataError
        If it is missing, or of no kind above.
    """
    if not path.is_file():
        raise DataError(f"no such file; {ADVICE}")
    with reading(path, "graph"):
        return EdgeList(*_content(path))


def _content(path: Path) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return edges and nodes by the kind of file."""
    with path.open("rb") as stream:
        start = stream.read(64)
    if start.startswith(b"PK"):
        return _of_npz(path)
    if decode(start).lstrip().startswith(("{", "[")):
        return _of_json(path)
    return _of_rows(path)


def _of_npz(path: Path) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return edges and nodes of an NPZ file."""
    names = [name for name in ("edges", "nodes") if name in npz_names(path)]
    if "edges" not in names:
        raise DataError(f"has no array edges; {ADVICE}")
    found = read_npz(path, names, kinds="iuU")
    for array in found.values():
        if array.dtype.kind == "U" and array.itemsize and (array.view(np.uint32) > sys.maxunicode).any():
            raise DataError("contains an invalid text; save the file again")
    edges, nodes = found["edges"], found.get("nodes", np.empty(0, np.int64))
    if edges.ndim != 2 or edges.shape[1] != 2 or nodes.ndim != 1:
        raise DataError(f"needs edges of shape (n, 2) and nodes of shape (n,); edges has {edges.shape}")
    return _named(edges.tolist()), tuple(map(_label, nodes.tolist()))


def _of_json(path: Path) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return edges and nodes of JSON: pairs, an object of both, or networkx's node_link_data."""
    text = read_text(path)
    try:
        found = json_object(text if text.lstrip().startswith("{") else f'{{"edges": {text}}}')
    except ValueError as error:
        raise DataError(f"damaged JSON ({str(error)[:80]}); {ADVICE}") from error
    edges, nodes = found.get("edges", found.get("links")), found.get("nodes", [])
    if not isinstance(edges, list) or not isinstance(nodes, list):
        raise DataError(f"has no list of edges; {ADVICE}")
    edges = [[e.get("source"), e.get("target")] if isinstance(e, dict) else e for e in edges]
    nodes = [node.get("id") if isinstance(node, dict) else node for node in nodes]
    if not all(isinstance(edge, list) and len(edge) == 2 for edge in edges):
        raise DataError(f"has an edge that is not a pair; {ADVICE}")
    return _named(edges), tuple(map(_label, nodes))


def _named(edges: list[list[Any]]) -> tuple[tuple[str, str], ...]:
    """Return pairs of names."""
    return tuple((_label(i), _label(j)) for i, j in edges)


def _label(name: Any) -> str:
    """Return a name as a label: a text as it is, anything else as JSON."""
    return to_utf8(name if isinstance(name, str) else json.dumps(name, default=str))


def _of_rows(path: Path) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return edges and nodes of lines: two names are an edge, one is a node; # starts a comment."""
    edges, nodes = [], []
    for number, row in enumerate(_rows(path), 1):
        names = [name.strip() for name in row]
        if len(names) == 2 and not (number == 1 and tuple(map(str.lower, names)) in HEADERS and _is_table(path)):
            edges.append((names[0], names[1]))
        elif len(names) == 1:
            nodes.append(names[0])
        elif len(names) > 2:
            raise DataError(f"row {number} has {len(names)} values; {ADVICE}, without weights")
    if not edges:
        raise DataError(f"contains no edge; {ADVICE}")
    return tuple(edges), tuple(nodes)


def _is_table(path: Path) -> bool:
    """Return whether the name of a file is that of a CSV file."""
    return path.suffix.lower() == ".csv"


def _rows(path: Path) -> Iterable[list[str]]:
    """Return the values of every line that is not empty."""
    lines = [line for line in read_text(path).splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if _is_table(path):
        return csv.reader(lines)
    return (re.split(r"[\s,;]+", _ATTRIBUTES.sub("", line.partition(" #")[0]).strip()) for line in lines)

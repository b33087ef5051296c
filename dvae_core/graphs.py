"""Graphs for Boltzmann machines: from a name or a file to edges, and from edges to classes for block sampling.

A graph goes by a text that fits into a frozen configuration, and that alone rebuilds it: `complete`, `ring`,
`grid-8x8`, `chimera-2x2x4`, or its edges `0-1,1-2`.  Nodes are numbered from 0; an edge (i, j) has i < j.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import ConfigError, DataError

__all__ = ["colour_classes", "graph_edges", "read_graph", "two_sides"]

Edge = tuple[int, int]

MAX_EDGES = 1_000_000
LIMIT_BYTES = 100_000_000
# networkx takes time quadratic in the nodes for DSATUR; beyond this a linear strategy must do.
DSATUR_NODES = 2000

_LATTICE = re.compile(r"grid-[1-9][0-9]{0,5}(x[1-9][0-9]{0,5})*|chimera-[1-9][0-9]{0,5}(x[1-9][0-9]{0,5}){2}")
_EDGES = re.compile(r"[0-9]{1,9}-[0-9]{1,9}(,[0-9]{1,9}-[0-9]{1,9})*")
_LINE = re.compile(r"\s*([0-9]{1,9})\s+([0-9]{1,9})\s*")
FORMS = "complete, ring, grid-8x8, chimera-2x2x4, or a file with an edge 'i j' on every line"


def graph_edges(graph: str, n_units: int) -> list[Edge]:
    """Return the edges of the graph that a configuration names, sorted.

    Parameters
    ----------
    graph : str
        `complete` or `ring` of n_units nodes; `grid-AxB...`, neighbours along every axis, with open ends;
        `chimera-MxNxT`, M x N cells of 2 x T nodes, numbered cell by cell; or edges `i-j,i-j,...`.
    n_units : int
        Number of nodes that the graph must have.

    Raises
    ------
    ConfigError
        If the text names no graph, or one of another number of nodes, or of more than `MAX_EDGES` edges.
    """
    if _LATTICE.fullmatch(graph):
        kind, _, rest = graph.partition("-")
        sizes = [int(size) for size in rest.split("x")]
        _check_nodes(graph, math.prod(sizes) * (2 if kind == "chimera" else 1), n_units)
        edges: Iterable[Edge] = _grid(sizes) if kind == "grid" else _chimera(*sizes)
    elif graph == "complete":
        edges = itertools.combinations(range(n_units), 2)
    elif graph == "ring":
        edges = ((i, (i + 1) % n_units) for i in range(n_units))
    elif _EDGES.fullmatch(graph):
        edges = [(int(i), int(j)) for i, j in (part.split("-") for part in graph.split(","))]
        _check_nodes("the list of edges", 1 + max(map(max, edges)), n_units)
    else:
        raise ConfigError(f"--graph: {graph[:60]!r} names no graph; give {FORMS}")
    found = list(itertools.islice(edges, MAX_EDGES + 1))
    if len(found) > MAX_EDGES:
        raise ConfigError(f"--graph: {graph[:60]} has more than {MAX_EDGES} edges; give a smaller one")
    return sorted({(min(edge), max(edge)) for edge in found if edge[0] != edge[1]})


def _check_nodes(graph: str, n_nodes: int, n_units: int) -> None:
    """Raise unless the graph has as many nodes as there are units."""
    if n_nodes != n_units:
        raise ConfigError(
            f"--graph: {graph} has {n_nodes} nodes, --left and --right make {n_units} units; make them equal"
        )


def _grid(sizes: Sequence[int]) -> Iterator[Edge]:
    """Yield the edges of a lattice, the last axis numbered fastest."""
    for node in itertools.product(*(range(size) for size in sizes)):
        for axis, size in enumerate(sizes):
            if node[axis] + 1 < size:
                stride = math.prod(sizes[axis + 1 :])
                index = sum(x * math.prod(sizes[a + 1 :]) for a, x in enumerate(node))
                yield index, index + stride


def _chimera(n_rows: int, n_columns: int, t: int) -> Iterator[Edge]:
    """Yield the edges of a Chimera graph: complete bipartite cells, side 0 tied downwards, side 1 rightwards."""
    for row, column in itertools.product(range(n_rows), range(n_columns)):
        cell = (row * n_columns + column) * 2 * t
        yield from itertools.product(range(cell, cell + t), range(cell + t, cell + 2 * t))
        for k in range(t):
            if row + 1 < n_rows:
                yield cell + k, cell + k + n_columns * 2 * t
            if column + 1 < n_columns:
                yield cell + t + k, cell + t + k + 2 * t


def read_graph(text: str) -> str:
    """Return what a configuration keeps of a command line's graph: its name, or the edges of the file it names.

    Raises
    ------
    ConfigError
        If it is neither a graph's name nor a file.
    DataError
        If the file is not a list of edges.
    """
    if text in ("", "complete", "ring") or _LATTICE.fullmatch(text) or _EDGES.fullmatch(text):
        return text
    path = Path(text)
    if not path.is_file():
        raise ConfigError(f"--graph: {text!r} is neither a graph's name nor a file; give {FORMS}")
    return ",".join(f"{i}-{j}" for i, j in _read_edges(path))


def _read_edges(path: Path) -> list[tuple[int, ...]]:
    """Return the edges of a text file, two node numbers on a line; # begins a comment."""
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise DataError(f"{path}: more than {LIMIT_BYTES} bytes; give a smaller graph")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of edges ({error}); give text, 'i j' a line") from error
    edges: dict[tuple[int, ...], int] = {}
    for number, line in enumerate(lines, 1):
        content = line.partition("#")[0]
        if not content.strip():
            continue
        found = _LINE.fullmatch(content)
        edge = tuple(sorted(map(int, found.groups()))) if found else ()
        if len(set(edge)) != 2:
            raise DataError(f"{path}, line {number}: {line[:40]!r} is no edge; give two different nodes from 0 on")
        if edge in edges:
            raise DataError(f"{path}, line {number}: the edge of line {edges[edge]} again; give each once")
        edges[edge] = number
    if not edges:
        raise DataError(f"{path}: holds no edge; give --prior independent for a prior without couplings")
    return sorted(edges)


def two_sides(n_nodes: int, edges: Iterable[Edge]) -> tuple[list[int], list[int]] | None:
    """Return the sides of a bipartite graph, each sorted, or None if it is not bipartite.

    The smaller class of every connected part goes to the first side, which is thereby as small as can be; a
    node without edges goes to the second.
    """
    import networkx as nx

    graph = _graph(n_nodes, edges)
    try:
        colour = nx.bipartite.color(graph)
    except nx.NetworkXError:
        return None
    first: list[int] = []
    second: list[int] = []
    for part in nx.connected_components(graph):
        classes = ([node for node in sorted(part) if colour[node] == side] for side in (0, 1))
        fewer, more = sorted(classes, key=lambda nodes: (len(nodes), nodes))
        first += fewer
        second += more
    return sorted(first), sorted(second)


def colour_classes(n_nodes: int, edges: Iterable[Edge]) -> list[list[int]]:
    """Return a partition of the nodes into independent sets, the first of them maximal and as a rule the largest.

    No edge joins two nodes of a class: given all others, the units of a class are independent, and can be drawn
    together or summed out.  Two classes where two suffice, else a greedy colouring (DSATUR; Brélaz, 1979).
    """
    import networkx as nx  # here, since a command line reads configurations and need not wait for it

    edges = list(edges)
    if sides := two_sides(n_nodes, edges):
        return [side for side in reversed(sides) if side]
    graph = _graph(n_nodes, edges)
    strategy = "DSATUR" if n_nodes <= DSATUR_NODES else "smallest_last"
    colours = nx.greedy_color(graph, strategy)
    classes: dict[int, set[int]] = {}
    for node, colour in colours.items():
        classes.setdefault(colour, set()).add(node)
    ordered = sorted(classes.values(), key=lambda nodes: (-len(nodes), min(nodes)))
    for node in range(n_nodes):
        if node not in ordered[0] and ordered[0].isdisjoint(graph[node]):
            ordered[0].add(node)
            for other in ordered[1:]:
                other.discard(node)
    return [sorted(nodes) for nodes in ordered if nodes]


def _graph(n_nodes: int, edges: Iterable[Edge]) -> Any:
    """Return a networkx graph of all nodes, those without edges too."""
    import networkx as nx

    graph = nx.empty_graph(n_nodes)
    graph.add_edges_from(edges)
    return graph

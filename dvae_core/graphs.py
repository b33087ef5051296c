"""Graphs for Boltzmann machines: from a name or a file to edges, and from edges to classes for block sampling.

A graph goes by a text that fits into a frozen configuration, and that alone rebuilds it: `complete`, `ring`,
`grid-8x8`, `chimera-2x2x4`, or its edges `0-1,1-2`.  Nodes are numbered from 0; an edge (i, j) has i < j.
"""

from __future__ import annotations

import heapq
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, DataError
from .io.files import read_text

Edge = tuple[int, int]
Edges = Iterable[Edge] | NDArray[np.integer[Any]]

MAX_EDGES = 1_000_000
LIMIT_BYTES = 100_000_000

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
        lines = read_text(path, LIMIT_BYTES).splitlines()
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


def bipartition(n_nodes: int, edges: Edges) -> tuple[list[int], list[int]] | None:
    """Return the sides of a bipartite graph, each sorted, or None if it is not bipartite.

    The smaller class of every connected part goes to the first side, which is thereby as small as can be; a
    node without edges goes to the second.
    """
    from scipy.sparse.csgraph import connected_components  # here: a command line need not wait for it

    ends = _as_array(edges)
    # The double cover has every node twice, and an edge joins copies of different kinds: walking along edges, one
    # comes from a node to its other copy if and only if there is a cycle of odd length.
    there = np.array([0, n_nodes])
    cover = _adjacency(2 * n_nodes, np.concatenate((ends + there, ends + there[::-1])))
    kind = connected_components(cover, directed=False)[1].reshape(2, n_nodes)
    if (kind[0] == kind[1]).any():
        return None
    _, root, part = np.unique(kind.min(0), return_index=True, return_inverse=True)
    like_root = kind[0] == kind[0][root][part]
    excess = np.bincount(part, np.where(like_root, 1, -1), len(root))
    is_first = like_root == (excess <= 0)[part]
    return np.flatnonzero(is_first).tolist(), np.flatnonzero(~is_first).tolist()


def colour_classes(n_nodes: int, edges: Edges) -> list[list[int]]:
    """Return a partition of the nodes into independent sets, the first of them maximal and as a rule the largest.

    No edge joins two nodes of a class: given all others, the units of a class are independent, and can be drawn
    together or summed out.  Two classes where two suffice, else a greedy colouring (DSATUR; Brélaz, 1979).
    """
    ends = _as_array(edges)
    if sides := bipartition(n_nodes, ends):
        return [side for side in reversed(sides) if side]
    graph = _adjacency(n_nodes, ends)
    neighbours = np.split(graph.indices, graph.indptr[1:-1])
    colours = _saturation_first(neighbours) if len(ends) <= MAX_EDGES else _largest_first(neighbours)
    classes = sorted(
        (np.flatnonzero(colours == colour).tolist() for colour in range(colours.max() + 1)),
        key=lambda nodes: (-len(nodes), nodes[0]),
    )
    in_first = np.zeros(n_nodes, bool)
    in_first[classes[0]] = True
    for node in range(n_nodes):
        in_first[node] |= not in_first[neighbours[node]].any()
    rest = ([node for node in nodes if not in_first[node]] for nodes in classes[1:])
    return [np.flatnonzero(in_first).tolist(), *(nodes for nodes in rest if nodes)]


def _saturation_first(neighbours: Sequence[NDArray[np.integer[Any]]]) -> NDArray[np.intp]:
    """Return a colour for every node, given next to the one whose neighbours show most colours (DSATUR).

    The same colours as networkx gives, in time that grows with the edges: for 1000 nodes, all of them joined, it
    took networkx two minutes.
    """
    adjacent = [nodes.tolist() for nodes in neighbours]
    colours = [-1] * len(adjacent)
    seen: list[set[int]] = [set() for _ in adjacent]
    waiting = [(0, -len(nodes), node) for node, nodes in enumerate(adjacent)]
    heapq.heapify(waiting)
    while waiting:
        n_seen, _, node = heapq.heappop(waiting)
        if colours[node] >= 0 or -n_seen < len(seen[node]):
            continue
        colour = next(c for c in itertools.count() if c not in seen[node])
        colours[node] = colour
        for other in adjacent[node]:
            if colours[other] < 0 and colour not in seen[other]:
                seen[other].add(colour)
                heapq.heappush(waiting, (-len(seen[other]), -len(adjacent[other]), other))
    return np.array(colours)


def _largest_first(neighbours: Sequence[NDArray[np.integer[Any]]]) -> NDArray[np.intp]:
    """Return a colour for every node, given to those with most neighbours first (Welsh and Powell, 1967)."""
    colours = np.full(len(neighbours), -1)
    for node in sorted(range(len(neighbours)), key=lambda node: -len(neighbours[node])):
        is_free = np.ones(len(neighbours[node]) + 1, bool)
        taken = colours[neighbours[node]]
        is_free[taken[(taken >= 0) & (taken < len(is_free))]] = False
        colours[node] = is_free.argmax()
    return colours


def _as_array(edges: Edges) -> NDArray[np.intp]:
    """Return edges as an array, shape (n_edges, 2)."""
    return np.asarray(edges if isinstance(edges, np.ndarray) else list(edges), np.intp).reshape(-1, 2)


def _adjacency(n_nodes: int, ends: NDArray[np.intp]) -> Any:
    """Return the symmetric adjacency matrix of edges, each of them once, in compressed rows."""
    from scipy.sparse import csr_array

    both = np.concatenate((ends, ends[:, ::-1]))
    return csr_array((np.ones(len(both), np.int8), tuple(both.T)), (n_nodes, n_nodes))

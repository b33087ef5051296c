"""Graphs of Boltzmann machines: edges from a name or a file, and classes of nodes for block sampling.

A configuration stores a graph as a text from which it can be rebuilt: `complete`, `ring`, `grid-8x8`,
`chimera-2x2x4`, or its edges `0-1,1-2`.  Nodes are numbered from 0; an edge (i, j) has i < j.
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
FORMS = "complete, ring, grid-8x8, chimera-2x2x4, or a file with one edge 'i j' per line"


def graph_edges(graph: str, n_units: int) -> list[Edge]:
    """Return the edges of a graph, sorted.

    Parameters
    ----------
    graph : str
        `complete` or `ring` of n_units nodes; `grid-AxB...`, a lattice with open boundaries;
        `chimera-MxNxT`, M x N cells of 2 x T nodes, numbered cell by cell; or edges `i-j,i-j,...`.
    n_units : int
        Number of nodes that the graph must have.

    Raises
    ------
    ConfigError
        If `graph` is not the name of a graph, its number of nodes is not `n_units`, or it has more than
        `MAX_EDGES` edges.
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
    """Raise ConfigError unless the graph has one node per unit."""
    if n_nodes != n_units:
        raise ConfigError(
            f"--graph: {graph} has {n_nodes} nodes, --left and --right make {n_units} units; make them equal"
        )


def _grid(sizes: Sequence[int]) -> Iterator[Edge]:
    """Yield the edges of a lattice; node numbers increase fastest along the last axis."""
    for node in itertools.product(*(range(size) for size in sizes)):
        for axis, size in enumerate(sizes):
            if node[axis] + 1 < size:
                stride = math.prod(sizes[axis + 1 :])
                index = sum(x * math.prod(sizes[a + 1 :]) for a, x in enumerate(node))
                yield index, index + stride


def _chimera(n_rows: int, n_columns: int, t: int) -> Iterator[Edge]:
    """Yield the edges of a Chimera graph: complete bipartite cells, side 0 joined downwards, side 1 rightwards."""
    for row, column in itertools.product(range(n_rows), range(n_columns)):
        cell = (row * n_columns + column) * 2 * t
        yield from itertools.product(range(cell, cell + t), range(cell + t, cell + 2 * t))
        for k in range(t):
            if row + 1 < n_rows:
                yield cell + k, cell + k + n_columns * 2 * t
            if column + 1 < n_columns:
                yield cell + t + k, cell + t + k + 2 * t


def read_graph(text: str) -> str:
    """Return the text that a configuration stores for `--graph`: a name, or the edges of the given file.

    Raises
    ------
    ConfigError
        If `text` is neither the name of a graph nor a file.
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
    """Return the edges of a text file with two node numbers per line; # begins a comment."""
    try:
        lines = read_text(path, LIMIT_BYTES).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as a list of edges ({error}); give a text file with one edge 'i j' per line"
        ) from error
    edges: dict[tuple[int, ...], int] = {}
    for number, line in enumerate(lines, 1):
        content = line.partition("#")[0]
        if not content.strip():
            continue
        found = _LINE.fullmatch(content)
        edge = tuple(sorted(map(int, found.groups()))) if found else ()
        if len(set(edge)) != 2:
            raise DataError(
                f"{path}, line {number}: {line[:40]!r} is not an edge; give two different node numbers"
            )
        if edge in edges:
            raise DataError(f"{path}, line {number}: repeats the edge of line {edges[edge]}; give each edge once")
        edges[edge] = number
    if not edges:
        raise DataError(f"{path}: holds no edge; give --prior independent for a prior without couplings")
    return sorted(edges)


def bipartition(n_nodes: int, edges: Edges) -> tuple[list[int], list[int]] | None:
    """Return the sides of a bipartite graph, each sorted, or None if it is not bipartite.

    The smaller class of each connected component goes to the first side, which is therefore as small as
    possible.  A node without edges goes to the second side.
    """
    from scipy.sparse.csgraph import connected_components  # imported here, so that commands start quickly

    ends = _as_array(edges)
    # The double cover has two copies of each node, and edges join copies of different kinds: the two copies of a
    # node are connected if and only if its component has a cycle of odd length.
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
    """Return a partition of the nodes into independent sets; the first is maximal, and usually the largest.

    No edge joins two nodes of a class: given all others, the units of a class are independent, and can be drawn
    together or summed out.  A bipartite graph has two classes; otherwise a greedy colouring (DSATUR; Brélaz,
    1979).
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
    """Return a colour per node; the next node is the one whose neighbours have most colours (DSATUR).

    The colours equal those of networkx.  The time is proportional to the number of edges; networkx took two
    minutes for the complete graph of 1000 nodes.
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
    """Return a colour per node; nodes with most neighbours are coloured first (Welsh and Powell, 1967)."""
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
    """Return the symmetric adjacency matrix of edges that occur once each, in compressed rows."""
    from scipy.sparse import csr_array

    both = np.concatenate((ends, ends[:, ::-1]))
    return csr_array((np.ones(len(both), np.int8), tuple(both.T)), (n_nodes, n_nodes))

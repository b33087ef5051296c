"""Graphs of quantum annealers, by their published construction, and glasses on them.

Chimera: Bunyk et al. (2014), arXiv:1401.5504.  Pegasus: Boothby, Bunyk, Raymond and Roy (2019), arXiv:2003.00133.
Zephyr: Boothby, King and Raymond (2021), D-Wave report 14-1056A-A.  In all three a qubit is a line segment of one
of two directions. Two segments of different directions are coupled if they cross; two of the same direction are
coupled if they touch end to end (external couplers) or are parallel neighbours (odd couplers).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from dvae_core.graphs import graph_edges
from dvae_eval.bonds import machine_of_bonds
from dvae_eval.machine import Machine

Edge = tuple[int, int]
Graph = tuple[int, list[Edge]]

# Offsets of the vertical and the horizontal segments of Pegasus, by their place among the 12 of a cell.
VERTICAL = (2, 2, 2, 2, 10, 10, 10, 10, 6, 6, 6, 6)
HORIZONTAL = (6, 6, 6, 6, 2, 2, 2, 2, 10, 10, 10, 10)
# Couplings between spins ±1 of a weak, a medium and a strong glass; fields of spins are FIELD times normal.
STRENGTHS = {"weak": 0.1, "medium": 0.25, "strong": 0.5}
FIELD = 0.1


def chimera(m: int, t: int = 4) -> Graph:
    """Return the number of nodes, 2 t m², and the edges of m x m cells of 2 x t nodes."""
    n = 2 * t * m * m
    return n, graph_edges(f"chimera-{m}x{m}x{t}", n)


def pegasus(m: int) -> Graph:
    """Return the number of nodes, 8 (3m - 1)(m - 1), and the edges of the fabric of Pegasus.

    Segment (u, w, k, z) is on line 12 w + k of direction u, and covers 12 units, which start at 12 z plus its
    offset. Segments at the border that cross no other segment are left out.
    """
    kinds = list(itertools.product(range(2), range(m), range(12), range(m - 1)))
    crossing = set()
    for _, w, k, z in (node for node in kinds if node[0] == 0):
        line, begin = 12 * w + k, 12 * z + VERTICAL[k]
        for y in range(begin, begin + 12):
            other = (line - HORIZONTAL[y % 12]) // 12
            if 0 <= other < m - 1 and y < 12 * m:
                crossing.add(((0, w, k, z), (1, y // 12, y % 12, other)))
    fabric = {node for edge in crossing for node in edge}
    external = {((u, w, k, z), (u, w, k, z + 1)) for u, w, k, z in kinds}
    odd = {((u, w, k, z), (u, w, k + 1, z)) for u, w, k, z in kinds if k % 2 == 0}
    return _numbered(fabric, crossing | external | odd)


def zephyr(m: int, t: int = 4) -> Graph:
    """Return the number of nodes, 4 t m (2m + 1), and the edges of Zephyr.

    Segment (u, w, k, j, z) is number k of t on line w of 2 m + 1 of direction u, and crosses the lines 2 z + j and
    2 z + j + 1 of the other direction.
    """
    lines, parts = range(2 * m + 1), range(2 * m)
    nodes = set(itertools.product(range(2), lines, range(t), parts))
    # A part is 2 z + j: parts that differ by 2 touch, and parts that differ by 1 overlap by half.
    edges = {((u, w, k, p), (u, w, k, p + step)) for u, w, k, p in nodes for step in (1, 2)}
    for _, w, k, p in (node for node in nodes if node[0] == 0):
        for line, other, q in itertools.product((p, p + 1), range(t), (w - 1, w)):
            edges.add(((0, w, k, p), (1, line, other, q)))
    return _numbered(nodes, edges)


def _numbered(nodes: set[tuple[int, ...]], edges: set[tuple[tuple[int, ...], tuple[int, ...]]]) -> Graph:
    """Return the graph on these nodes, in their order, without edges to other nodes."""
    number = {node: i for i, node in enumerate(sorted(nodes))}
    inside = ((number[a], number[b]) for a, b in edges if a in number and b in number)
    return len(number), sorted((min(edge), max(edge)) for edge in inside)


GRAPHS: dict[str, Callable[[], Graph]] = {
    "chimera16": lambda: chimera(16),
    "zephyr4": lambda: zephyr(4),
    "zephyr12": lambda: zephyr(12),
    "pegasus16": lambda: pegasus(16),
}


def glass(graph: Graph, coupling: float, kind: str = "pm1", seed: int = 0) -> tuple[Machine, float]:
    """Return the machine of p(s) ∝ exp(Σ K_ij s_i s_j + Σ f_i s_i), s = ±1, and a constant for its log Z, in nats.

    log Z of the spins is that of the machine plus the constant. K is ±coupling (`pm1`), or normal with standard
    deviation `coupling` (`gaussian`).
    """
    n, edges = graph
    rng = np.random.default_rng(seed)
    draw = rng.choice([-1.0, 1.0], len(edges)) if kind == "pm1" else rng.normal(size=len(edges))
    return machine_of_bonds(np.array(edges), coupling * draw, FIELD * rng.normal(size=n), 0.0, "pm1")

"""log Z by variable elimination: exact for any number of units where the bonds form a graph of small tree-width.

Chains, trees, bands, narrow grids and Chimera-like lattices are of this kind, and disconnected parts multiply.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import networkx as nx
import numpy as np
from networkx.algorithms.approximation import treewidth_min_degree, treewidth_min_fill_in
from numpy.typing import NDArray

__all__ = ["MAX_WIDTH", "elimination_order", "log_z_by_elimination"]

Float = NDArray[np.float64]
# A table of 2^23 float64 values takes 64 MB; two or three of them are alive at a time.
MAX_WIDTH = 22
# Min-fill finds better orders than min-degree, but takes minutes on graphs of many bonds.
MIN_FILL_BONDS = 2000


def elimination_order(bonds: NDArray[np.intp], n_units: int, max_width: int = MAX_WIDTH) -> list[int] | None:
    """Return an order in which units can be summed out one by one, or None if every order found is too wide.

    Parameters
    ----------
    bonds : int, shape (n_bonds, 2)
        Pairs of units that are coupled, each once.
    n_units : int
        Units 0 .. n_units - 1; those without a bond come last.
    max_width : int
        Most units that may share a table with the one summed out.
    """
    # A graph of width k has at most k bonds a unit: a quick no for dense graphs, and a core in which every unit
    # has k neighbours has a width of at least k.
    if len(bonds) > max_width * n_units:
        return None
    graph = nx.Graph()
    graph.add_edges_from(bonds.tolist())
    if graph and max(nx.core_number(graph).values()) > max_width:
        return None
    order: list[int] = []
    for part in nx.connected_components(graph):
        component = nx.convert_node_labels_to_integers(graph.subgraph(sorted(part)), ordering="sorted")
        found = _order_of_connected(component, max_width)
        if found is None:
            return None
        labels = sorted(part)
        order += [labels[i] for i in found]
    return order + sorted(set(range(n_units)) - set(order))


def log_z_by_elimination(bonds: NDArray[np.intp], couplings: Float, biases: Float, order: Sequence[int]) -> float:
    """Return log Σ_z exp(Σ_(i,j) J_ij z_i z_j + b'z), nats, summing out one unit after the other.

    Parameters
    ----------
    bonds : int, shape (n_bonds, 2)
        The pairs (i, j), each once.
    couplings : float64, shape (n_bonds,)
        Their J_ij.
    biases : float64, shape (n_units,)
    order : sequence of int
        Every unit once, as `elimination_order` returns them.
    """
    tables: list[tuple[tuple[int, ...], Float]] = [((i,), np.array([0.0, b])) for i, b in enumerate(biases)]
    for (i, j), coupling in zip(bonds.tolist(), couplings.tolist(), strict=True):
        tables.append(((i, j), np.array([[0.0, 0.0], [0.0, coupling]])))
    log_z = 0.0
    for unit in order:
        mine = [table for table in tables if unit in table[0]]
        tables = [table for table in tables if unit not in table[0]]
        units, summed = _sum_out(unit, mine)
        if units:
            tables.append((units, summed))
        else:
            log_z += float(summed)
    return log_z


def _sum_out(unit: int, tables: list[tuple[tuple[int, ...], Float]]) -> tuple[tuple[int, ...], Float]:
    """Return the neighbours of `unit` in `tables`, sorted, and the table of them with `unit` summed out."""
    neighbours = tuple(sorted(set(itertools.chain.from_iterable(units for units, _ in tables)) - {unit}))
    axes = (*neighbours, unit)
    total = np.zeros((2,) * len(axes))
    for units, table in sorted(tables, key=lambda entry: len(entry[0])):
        # Put the table's axes into the order of `axes`, with length 1 where it has none of a unit.
        ordered = table.transpose([units.index(a) for a in axes if a in units])
        total += ordered.reshape([2 if a in units else 1 for a in axes])
    return neighbours, np.logaddexp(total[..., 0], total[..., 1])


def _order_of_connected(graph: nx.Graph, max_width: int) -> list[int] | None:
    """Return an elimination order of a connected graph, by the better of two heuristics."""
    heuristics = [treewidth_min_degree]
    if graph.number_of_edges() <= MIN_FILL_BONDS:
        heuristics.append(treewidth_min_fill_in)
    width, tree = min((heuristic(graph) for heuristic in heuristics), key=lambda found: found[0])
    return None if width > max_width else _order_of_tree(tree)


def _order_of_tree(tree: nx.Graph) -> list[int]:
    """Return the order that a tree decomposition allows: leaf by leaf, what the neighbour does not share."""
    order: list[int] = []
    leaves = [bag for bag in tree if tree.degree(bag) <= 1]
    tree = tree.copy()
    while len(tree) > 1:
        leaf = leaves.pop()
        (neighbour,) = tree.neighbors(leaf)
        order += sorted(leaf - neighbour)
        tree.remove_node(leaf)
        if tree.degree(neighbour) == 1:
            leaves.append(neighbour)
    (root,) = tree
    return order + sorted(root)

"""Sides and classes of graphs, against networkx, which is slower and shares no code with ours."""

import itertools

import networkx as nx
import numpy as np
import pytest

from dvae_core.graphs import bipartition, colour_classes


def random_graphs():
    """Small graphs, sparse and dense, some of them in several parts."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        n, p = int(rng.integers(1, 14)), rng.choice([0.05, 0.15, 0.3, 0.6, 1.0])
        yield n, [edge for edge in itertools.combinations(range(n), 2) if rng.random() < p]
    yield 40, [edge for edge in itertools.combinations(range(40), 2) if rng.random() < 0.2]


def graph_of(n, edges):
    graph = nx.empty_graph(n)
    graph.add_edges_from(edges)
    return graph


def test_the_bipartition_is_that_of_networkx():
    n_bipartite = 0
    for n, edges in random_graphs():
        graph, sides = graph_of(n, edges), bipartition(n, edges)
        assert (sides is not None) == nx.is_bipartite(graph)
        if sides is None:
            continue
        n_bipartite += 1
        first, second = map(set, sides)
        assert all((i in first) != (j in first) for i, j in edges)
        assert first | second == set(range(n))
        for part in nx.connected_components(graph):
            # The smaller class comes first; a node by itself is in the second.
            assert len(part & first) <= len(part & second)
    assert n_bipartite > 50


def test_classes_are_those_of_the_dsatur_of_networkx():
    n_coloured = 0
    for n, edges in random_graphs():
        classes = colour_classes(n, edges)
        assert sorted(itertools.chain(*classes)) == list(range(n))
        colour = {node: number for number, nodes in enumerate(classes) for node in nodes}
        assert all(colour[i] != colour[j] for i, j in edges)
        if bipartition(n, edges) is None:
            n_coloured += 1
            theirs = nx.greedy_color(graph_of(n, edges), "DSATUR")
            sizes = sorted(np.bincount(list(theirs.values())).tolist(), reverse=True)
            assert len(classes) <= len(sizes)
            assert len(classes[0]) >= sizes[0]
    assert n_coloured > 50


@pytest.mark.parametrize("max_edges", [10**6, 10])
def test_a_complete_graph_has_a_class_for_every_node(monkeypatch, max_edges):
    """By saturation, and by the quicker rule for graphs of more edges."""
    monkeypatch.setattr("dvae_core.graphs.MAX_EDGES", max_edges)
    edges = np.array(list(itertools.combinations(range(300), 2)))
    assert colour_classes(300, edges) == [[node] for node in range(300)]


def test_graphs_of_very_many_edges_are_coloured_soundly(monkeypatch):
    monkeypatch.setattr("dvae_core.graphs.MAX_EDGES", 0)
    for n, edges in random_graphs():
        classes = colour_classes(n, edges)
        colour = {node: number for number, nodes in enumerate(classes) for node in nodes}
        assert sorted(colour) == list(range(n))
        assert all(colour[i] != colour[j] for i, j in edges)


def test_nodes_without_edges_are_one_class():
    assert colour_classes(5, []) == [[0, 1, 2, 3, 4]]
    assert bipartition(3, []) == ([], [0, 1, 2])

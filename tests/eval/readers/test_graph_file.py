"""State dicts that keep no edges, with the edges from another file: energies, orders, and what is refused."""

import itertools
import json

import numpy as np
import pytest
import torch

from dvae_core.errors import ConfigError, DataError
from dvae_eval.exact.plan import exact_log_z
from dvae_eval.readers import ReadConfig, read_machine
from dvae_eval.readers.graph_file import read_edges

RNG = np.random.default_rng(5)
EDGES = [(3, 0), (1, 2), (0, 1), (4, 2), (2, 3)]  # neither sorted nor each from the smaller to the larger
H, J = RNG.normal(size=5), RNG.normal(size=5)
NAMES = ["q7", "q1", "q30", "a b", "q2"]


def energies(edges=EDGES):
    """E(s) = Σ h_i s_i + Σ_e J_e s_i(e) s_j(e), s in {-1,+1}: edge by edge, in the order of `quadratic`."""
    for s in itertools.product((-1, 1), repeat=5):
        yield sum(h * x for h, x in zip(H, s, strict=True)) + sum(
            weight * s[i] * s[j] for weight, (i, j) in zip(J, edges, strict=True)
        )


def exact(beta=1.0, edges=EDGES):
    """log Z by summing all states."""
    return np.logaddexp.reduce([-beta * energy for energy in energies(edges)])


@pytest.fixture
def model(tmp_path):
    torch.save({"_linear": torch.tensor(H), "_quadratic": torch.tensor(J)}, tmp_path / "grbm.pt")
    return tmp_path / "grbm.pt"


def write(path, edges=EDGES, nodes=None):
    """A graph in the format that its name says."""
    if path.suffix == ".npz":
        np.savez(path, edges=np.array(edges), **({} if nodes is None else {"nodes": np.array(nodes)}))
    elif path.suffix == ".json":
        path.write_text(json.dumps(edges if nodes is None else {"nodes": nodes, "edges": edges}))
    elif path.suffix == ".csv":
        rows = [["source", "target"], *([node] for node in nodes or []), *edges]
        path.write_text("\n".join(",".join(map(str, row)) for row in rows))
    else:
        path.write_text("# a graph\n" + "\n".join(" ".join(map(str, row)) for row in edges) + "\n")
    return path


def log_z(model, graph, **options):
    """log Z of a state dict and its graph."""
    found = read_machine(model, ReadConfig(graph=str(graph), **options))
    return exact_log_z(found.machine) + found.constant


@pytest.mark.parametrize("name", ["g.txt", "g.csv", "g.json", "g.npz"])
def test_couplings_are_in_the_order_of_the_edges(model, tmp_path, name):
    graph = write(tmp_path / name)
    for beta in (1.0, 0.4):
        assert log_z(model, graph, beta=beta) == pytest.approx(exact(beta), abs=1e-12)
    # Broken: the same edges in another order are another machine, and the number shows it.
    assert abs(log_z(model, write(tmp_path / name, sorted(EDGES))) - exact()) > 1e-3
    assert exact(edges=sorted(EDGES)) == pytest.approx(log_z(model, graph), abs=1e-12)


@pytest.mark.parametrize("name", ["g.csv", "g.json", "g.npz"])
def test_names_stand_in_the_order_of_the_biases(model, tmp_path, name):
    graph = write(tmp_path / name, [[NAMES[i], NAMES[j]] for i, j in EDGES], NAMES)
    assert log_z(model, graph) == pytest.approx(exact(), abs=1e-12)
    found = read_machine(model, ReadConfig(graph=str(graph)))
    assert found.labels == tuple(NAMES)
    assert found.description["graph"]["edges"] == 5
    # Units are held by these names: what is left is the sum over the states that agree.
    (tmp_path / "held.txt").write_text("q30 = -1\n")
    held = read_machine(model, ReadConfig(graph=str(graph), clamp=str(tmp_path / "held.txt")))
    states = itertools.product((-1, 1), repeat=5)
    agree = [-energy for s, energy in zip(states, energies(), strict=True) if s[2] == -1]
    assert exact_log_z(held.machine) + held.constant == pytest.approx(np.logaddexp.reduce(agree), abs=1e-12)


def test_what_networkx_writes(model, tmp_path):
    graph = tmp_path / "g.edgelist"
    graph.write_text("".join(f"{i} {j} {{'weight': 1}}\n" for i, j in EDGES))
    assert log_z(model, graph) == pytest.approx(exact(), abs=1e-12)
    links = [{"source": [0, i], "target": [0, j]} for i, j in EDGES]
    graph.write_text(json.dumps({"directed": False, "nodes": [{"id": [0, i]} for i in range(5)], "links": links}))
    assert log_z(model, graph) == pytest.approx(exact(), abs=1e-12)
    assert read_machine(model, ReadConfig(graph=str(graph))).labels[1] == "[0, 1]"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 1\n", "has 1 edges for 5 couplings"),
        ("0 1\n1 2\n2 3\n3 4\n4 9\n", "'4', '9', which does not join two units of 0 ... 4"),
        ("0 1\n1 2\n2 3\n3 4\n4 4\n", "'4', '4'"),
        ("0 1 0.5\n", "without weights"),
        ("", "contains no edge"),
        ("[[0, 1], [1]]", "is not a pair"),
        ('{"nodes": [0, 1]}', "no list of edges"),
        ("[[0, 1],", "damaged JSON"),
        ('{"nodes": [0, 1], "edges": [[0, 1], [0, 1], [0, 1], [0, 1], [0, 1]]}', "has 2 nodes for 5 biases"),
        ('{"nodes": [0, 1, 1, 2, 3], "edges": [[0, 1], [0, 1], [0, 1], [0, 1], [0, 1]]}', "a node twice"),
    ],
)
def test_a_graph_that_does_not_fit_is_one_line(model, tmp_path, cli, content, message):
    (tmp_path / "g").write_text(content)
    status, _, said = cli("logz", model, "--graph", tmp_path / "g", "-q")
    assert status == 2
    assert message in said
    assert said.count("\n") == 1
    assert "--graph" in said


def test_the_option_is_asked_for_and_refused_where_it_says_nothing(model, tmp_path):
    with pytest.raises(DataError, match="--graph FILE, with a line 'i j' per edge"):
        read_machine(model)
    with pytest.raises(DataError, match="no such file"):
        read_machine(model, ReadConfig(graph=str(tmp_path / "none")))
    np.savez(tmp_path / "rbm.npz", W=np.ones((2, 2)), b_left=np.ones(2), b_right=np.ones(2))
    with pytest.raises(ConfigError, match="--graph: a file of"):
        read_machine(tmp_path / "rbm.npz", ReadConfig(graph=str(write(tmp_path / "g.txt"))))
    assert read_edges(write(tmp_path / "g.json", nodes=list(range(5)))).labels == ()

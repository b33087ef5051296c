"""Machines that are handed in as objects of other libraries, which are known by what they can do."""

from pathlib import Path
from types import SimpleNamespace

import networkx
import numpy as np
import pytest
import scipy.sparse
import torch

from dvae_core import load_data, load_model
from dvae_core.errors import ConfigError, DataError, DvaeError
from dvae_eval import estimate_log_z, load_result, read_machine
from tests.oracles import enumerate_states, log_weights

RNG = np.random.default_rng(0)
W, B, C = RNG.normal(size=(4, 3)), RNG.normal(size=4), RNG.normal(size=3)
J = np.triu(RNG.normal(size=(6, 6)) * (RNG.random((6, 6)) < 0.6), 1)
FIELDS = RNG.normal(size=6)


def log_z(*arrays, **options):
    return estimate_log_z(arrays if len(arrays) > 1 else arrays[0], **options).log_z


def test_parameters_and_tensors_of_any_type():
    expected = log_z(W, B, C)
    parameters = tuple(torch.nn.Parameter(torch.tensor(x)) for x in (W, B, C))
    assert log_z(*parameters) == expected
    half = tuple(torch.tensor(x).bfloat16().requires_grad_() for x in (W, B, C))
    assert log_z(*half) == log_z(*(x.detach().double().numpy() for x in half))
    assert log_z(parameters[0].to_sparse(), *parameters[1:]) == expected
    on_gpu = SimpleNamespace(detach=lambda: SimpleNamespace(cpu=lambda: torch.tensor(W)), cpu=None)
    assert log_z(on_gpu, B, C) == expected


@pytest.mark.parametrize("kind", ["csr_array", "coo_array", "csc_matrix", "dok_array"])
def test_sparse_couplings(kind):
    for matrix in (J, J + J.T):
        assert log_z(getattr(scipy.sparse, kind)(matrix), FIELDS) == log_z(J, FIELDS)
    assert log_z(getattr(scipy.sparse, kind)(W), B, C) == log_z(W, B, C)
    with pytest.raises(DataError, match="b has shape"):
        log_z(getattr(scipy.sparse, kind)(J), FIELDS[:5])


@pytest.mark.parametrize("array", [0, 1, 2])
def test_masked_values_are_no_numbers(array):
    arrays = [np.ma.masked_array(x) for x in (W, B, C)]
    assert log_z(*arrays) == log_z(W, B, C)
    arrays[array][1:] = np.ma.masked
    with pytest.raises(DataError, match="masked"):
        log_z(*arrays)


class QuadraticModel:
    """What a BinaryQuadraticModel of dimod shows of itself."""

    def __init__(self, vartype, linear, quadratic, offset):
        self.vartype, self.linear, self.quadratic = SimpleNamespace(name=vartype), linear, quadratic
        self.offset = offset


@pytest.mark.parametrize(("vartype", "values"), [("SPIN", (-1, 1)), ("BINARY", (0, 1))])
def test_quadratic_models_with_their_own_labels(vartype, values):
    labels = ["a", 1, ("b", 2), 3.5, "e", 7]
    linear = dict(zip(labels, FIELDS.tolist(), strict=True))
    quadratic = {(labels[j], labels[i]): float(J[i, j]) for i, j in zip(*np.nonzero(J), strict=True)}
    energies = 1.25 + log_weights(J, FIELDS, enumerate_states(6, values))
    model = QuadraticModel(vartype, linear, quadratic, 1.25)
    assert abs(log_z(model) - np.logaddexp.reduce(-energies)) < 1e-12
    assert abs(log_z(model, constant=2.0) - np.logaddexp.reduce(-energies) - 2) < 1e-12
    with pytest.raises(DataError, match="DISCRETE"):
        log_z(QuadraticModel("DISCRETE", linear, quadratic, 0))


def test_graphs_with_weights():
    graph = networkx.Graph()
    for unit, bias in enumerate(FIELDS.tolist()):
        graph.add_node(f"unit {unit}", bias=bias)
    for i, j in zip(*np.nonzero(J), strict=True):
        graph.add_edge(f"unit {j}", f"unit {i}", weight=float(J[i, j]))
    assert abs(log_z(graph) - log_z(J, FIELDS)) < 1e-12
    with pytest.raises(DataError, match="directed"):
        log_z(graph.to_directed())
    bare = networkx.path_graph(3)
    with pytest.raises(DataError, match="no weight"):
        log_z(bare)
    networkx.set_edge_attributes(bare, 1.0, "weight")
    assert abs(log_z(bare) - log_z(np.diag([1.0, 1.0], 1), np.zeros(3))) < 1e-12
    bare.nodes[0]["bias"] = "much"
    with pytest.raises(DataError, match="not a number"):
        log_z(bare)


@pytest.mark.parametrize("model", [3, "model.pt", {"W": W}, (W,), None])
def test_what_is_no_machine(model):
    with pytest.raises(
        ConfigError, match=r"BinaryQuadraticModel.*; read_machine reads a file, machine_of returns"
    ):
        estimate_log_z(model)


class Somewhere:
    """A path that is neither a str nor a Path."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


@pytest.mark.parametrize("kind", [str, Path, Somewhere])
def test_paths_of_any_type(tmp_path, kind):
    np.savez(tmp_path / "m.npz", W=W, b_left=B, b_right=C)
    found = read_machine(kind(tmp_path / "m.npz"))
    result = estimate_log_z(found.machine)
    result.save(tmp_path / "r.json")
    assert load_result(kind(tmp_path / "r.json")).log_z == result.log_z
    with pytest.raises(DvaeError, match=r"none.json: no such file; give a result"):
        load_result(kind(tmp_path / "none.json"))
    with (tmp_path / "UP.NPY").open("wb") as file:
        np.save(file, np.eye(36, dtype=np.uint8)[:20])
    assert load_data(kind(tmp_path / "UP.NPY")).image_shape == (6, 6)
    with pytest.raises(DvaeError, match="no such file"):
        load_model(kind(tmp_path / "none.pt"))

"""Spins, signs and temperatures in the library, and sparse couplings that stay sparse."""

import itertools
import tracemalloc
from types import SimpleNamespace

import networkx
import numpy as np
import pytest
import scipy.sparse

from dvae_core.errors import ConfigError, DataError
from dvae_eval import (
    estimate_log_z,
    machine_from_bqm,
    machine_from_couplings,
    machine_from_networkx,
    machine_from_spins,
    read_machine,
)
from dvae_eval.couplings import is_full
from dvae_eval.machine import BipartiteMachine, GeneralMachine

RNG = np.random.default_rng(3)
N = 7
J = np.triu(RNG.normal(size=(N, N)), 1) * (RNG.random((N, N)) < 0.7)
H = RNG.normal(size=N)
W, B, C = RNG.normal(size=(3, 5)), RNG.normal(size=3), RNG.normal(size=5)


def log_sum(log_weight, n, values=(-1, 1)):
    """Return log Σ_x exp(log_weight(x)) by visiting every state."""
    return float(
        np.logaddexp.reduce([log_weight(np.array(x, float)) for x in itertools.product(values, repeat=n)])
    )


def log_z_of(made, **options):
    machine, constant = made
    return estimate_log_z(machine, constant=constant, **options).log_z


@pytest.mark.parametrize("beta", [1.0, 0.3])
@pytest.mark.parametrize("sign", [1, -1])
def test_spins_of_arrays(beta, sign):
    true = log_sum(lambda s: sign * beta * (s @ J @ s + H @ s), N)
    for couplings in (J, J + J.T, scipy.sparse.coo_array(J), scipy.sparse.csr_matrix(J + J.T)):
        assert abs(log_z_of(machine_from_spins(couplings, H, beta=beta, sign=sign)) - true) < 1e-12
    result = estimate_log_z((J, H), units="pm1", beta=beta, sign=sign)
    assert abs(result.log_z - true) < 1e-12
    assert result.model["units"] == "pm1"
    rbm = log_sum(lambda s: sign * beta * (s[:3] @ W @ s[3:] + B @ s[:3] + C @ s[3:]), 8)
    assert abs(estimate_log_z((W, B, C), units="pm1", beta=beta, sign=sign).log_z - rbm) < 1e-12


def test_units_0_and_1_with_sign_and_beta():
    for arrays, log_weight in (
        ((J, H), lambda x: -0.4 * (x @ J @ x + H @ x)),
        ((W, B, C), lambda x: -0.4 * (x[:3] @ W @ x[3:] + B @ x[:3] + C @ x[3:])),
    ):
        n = sum(len(bias) for bias in arrays[1:])
        assert abs(estimate_log_z(arrays, sign=-1, beta=0.4).log_z - log_sum(log_weight, n, (0, 1))) < 1e-12
        assert estimate_log_z(arrays, units="01").log_z == estimate_log_z(arrays).log_z


def test_without_fields_both_signs_of_all_spins_are_alike():
    """A broken conversion, which forgets the fields of a couplings' row, is seen: its log Z is another."""
    machine, constant = machine_from_spins(J)
    wrong = machine_from_couplings(4 * J, np.zeros(N))
    true = log_sum(lambda s: s @ J @ s, N)
    assert abs(estimate_log_z(machine, constant=constant).log_z - true) < 1e-12
    assert abs(estimate_log_z(wrong, constant=constant).log_z - true) > 0.1


@pytest.mark.parametrize(("vartype", "values"), [("SPIN", (-1, 1)), ("BINARY", (0, 1))])
def test_models_of_dimod(vartype, values):
    bonds = {(int(i), int(j)): float(J[i, j]) for i, j in zip(*np.nonzero(J), strict=True)}
    linear = dict(enumerate(H.tolist()))
    model = SimpleNamespace(vartype=vartype, linear=linear, quadratic=bonds, offset=0.5)
    true = log_sum(lambda x: -0.7 * (x @ J @ x + H @ x + 0.5), N, values)
    assert abs(log_z_of(machine_from_bqm(model, beta=0.7)) - true) < 1e-12
    assert abs(estimate_log_z(model, beta=0.7).log_z - true) < 1e-12
    asked = "pm1" if vartype == "SPIN" else "01"
    assert estimate_log_z(model, units=asked).log_z == estimate_log_z(model).log_z
    with pytest.raises(ConfigError, match="BinaryQuadraticModel"):
        estimate_log_z(model, units="01" if asked == "pm1" else "pm1")
    with pytest.raises(ConfigError, match="BinaryQuadraticModel"):
        estimate_log_z(model, sign=-1)


def test_graphs_of_spins():
    graph = networkx.Graph()
    for i, field in enumerate(H.tolist()):
        graph.add_node(i, h=field)
    graph.add_weighted_edges_from((int(i), int(j), float(J[i, j])) for i, j in zip(*np.nonzero(J), strict=True))
    true = log_sum(lambda s: -2 * (s @ J @ s + H @ s), N)
    assert abs(log_z_of(machine_from_networkx(graph, units="pm1", beta=2, sign=-1)) - true) < 1e-12
    assert abs(estimate_log_z(graph, units="pm1", beta=2, sign=-1).log_z - true) < 1e-12
    binary = log_sum(lambda x: x @ J @ x + H @ x, N, (0, 1))
    assert abs(log_z_of(machine_from_networkx(graph)) - binary) < 1e-12


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"units": "spin"}, "units"),
        ({"sign": 0}, "sign"),
        ({"beta": 0}, "beta"),
        ({"beta": float("nan")}, "beta"),
        ({"beta": "hot"}, "beta"),
    ],
)
def test_options_that_are_none(options, named):
    with pytest.raises(ConfigError, match=named):
        estimate_log_z((J, H), **options)


def test_machines_have_their_units():
    machine = machine_from_couplings(J, H)
    for options in ({"units": "pm1"}, {"sign": -1}, {"beta": 2.0}):
        with pytest.raises(ConfigError, match="machine"):
            estimate_log_z(machine, **options)


@pytest.mark.parametrize(
    "matrix", [np.ones((2, 3)), np.ones(4), np.zeros((0, 0)), np.eye(3), np.array([[0, 1], [2, 0]])]
)
def test_arrays_that_are_no_spins(matrix):
    for couplings in (matrix, scipy.sparse.coo_array(matrix)):
        with pytest.raises(DataError):
            machine_from_spins(couplings)
    with pytest.raises(DataError, match="b has shape"):
        machine_from_spins(J, H[:2])
    with pytest.raises(DataError, match="infinite"):
        machine_from_spins(J, np.full(N, np.inf))


def zephyr(m, t=4):
    """Return the edges of the graph Z_m of D-Wave's Advantage2 (Boothby, Raymond and King, 2021), and its nodes.

    A node (u, w, k, j, z) is of orientation u, offset w, k, shift j and distance z.
    """
    width, two = 2 * m + 1, (0, 1)

    def node(u, w, k, j, z):
        return (((u * width + w) * t + k) * 2 + j) * m + z

    lines = list(itertools.product(two, range(width), range(t)))
    external = [(node(*x, j, z), node(*x, j, z + 1)) for x in lines for j in two for z in range(m - 1)]
    odd = [(node(*x, 0, z), node(*x, 1, z - a)) for x in lines for a in two for z in range(a, m)]
    places = itertools.product(range(m), range(m), two, two, range(t), range(t), two, two)
    internal = [
        (node(0, 2 * w + 1 + a * (2 * i - 1), k, j, z), node(1, 2 * z + 1 + b * (2 * j - 1), h, i, w))
        for w, z, i, j, k, h, a, b in places
    ]
    return np.sort(np.array(external + odd + internal), axis=1), 4 * t * m * width


def glass(m=12, seed=0):
    """Return couplings -1 and +1 on the graph Z_m, a sparse array."""
    ends, n = zephyr(m)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], len(ends))
    return scipy.sparse.csr_array((signs, ends.T), (n, n))


def peak_of(function, *arguments, **options):
    """Return what a function returns, and the most memory that it took beside it, bytes."""
    tracemalloc.start()
    try:
        found = function(*arguments, **options)
        return found, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_sparse_couplings_never_become_an_array():
    """The 4800 qubits of Z_12: as an array 184 MB; bonds, fields and colours of the graph a small part of that."""
    couplings = glass()
    assert (couplings.shape, couplings.nnz) == ((4800, 4800), 45_864)
    assert abs(couplings + couplings.T).sum(0).max() == 20
    (machine, constant), peak = peak_of(machine_from_spins, couplings, sign=-1)
    assert isinstance(machine, GeneralMachine)
    assert not is_full(machine.J)
    assert peak < 40e6
    assert constant == -couplings.sum()
    assert peak_of(machine.reduced)[1] < 20e6
    n, m = 3000, 2000
    sides = scipy.sparse.random_array((n, m), density=0.003, rng=np.random.default_rng(1))
    rbm, peak = peak_of(BipartiteMachine.from_arrays, sides, np.zeros(n), np.zeros(m))
    assert not is_full(rbm.W)
    assert peak < 5e6


def test_digests_of_sparse_and_full_arrays_are_one():
    few = np.where(W > 0, W, 0.0)
    machine = BipartiteMachine.from_arrays(few, B, C)
    assert BipartiteMachine.from_arrays(scipy.sparse.coo_array(few), B, C).sha256 == machine.sha256
    twice = scipy.sparse.coo_array((np.ones(2), ([0, 0], [1, 1])), (3, 5))
    assert BipartiteMachine.from_arrays(twice, B, C).W[0, 1] == 2


def test_files_say_what_was_assumed_and_spins_say_none(tmp_path):
    np.savez(tmp_path / "m.npz", J=J, b=H)
    found = read_machine(tmp_path / "m.npz")
    text = str(estimate_log_z(found.machine, constant=found.constant, description=found.description))
    assert text.endswith("with units 0 and 1; --units pm1 for spins")
    assert "with" not in str(estimate_log_z((J, H), units="pm1"))

"""log Z of general Boltzmann machines against brute force, transfer matrices and closed forms; and their files."""

import numpy as np
import pytest

from dvae_core.errors import ConfigError, DataError
from dvae_core.graphs import graph_edges
from dvae_core.model.boltzmann import BoltzmannMachine
from dvae_eval.config import LogZConfig
from dvae_eval.exact.plan import exact_log_z
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.machine import BipartiteMachine, GeneralMachine, machine_from_couplings
from dvae_eval.readers import read_machine
from dvae_eval.sampling.schedule import Schedule
from dvae_eval.sampling.tempering import make_replicas
from tests.oracles import brute_log_z, enumerate_states, ring_log_z

QUICK = {"method": "pt-bar", "n_sweeps": 800}


def arrays(graph, n, scale=1.0, seed=0):
    """Return J and b with normal couplings on the edges of a graph."""
    rng = np.random.default_rng(seed)
    J = np.zeros((n, n))
    for i, j in graph_edges(graph, n) if graph else ():
        J[i, j] = rng.normal() * scale
    return J, rng.normal(size=n) * scale


@pytest.mark.parametrize(
    ("graph", "n", "kind"),
    [
        ("complete", 9, GeneralMachine),
        ("ring", 9, GeneralMachine),
        ("ring", 10, BipartiteMachine),
        ("grid-3x3", 9, BipartiteMachine),
        ("chimera-1x2x3", 12, BipartiteMachine),
        ("0-1,1-2,0-2,2-5,3-4,6-8", 9, GeneralMachine),
        ("", 7, GeneralMachine),
        ("", 1, GeneralMachine),
    ],
)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_enumeration_agrees_with_brute_force(graph, n, kind, scale):
    J, b = arrays(graph, n, scale)
    machine = machine_from_couplings(J, b)
    assert isinstance(machine, kind)
    assert machine.n_units == n
    expected = brute_log_z(J, b)
    assert abs(exact_log_z(machine) - expected) < 1e-12 * max(1, abs(expected))


@pytest.mark.parametrize("n", [11, 33])
def test_an_odd_ring_agrees_with_its_transfer_matrices(n):
    J, b = arrays("ring", n, seed=1)
    machine = machine_from_couplings(J, b)
    assert len(machine.reduced().b) == (n + 1) // 2
    assert abs(exact_log_z(machine) - ring_log_z([*np.diag(J, 1), J[0, -1]], b)) < 1e-11


def test_any_number_of_independent_units_is_exact():
    """Asked for by any name: nothing is left to temper."""
    J, b = arrays("", 3000, scale=5.0)
    expected = float(np.logaddexp(0, b).sum())
    for method in ("auto", "exact", "pt-bar"):
        result = estimate_log_z(machine_from_couplings(J, b), LogZConfig(method=method))
        assert (result.method, result.std_err) == ("exact", 0.0)
        assert abs(result.log_z - expected) < 1e-12 * expected


def test_too_many_units_to_enumerate_are_refused_in_one_line():
    machine = machine_from_couplings(*arrays("complete", 40))
    with pytest.raises(ConfigError, match=r"39 units.*pt-bar"):
        exact_log_z(machine)
    with pytest.raises(ConfigError, match="39 units"):
        estimate_log_z(machine, LogZConfig(method="exact"))


# --- parallel tempering -------------------------------------------------------------------------------------


def random_complete(seed=2):
    J, b = arrays("complete", 14, seed=seed)
    return J * 2 / np.sqrt(14), b


def frustrated(seed=3):
    """A triangular lattice of strong couplings of both signs, three classes."""
    edges = graph_edges("grid-4x4", 16) + [(4 * i + j, 4 * i + j + 5) for i in range(3) for j in range(3)]
    return arrays(",".join(f"{i}-{j}" for i, j in edges), 16, scale=3.0, seed=seed)


def planted(strength=0.3, n=14):
    """All pairs alike: two modes between which Gibbs never goes, with all units on or off."""
    J = np.triu(np.full((n, n), 4 * strength), 1)
    return J, -2 * strength * (n - 1) * np.ones(n)


MODELS = [random_complete, frustrated, planted]


@pytest.mark.parametrize("make", MODELS)
def test_tempering_agrees_with_the_exact_value(make):
    """|z| < 6 with 15 degrees of freedom: false alarm 2.4e-5 each; and the error must be small."""
    machine = machine_from_couplings(*make())
    assert isinstance(machine, GeneralMachine)
    result = estimate_log_z(machine, LogZConfig(**QUICK, seed=1))
    assert result.trustworthy, result.reasons
    assert abs(result.log_z - brute_log_z(*make())) < 6 * result.std_err
    assert 0 < result.std_err < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("make", MODELS)
def test_standard_errors_are_true(make):
    """z-scores of 100 seeds: their sd in [0.8, 1.3] (false alarm under 1e-3 for Student's t), mean near 0."""
    machine, expected = machine_from_couplings(*make()), brute_log_z(*make())
    results = [estimate_log_z(machine, LogZConfig(**QUICK, seed=seed)) for seed in range(100)]
    scores = np.array([(r.log_z - expected) / r.std_err for r in results])
    assert 0.8 < scores.std() < 1.3
    assert abs(scores.mean()) < 4 * 1.1 / 10


def test_a_bipartite_machine_is_tempered_alike_as_a_general_one():
    """The general path with one class of kept units and no couplings among them takes the same random numbers."""
    rng = np.random.default_rng(5)
    W, b, c = rng.normal(size=(6, 9)), rng.normal(size=6), rng.normal(size=9)
    bipartite = BipartiteMachine.from_arrays(W, b, c)
    J = np.zeros((15, 15))
    J[:6, 6:] = W
    general = GeneralMachine(J, np.concatenate((b, c)), (np.arange(6, 15), np.arange(6)))
    first, second = (estimate_log_z(m, LogZConfig(method="pt-bar", n_sweeps=200)) for m in (bipartite, general))
    assert first.repeats == second.repeats


def test_the_digest_of_a_machine_does_not_change():
    """Result files name the machine by it."""
    rng = np.random.default_rng(0)
    machine = BipartiteMachine.from_arrays(rng.normal(size=(12, 30)) / 3, rng.normal(size=12), rng.normal(size=30))
    assert machine.sha256.startswith("7e45e491d3")


def distance_on_a_rung(beta_index, broken=False):
    """Return the total variation distance of the kept units' histogram from the exact one; 90000 samples."""
    J, b = arrays("complete", 4, scale=1.5, seed=6)
    machine = machine_from_couplings(J, b)
    replicas = make_replicas(machine, Schedule(np.array([0.0, 0.4, 1.0])), 60, seed=7, round=0)
    if broken:
        replicas.classes = ((slice(0, 3), replicas.path.J),)
    counts = np.zeros(8)
    for _ in range(1500):
        replicas.run(1)
        states = replicas.v[:, beta_index] @ np.array([1, 2, 4])
        counts += np.bincount(states, minlength=8)
    r, v, beta = machine.reduced(), enumerate_states(3), float(replicas.schedule.betas[beta_index])
    pairs = np.einsum("ni,ij,nj->n", v, np.triu(r.J), v)
    log_p = beta * (v @ r.b + pairs) + np.logaddexp(0, beta * (v @ r.W + r.c)).sum(1)
    p = np.exp(log_p - np.logaddexp.reduce(log_p))
    return np.abs(counts / counts.sum() - p).sum() / 2


@pytest.mark.parametrize("beta_index", [1, 2])
def test_tempering_leaves_every_rung_invariant(beta_index):
    """Distances above 0.01 do not happen by chance; neighbours drawn at once give more than 0.03."""
    assert distance_on_a_rung(beta_index) < 0.01


def test_neighbours_drawn_at_once_are_rejected(monkeypatch):
    monkeypatch.setattr("dvae_eval.sampling.tempering.has_numba", lambda: False)
    assert distance_on_a_rung(2, broken=True) > 0.03


# --- arrays and files ---------------------------------------------------------------------------------------


def test_symmetric_and_triangular_couplings_are_one_machine(tmp_path):
    J, b = arrays("complete", 5)
    path = tmp_path / "machine.npz"
    np.savez(path, J=J + J.T, b=b)
    assert read_machine(path).machine.sha256 == machine_from_couplings(J, b).sha256
    np.savez(path, J=J.astype(np.float32), b=b, note=np.zeros(3))
    assert abs(exact_log_z(read_machine(path).machine) - brute_log_z(J, b)) < 1e-5


def test_a_bipartite_graph_is_recognised_and_keeps_the_order_of_its_units():
    """Three left and two right units, shuffled."""
    rng = np.random.default_rng(0)
    W, b_left, b_right = rng.normal(size=(2, 3)), rng.normal(size=2), rng.normal(size=3)
    J, b = np.zeros((5, 5)), np.zeros(5)
    left, right = [1, 4], [0, 2, 3]
    b[left], b[right] = b_left, b_right
    for i, unit in enumerate(left):
        for j, other in enumerate(right):
            J[min(unit, other), max(unit, other)] = W[i, j]
    machine = machine_from_couplings(J, b)
    assert machine.sha256 == BipartiteMachine.from_arrays(W, b_left, b_right).sha256


@pytest.mark.parametrize(
    ("J", "b", "message"),
    [
        (np.ones((3, 3)), np.zeros(3), "diagonal"),
        (np.tril(np.ones((3, 3)), -1), np.zeros(3), "neither strictly upper triangular nor symmetric"),
        (np.array([[0, 1.0], [2, 0]]), np.zeros(2), "neither"),
        (np.zeros((2, 3)), np.zeros(2), "J has shape"),
        (np.zeros(3), np.zeros(3), "J has shape"),
        (np.zeros((0, 0)), np.zeros(0), "at least 1"),
        (np.zeros((3, 3)), np.zeros(2), "b has shape"),
        (np.zeros((3, 3)), np.zeros((3, 1)), "b has shape"),
        (np.full((2, 2), np.nan), np.zeros(2), "nan or infinite"),
        (np.zeros((2, 2)), np.array([0, np.inf]), "nan or infinite"),
        (np.zeros((2, 2), complex), np.zeros(2), "complex"),
    ],
)
def test_bad_couplings_are_refused_in_one_line(J, b, message):
    with pytest.raises(DataError, match=message) as error:
        machine_from_couplings(J, b)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [(("J",), "no b"), (("J", "b", "W"), "both J and W"), (("J", "b", "c"), "both J and c"), (("b",), "no W")],
)
def test_files_that_mix_two_conventions_are_refused(tmp_path, names, message):
    path = tmp_path / "machine.npz"
    np.savez(path, **{name: np.zeros((2, 2)) if name in "JW" else np.zeros(2) for name in names})
    with pytest.raises(DataError, match=rf"machine\.npz: .*{message}"):
        read_machine(path)


def test_the_prior_of_training_and_its_arrays_have_one_log_z():
    """Two codes for the same model: the trainable prior's free energies and the estimator's enumeration."""
    J, b = arrays("chimera-1x2x2", 8)
    prior = BoltzmannMachine(8, graph_edges("chimera-1x2x2", 8)).double()
    prior.W.data[:] = prior.W.new_tensor([J[i, j] for i, j in prior.edges.T.tolist()])
    prior.b.data[:] = prior.b.new_tensor(b)
    found = machine_from_couplings(prior.couplings().detach().numpy(), prior.biases().detach().numpy())
    assert abs(exact_log_z(found) - brute_log_z(J, b)) < 1e-12
    assert found.sha256 == machine_from_couplings(J, b).sha256

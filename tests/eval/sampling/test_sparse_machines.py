"""Machines of few bonds: compressed rows in the place of tables, the same numbers, memory for bonds alone."""

import hashlib
import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_array

from dvae_eval import couplings
from dvae_eval.couplings import as_array
from dvae_eval.exact.plan import exact_log_z, exact_plan
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.machine import BipartiteMachine, GeneralMachine, machine_from_bonds
from dvae_eval.sampling.basins import find_basins
from dvae_eval.sampling.reference import Reference
from dvae_eval.sampling.replicas_numba import SparseModel
from dvae_eval.sampling.replicas_torch import TorchReplicas
from dvae_eval.sampling.schedule import Schedule


def bonds(kind, n, seed=0):
    """Return ends, couplings and biases: a strip of triangles, which is not bipartite, or a ladder, which is."""
    steps = {"triangles": (1, 2), "ladder": (1, 3)}[kind]
    ends = np.array([(i, i + d) for i in range(n) for d in steps if i + d < n])
    rng = np.random.default_rng(seed)
    return ends, rng.normal(size=len(ends)), rng.normal(size=n)


@pytest.fixture
def sparse(monkeypatch):
    """Return a function that makes a machine with compressed rows, however small it is."""

    def make(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(couplings, "SMALL", 0)
            patch.setattr(couplings, "SPARSE_FILL", 2.0)
            machine = machine_from_bonds(*arguments)
            table = machine.W if isinstance(machine, BipartiteMachine) else machine.J
            assert isinstance(table, csr_array)
            return machine

    return make


KINDS = pytest.mark.parametrize("kind", ["triangles", "ladder"])


@KINDS
def test_compressed_rows_are_the_same_machine(sparse, kind):
    full, few = machine_from_bonds(*bonds(kind, 60)), sparse(*bonds(kind, 60))
    assert type(few) is type(full) is {"triangles": GeneralMachine, "ladder": BipartiteMachine}[kind]
    assert few.sha256 == full.sha256
    assert few.description() == full.description()
    a, b = full.reduced(), few.reduced()
    np.testing.assert_array_equal(a.W, as_array(b.W))
    assert (a.J is None) == (b.J is None)
    assert a.J is None or np.array_equal(a.J, as_array(b.J))
    for one, other in zip(a.bonds(), b.bonds(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert exact_log_z(few) == pytest.approx(exact_plan(full).log_z(), rel=1e-13)


@KINDS
def test_units_without_a_bond_are_taken_out(sparse, kind):
    ends, values, b = bonds(kind, 40)
    far = 2 * ends  # every second unit is alone
    rest, alone = sparse(far, values, np.repeat(b, 2)).without_isolated_units()
    assert rest.n_units == 40
    assert alone == pytest.approx(np.logaddexp(0, b).sum())
    whole = machine_from_bonds(ends, values, b)
    assert exact_log_z(rest) == pytest.approx(exact_log_z(whole), rel=1e-13)


@KINDS
@pytest.mark.parametrize("settings", [{"method": "pt-bar", "n_sweeps": 400}, {"method": "ais", "n_sweeps": 100}])
def test_estimates_are_those_of_full_tables(sparse, kind, settings):
    full, few = machine_from_bonds(*bonds(kind, 50)), sparse(*bonds(kind, 50))
    a, b = (estimate_log_z(machine, seed=1, **settings) for machine in (full, few))
    assert a.log_z == pytest.approx(b.log_z, abs=1e-4)  # annealing adds up float32 in another order
    if settings["method"] == "pt-bar":
        assert (a.log_z, a.std_err) == (b.log_z, b.std_err)


@KINDS
def test_both_engines_take_them(sparse, kind):
    full, few = (machine.reduced() for machine in (machine_from_bonds(*bonds(kind, 50)), sparse(*bonds(kind, 50))))
    reference = Reference(np.zeros_like(full.b), np.zeros_like(full.c))
    graphs = [SparseModel(reduced, reference).graph for reduced in (full, few)]
    for value, other in zip(*graphs, strict=True):
        np.testing.assert_array_equal(value, other)
    v = np.random.default_rng(0).integers(0, 2, (4, 3, len(full.b))).astype(np.uint8)
    runs = [
        TorchReplicas(reduced, reference, Schedule.uniform(2), v, 0, 0, "even-odd", False, "cpu").run(5)
        for reduced in (full, few)
    ]
    np.testing.assert_allclose(runs[0].forward, runs[1].forward, atol=1e-4)
    found = [find_basins(reduced, 0) for reduced in (full, few)]
    np.testing.assert_allclose(found[0].bounds[0], found[1].bounds[0], rtol=1e-10)


def test_five_thousand_units_take_memory_for_their_bonds():
    """A table of them takes 200 MB."""
    ends, values, b = bonds("triangles", 5000)
    tracemalloc.start()
    machine = machine_from_bonds(ends, values, b)
    digest = machine.sha256
    reduced = machine.reduced()
    SparseModel(reduced, Reference(np.zeros_like(reduced.b), np.zeros_like(reduced.c)))
    plan = exact_plan(machine)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
    assert plan.route == "elimination"
    table = np.zeros((5000, 5000))
    table[tuple(ends.T)] = values
    assert digest == hashlib.sha256(b"5000" + table.tobytes() + b.tobytes()).hexdigest()


def chain_log_z(n, coupling, bias):
    """Return log Z of n equal units in a chain by transfer matrices, one of them a unit's."""
    log_v = np.array([0.0, bias])
    for _ in range(n - 1):
        log_v = np.array([np.logaddexp(*log_v), bias + np.logaddexp(log_v[0], log_v[1] + coupling)])
    return np.logaddexp(*log_v)


@pytest.mark.parametrize("n", [10_000, 100_000])
def test_long_chains_are_eliminated_at_once(n):
    """100 000 units had been too many; 10 000 took 2.5 GB."""
    ends = np.column_stack((np.arange(n - 1), np.arange(1, n)))
    result = estimate_log_z(machine_from_bonds(ends, np.full(n - 1, 0.7), np.full(n, -0.2)))
    assert result.diagnostics["route"] == "elimination"
    assert result.log_z == pytest.approx(chain_log_z(n, 0.7, -0.2), rel=1e-12)


def test_many_parts_are_planned_one_by_one():
    n = 20_000
    ends = np.arange(2 * n).reshape(n, 2)
    machine = machine_from_bonds(ends, np.full(n, 0.5), np.zeros(2 * n))
    assert exact_log_z(machine) == pytest.approx(n * np.log(3 + np.exp(0.5)), rel=1e-12)

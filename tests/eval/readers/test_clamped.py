"""Units that are held: exact against the sum over all values that they can have, and read from small files."""

import itertools
import json

import numpy as np
import pytest

from dvae_core.errors import ConfigError, DataError
from dvae_eval import ReadConfig, estimate_log_z, machine_from_couplings, read_machine
from dvae_eval.machine import BipartiteMachine, GeneralMachine
from tests.oracles import brute_log_z, enumerate_states, log_weights

RBM = tuple(np.random.default_rng(0).normal(size=shape) for shape in ((4, 5), 4, 5))
FRUSTRATED = np.triu(np.random.default_rng(1).normal(size=(7, 7)), 1)
CHAIN = np.diag(np.random.default_rng(2).normal(size=6), 1)
BIASES = np.random.default_rng(3).normal(size=7)


def machines():
    yield "rbm", BipartiteMachine.from_arrays(*RBM)
    yield "frustrated", machine_from_couplings(FRUSTRATED, BIASES)
    yield "chain", machine_from_couplings(CHAIN, BIASES)
    yield "independent", machine_from_couplings(np.zeros((4, 4)), BIASES[:4])


def log_z(machine):
    """log Z without an estimator: every state of a small machine, in Python floats."""
    if machine.n_units == 0:
        return 0.0
    if isinstance(machine, BipartiteMachine):
        n, m = machine.W.shape
        J = np.zeros((n + m, n + m))
        J[:n, n:] = machine.W
        return brute_log_z(J, np.concatenate((machine.b_left, machine.b_right)))
    return brute_log_z(machine.J, machine.b)


@pytest.mark.parametrize("machine", [machine for _, machine in machines()], ids=[name for name, _ in machines()])
@pytest.mark.parametrize("units", [(0,), (3, 1), (0, 1, 2, 3), "all"], ids=str)
def test_the_sum_over_all_clampings_is_z(machine, units):
    units = range(machine.n_units) if units == "all" else units
    parts = []
    for values in itertools.product((0, 1), repeat=len(units)):
        clamped, constant = machine.clamped(dict(zip(units, values, strict=True)))
        assert clamped.n_units == machine.n_units - len(units)
        parts.append(log_z(clamped) + constant)
    assert np.logaddexp.reduce(parts) == pytest.approx(log_z(machine), abs=1e-10)


def test_every_clamping_weighs_its_own_states():
    """Against the states of the frustrated machine that agree with it, one clamping at a time."""
    machine, states = machine_from_couplings(FRUSTRATED, BIASES), enumerate_states(7)
    log_p = log_weights(FRUSTRATED, BIASES, states)
    for values in itertools.product((0, 1), repeat=3):
        agree = (states[:, [5, 0, 2]] == values).all(1)
        clamped, constant = machine.clamped(dict(zip((5, 0, 2), values, strict=True)))
        expected = np.logaddexp.reduce(log_p[agree])
        assert log_z(clamped) + constant == pytest.approx(expected, abs=1e-10)
        if sum(values) > 1:  # broken: without the couplings among held units it is another number
            x = np.zeros(7)
            x[[5, 0, 2]] = values
            assert log_z(clamped) + constant - x @ FRUSTRATED @ x != pytest.approx(expected, abs=1e-3)


def test_the_order_of_the_units_survives():
    """A chain is bipartite, so that its sides hold every other unit: held and free units keep their numbers."""
    machine = machine_from_couplings(CHAIN, BIASES)
    assert isinstance(machine, BipartiteMachine)
    biases = np.empty(7)
    biases[machine.order] = np.concatenate((machine.b_left, machine.b_right))
    assert np.array_equal(biases, BIASES)
    once, first = machine.clamped({2: 1})
    twice, second = once.clamped({4: 0})  # the unit 5 of all
    together, constant = machine.clamped({2: 1, 5: 0})
    assert first + second == pytest.approx(constant)
    for clamped in (twice, together):
        kept = np.empty(5)
        kept[clamped.order] = np.concatenate((clamped.b_left, clamped.b_right))
        expected = BIASES + CHAIN[2] + CHAIN[:, 2]
        assert np.allclose(kept, np.delete(expected, (2, 5)))


def test_an_rbm_stays_one_until_a_side_is_gone():
    machine = BipartiteMachine.from_arrays(*RBM)
    assert isinstance(machine.clamped({0: 1, 8: 0})[0], BipartiteMachine)
    rest, _ = machine.clamped(dict.fromkeys(range(4), 1))
    assert isinstance(rest, GeneralMachine)
    assert np.allclose(rest.b, RBM[2] + RBM[0].sum(0))


@pytest.mark.parametrize("values", [{9: 1}, {-1: 0}, {0: 2}, {0: -1}])
def test_a_unit_that_is_none_is_refused(values):
    with pytest.raises(ConfigError, match=r"give units of 0 \.\.\. 8, and 0 or 1"):
        BipartiteMachine.from_arrays(*RBM).clamped(values)


# --- files --------------------------------------------------------------------------------------------------


def saved(folder, content, name="held.txt"):
    path = folder / name
    path.write_text(content)
    return path


@pytest.fixture
def spins(tmp_path):
    """A glass over -1 and +1, its file, and its energies written without the reader."""
    np.savez(tmp_path / "glass.npz", J=FRUSTRATED, b=BIASES)
    states = enumerate_states(7, (-1, 1))
    return tmp_path / "glass.npz", states, log_weights(FRUSTRATED, BIASES, states)


CONTENTS = [
    ("held.txt", "# a remark\n3 -1\n\n0 = 1\n"),
    ("held.txt", "3: -1\n0,+1.0"),
    ("held.csv", "unit,value\n3,-1\n0,1\n"),
    ("held.json", json.dumps({"3": -1, "0": 1})),
]


@pytest.mark.parametrize(("name", "content"), CONTENTS)
def test_spins_are_held_in_their_own_values(spins, tmp_path, name, content):
    path, states, log_p = spins
    clamp = str(saved(tmp_path, content, name))
    found = read_machine(path, ReadConfig(units="pm1", clamp=clamp))
    agree = (states[:, 3] == -1) & (states[:, 0] == 1)
    value = estimate_log_z(found.machine, constant=found.constant).log_z
    assert value == pytest.approx(np.logaddexp.reduce(log_p[agree]), abs=1e-9)
    assert found.held == {3: 0, 0: 1}
    assert found.free.tolist() == [1, 2, 4, 5, 6]
    assert found.states(np.zeros((1, 5), np.uint8)).tolist() == [[1, -1, -1, -1, -1, -1, -1]]
    assert found.description["clamped"]["units"] == 2


def test_units_from_an_npz_file(spins, tmp_path):
    np.savez(tmp_path / "held.npz", units=[3, 0], values=[-1, 1])
    found = read_machine(spins[0], ReadConfig(units="pm1", clamp=str(tmp_path / "held.npz")))
    assert found.held == {3: 0, 0: 1}


def test_labels_of_dimod(tmp_path):
    """The labels in the file of dimod's own making: 0, "one", ["a", 2], 3, 4.5, 7."""
    from tests.places import FORMATS

    for name in ("spin-1.bqm", "spin-2.bqm", "binary-1.bqm", "binary-2.bqm"):
        low = -1 if name.startswith("spin") else 0
        assert read_machine(FORMATS / name).labels == ("0", "one", '["a", 2]', "3", "4.5", "7")
        parts = []
        for a, b in itertools.product((low, 1), repeat=2):
            clamp = saved(tmp_path, f'one = {a}\n["a", 2] {b}\n')
            found = read_machine(FORMATS / name, ReadConfig(clamp=str(clamp)))
            assert list(found.held) == [1, 2]
            parts.append(estimate_log_z(found.machine, constant=found.constant).log_z)
        whole = read_machine(FORMATS / name)
        expected = estimate_log_z(whole.machine, constant=whole.constant).log_z
        assert np.logaddexp.reduce(parts) == pytest.approx(expected, abs=1e-9)


def test_evidence_is_held_too(tmp_path):
    """What is observed in a UAI model and what is clamped go together, numbered as in the file."""
    model = saved(tmp_path, "MARKOV\n3\n2 2 2\n2\n2 0 1\n2 1 2\n4 1 2 3 4\n4 5 1 1 7\n", "model.uai")
    evidence = saved(tmp_path, "1 0 1\n", "model.evid")
    found = read_machine(model, ReadConfig(evidence=str(evidence), clamp=str(saved(tmp_path, "2 0"))))
    assert found.held == {0: 1, 2: 0}
    value = estimate_log_z(found.machine, constant=found.constant).log_z
    assert value == pytest.approx(np.log(3 * 5 + 4 * 1))
    assert found.states(np.array([[1]])).tolist() == [[1, 1, 0]]
    with pytest.raises(DataError, match="observed already"):
        read_machine(model, ReadConfig(evidence=str(evidence), clamp=str(saved(tmp_path, "0 1"))))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("9 1", r"names a unit '9', which is not a number of 0 \.\.\. 6"),
        ("a 1", r"names a unit 'a'"),
        ("0 0", "give -1 or 1, the values of its units"),
        ("0 nan", "give -1 or 1, the values of its units"),
        ("0", "line 1: '0' is not 'unit value'"),
        ("0 on", "line 1: 'on' is not a value of a unit"),
        ("0 1\n0 -1", "twice"),
        ("", "names no unit"),
        ("{", "damaged JSON"),
        ('{"0": [1]}', "give a number"),
        ('{"0": true}', "give a number"),
        ("PK", "damaged"),
    ],
)
def test_a_file_that_names_no_units_is_refused_in_one_line(spins, tmp_path, content, match):
    clamp = saved(tmp_path, content)
    with pytest.raises(DataError, match=match) as error:
        read_machine(spins[0], ReadConfig(units="pm1", clamp=str(clamp)))
    assert str(error.value).startswith(f"--clamp {clamp}: ")
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_is_refused(spins, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_machine(spins[0], ReadConfig(clamp=str(tmp_path / "none")))

"""Machines from elsewhere: every format as its own library writes it, against that library's own energies."""

import gzip
import itertools
import json

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.io import savemat
from scipy.special import logsumexp

from dvae_core.errors import ConfigError, DataError
from dvae_eval.exact.plan import exact_log_z
from dvae_eval.machine import BipartiteMachine, GeneralMachine, machine_from_couplings
from dvae_eval.readers import ReadConfig, Reading, read_machine, recognise
from dvae_eval.readers.arrays import read_arrays
from dvae_eval.readers.names import PAIRS, WEIGHTS
from dvae_eval.readers.write import SUFFIXES, write_machine
from tests.oracles import bipartite, enumerate_states, log_marginals, log_weights
from tests.places import FORMATS

EXPECTED = json.loads((FORMATS / "expected.json").read_text())
PM1 = ReadConfig(units="pm1")


def original(name, folder):
    """The file of that name, and the options that it needs."""
    if not name.startswith("rbms-"):
        return FORMATS / name, ReadConfig()
    path = folder / "rbms.h5"
    path.write_bytes(gzip.decompress((FORMATS / "rbms.h5.gz").read_bytes()))
    return path, ReadConfig(update=int(name.removeprefix("rbms-")))


def all_log_p(reading):
    """log p of all states before normalising, in the file's convention, sorted."""
    machine = reading.machine
    z = enumerate_states(machine.n_units)
    if isinstance(machine, BipartiteMachine):
        J, b = bipartite(machine.W, machine.b_left, machine.b_right)
    else:
        J, b = machine.J, machine.b
    return np.sort(log_weights(J, b, z) + reading.constant)


def visible_log_p(reading):
    """log p of all states of the left side, the right one summed out."""
    m = reading.machine
    v = enumerate_states(m.n_left)
    return np.sort(log_marginals(m.W, m.b_left, m.b_right, v) + reading.constant)


def log_z_of(reading):
    """log Z in the file's own convention."""
    return exact_log_z(reading.machine) + reading.constant


def agrees(reading, expected):
    """Whether a reading gives every state the energy that the original library gives it."""
    log_p = visible_log_p(reading) if expected.get("marginal") == "visible" else all_log_p(reading)
    return np.allclose(log_p, expected["log_p"], rtol=0, atol=2e-9)


def states(n, units):
    """All states of n units, in the units of a file."""
    return enumerate_states(n, (0, 1) if units == "01" else (-1, 1))


# --- files of the original libraries --------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPECTED)
def test_every_state_has_the_energy_that_the_original_library_gives_it(name, tmp_path):
    reading = read_machine(*original(name, tmp_path))
    expected = EXPECTED[name]
    assert agrees(reading, expected)
    assert abs(log_z_of(reading) - logsumexp(expected["log_p"])) < 1e-8
    assert abs(log_z_of(reading) - expected.get("log_z", log_z_of(reading))) < 1e-8
    assert reading.description["constant"] == reading.constant


@pytest.mark.parametrize("name", ["grbm.pt", "spin-2.bqm", "markov.uai"])
def test_a_reading_without_its_constant_is_rejected(name):
    reading = read_machine(FORMATS / name)
    assert reading.constant
    assert not agrees(Reading(reading.machine, 0.0, {}), EXPECTED[name])


@pytest.mark.parametrize("name", ["grbm.pt", "grbm-0.1.pt", "binary-1.bqm", "spin.coo"])
def test_energies_at_another_inverse_temperature(name):
    hot = read_machine(FORMATS / name, ReadConfig(beta=0.5))
    assert agrees(hot, {"log_p": np.multiply(EXPECTED[name]["log_p"], 0.5)})
    assert not agrees(read_machine(FORMATS / name), {"log_p": np.multiply(EXPECTED[name]["log_p"], 0.5)})


def test_an_archive_of_rbms_gives_its_last_update_unless_told(tmp_path):
    path, _ = original("rbms-12", tmp_path)
    assert read_machine(path).description["update"] == 12
    with pytest.raises(DataError, match="no update 4; give another, the last are 3, 12"):
        read_machine(path, ReadConfig(update=4))


def test_content_goes_before_the_name(tmp_path):
    for name, kind in (("markov.uai", "uai"), ("grbm.pt", "torch"), ("spin-1.bqm", "bqm"), ("rbm-v5.mat", "mat")):
        path = tmp_path / "wrongly-called.npz"
        path.write_bytes((FORMATS / name).read_bytes())
        assert recognise(path) == kind
        assert agrees(read_machine(path), EXPECTED[name])


# --- arrays ---------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
W, B, C = RNG.normal(size=(4, 3)), RNG.normal(size=4), RNG.normal(size=3)
MACHINE = BipartiteMachine.from_arrays(W, B, C)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_common_names_and_either_orientation(weights, pair):
    for matrix in (W, W.T):
        reading = read_arrays({weights: matrix, pair[0]: B, pair[1]: C, "epoch": C}, ReadConfig(), "test")
        assert reading.machine.sha256 == MACHINE.sha256
        assert reading.description["rows"] == ("left" if matrix is W else "right")


@pytest.mark.parametrize(
    ("weights", "pair", "rows"),
    [
        ("W", ("b_left", "b_right"), "left"),
        ("W", ("b_visible", "c_hidden"), "left"),
        ("weight_matrix", ("vbias", "hbias"), "left"),
        ("components_", ("intercept_visible_", "intercept_hidden_"), "right"),
        ("W", ("vbias", "hbias"), None),
        ("W", ("b", "c"), None),
    ],
)
def test_a_square_matrix_needs_names_that_say_its_orientation(weights, pair, rows):
    arrays = {weights: W[:3], pair[0]: B[:3], pair[1]: C}
    if rows is None:
        with pytest.raises(DataError, match="give --rows left or right"):
            read_arrays(arrays, ReadConfig(), "test")
    else:
        assert read_arrays(arrays, ReadConfig(), "test").description["rows"] == rows
    left, right = (read_arrays(arrays, ReadConfig(rows=side), "test") for side in ("left", "right"))
    assert left.machine.sha256 == BipartiteMachine.from_arrays(W[:3], B[:3], C).sha256
    assert right.machine.sha256 == BipartiteMachine.from_arrays(W[:3].T, B[:3], C).sha256
    assert abs(log_z_of(left) - log_z_of(right)) > 1e-3


@pytest.mark.parametrize("units", ["01", "pm1"])
def test_units_of_two_sides(units):
    reading = read_arrays({"W": W, "b": B, "c": C}, ReadConfig(units=units), "test")
    v, h = np.split(states(7, units), [4], axis=1)
    log_p = np.einsum("ni,ij,nj->n", v, W, h) + v @ B + h @ C
    np.testing.assert_allclose(all_log_p(reading), np.sort(log_p), atol=1e-12)
    assert (reading.constant == 0) == (units == "01")


@pytest.mark.parametrize("units", ["01", "pm1"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_units_of_a_general_machine(units, symmetric):
    J = np.triu(RNG.normal(size=(6, 6)), 1)
    b = RNG.normal(size=6)
    reading = read_arrays({"J": J + J.T if symmetric else J, "b": b}, ReadConfig(units=units), "test")
    x = states(6, units)
    log_p = np.einsum("ni,ij,nj->n", x, J, x) + x @ b
    np.testing.assert_allclose(all_log_p(reading), np.sort(log_p), atol=1e-12)
    assert isinstance(reading.machine, GeneralMachine)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
@pytest.mark.parametrize("prefix", ["", "J_"])
def test_sparse_couplings_with_biases_beside_them(tmp_path, kind, prefix):
    J = np.triu(RNG.normal(size=(6, 6)) * (RNG.random((6, 6)) < 0.5), 1)
    b = RNG.normal(size=6)
    path = tmp_path / "J.npz"
    scipy.sparse.save_npz(path, getattr(scipy.sparse, f"{kind}_array")(J))
    with np.load(path) as saved:
        parts = {prefix + name: saved[name] for name in saved if not name.startswith("_")}
    np.savez(path, **parts, b=b)
    assert read_machine(path).machine.sha256 == machine_from_couplings(J, b).sha256


def test_sparse_entries_of_one_place_are_added(tmp_path):
    J = scipy.sparse.coo_array(([1.0, 2.0, 0.5], ([0, 0, 1], [1, 1, 2])), (3, 3))
    scipy.sparse.save_npz(tmp_path / "J.npz", J)
    reading = read_machine(tmp_path / "J.npz")
    assert reading.machine.sha256 == machine_from_couplings(J.toarray(), np.zeros(3)).sha256
    assert "none in the file" in reading.description["biases"]


def test_sparse_matlab_couplings(tmp_path):
    J, b = scipy.sparse.random_array((6, 6), density=0.4, rng=0), RNG.normal(size=6)
    J = scipy.sparse.triu(J, 1, "csc")
    savemat(tmp_path / "J.mat", {"J": J, "b": b[:, None]})
    assert read_machine(tmp_path / "J.mat").machine.sha256 == machine_from_couplings(J.toarray(), b).sha256


def test_types_are_told_and_half_precision_is_exact(tmp_path):
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        tensors = {name: torch.tensor(x).to(getattr(torch, dtype)) for name, x in (("W", W), ("b", B), ("c", C))}
        torch.save(tensors, tmp_path / "rbm.pt")
        reading = read_machine(tmp_path / "rbm.pt")
        assert reading.description["dtype"] == dtype
        np.testing.assert_array_equal(reading.machine.W, tensors["W"].double().numpy())


def test_single_precision_costs_what_it_rounds():
    """Rounding moves log Z by at most the sum of what it moves the parameters."""
    single, double = (
        log_z_of(read_arrays({"W": W.astype(t), "b": B.astype(t), "c": C.astype(t)}, PM1, "test"))
        for t in (np.float32, np.float64)
    )
    moved = sum(np.abs(x.astype(np.float32) - x).sum() for x in (W, B, C))
    assert 0 < abs(single - double) <= moved < 1e-5


def test_couplings_that_are_all_zero():
    for arrays in ({"W": 0 * W, "b": B, "c": C}, {"J": np.zeros((7, 7)), "b": np.concatenate((B, C))}):
        expected = np.logaddexp(0, np.concatenate((B, C))).sum()
        assert abs(log_z_of(read_arrays(arrays, ReadConfig(), "test")) - expected) < 1e-13


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e-8, 1e8, 1e300])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_huge_and_tiny_weights_and_sides_of_one_unit(scale, shape):
    w, b, c = scale * np.ones(shape), np.zeros(shape[0]), np.zeros(shape[1])
    reading = read_arrays({"W": w, "b_left": b, "b_right": c}, PM1, "test")
    n = w.size
    with np.errstate(over="ignore"):
        # n spins around one: 2 Π (e^s + e^-s), s the scale.
        expected = np.log(2) + n * (scale + np.log1p(np.exp(-2 * scale)))
    assert abs(log_z_of(reading) - expected) <= 1e-12 * max(1, abs(expected))


def test_parameters_whose_sums_overflow_are_refused():
    with pytest.raises(DataError, match="infinite"):
        read_arrays({"W": np.full((2, 2), 1e308), "b_left": B[:2], "b_right": C[:2]}, PM1, "test")
    with pytest.raises(DataError, match="infinite"):
        read_arrays({"J": np.triu(np.full((3, 3), 1e308), 1), "b": C}, PM1, "test")


def test_ten_thousand_units_on_a_sparse_graph(tmp_path):
    """A chain, whose log Z is a product of 2 x 2 matrices."""
    n, coupling, bias = 10_000, 0.7, -0.3
    J = scipy.sparse.diags_array(np.full(n - 1, coupling), offsets=1).tocsr()
    scipy.sparse.save_npz(tmp_path / "J.npz", J)
    with np.load(tmp_path / "J.npz") as saved:
        np.savez(tmp_path / "J.npz", **dict(saved), b=np.full(n, bias))
    reading = read_machine(tmp_path / "J.npz")
    assert (reading.machine.n_left, reading.machine.n_right) == (n // 2, n // 2)
    assert (reading.machine.W != 0).sum() == n - 1
    # An end unit has one neighbour, the others two.
    np.testing.assert_array_equal(np.unique((reading.machine.W != 0).sum(0)), [1, 2])


# --- conversion -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["grbm.pt", "spin-2.bqm", "rbm.safetensors", "markov.uai"])
def test_conversion_keeps_every_energy(tmp_path, name, suffix):
    reading = read_machine(FORMATS / name)
    path = tmp_path / f"converted{suffix}"
    write_machine(path, reading.machine, reading.constant)
    again = read_machine(path)
    assert agrees(again, EXPECTED[name])
    assert abs(log_z_of(again) - log_z_of(reading)) < 1e-12
    first = path.read_bytes()
    write_machine(path, reading.machine, reading.constant)
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_uai_file_keeps_parameters_whose_exponentials_do_not_fit(tmp_path):
    machine = BipartiteMachine.from_arrays([[1500.0, -2500.0]], [-4000.0], [900.0, 0.0])
    write_machine(tmp_path / "m.uai", machine, -3333.0)
    reading = read_machine(tmp_path / "m.uai")
    np.testing.assert_allclose(reading.machine.W, machine.W, rtol=1e-14)
    assert abs(log_z_of(reading) - exact_log_z(machine) + 3333) < 1e-9


def test_parameters_beyond_any_number_of_factors_are_refused(tmp_path):
    machine = BipartiteMachine.from_arrays([[1e300]], [0.0], [0.0])
    with pytest.raises(DataError, match="another format"):
        write_machine(tmp_path / "m.uai", machine)
    write_machine(tmp_path / "m.npz", machine)
    assert exact_log_z(read_machine(tmp_path / "m.npz").machine) == 1e300


def test_other_names_cannot_be_written(tmp_path):
    with pytest.raises(ConfigError, match=r"ends with \.npz"):
        write_machine(tmp_path / "m.docx", MACHINE)
    assert not list(tmp_path.iterdir())


# --- UAI ------------------------------------------------------------------------------------------------------

# Three variables, written by hand: f(0) = (1, 2), f(0, 1) = (1, 2; 3, 4), f(2, 1) = (5, 1; 1, 0.5), f() = 7.
BY_HAND = """MARKOV
3
2 2 2
4
1 0
2 0 1
2 2 1
0

2
 1.0 2.0
4
 1 2
 3 4
4
 5 1
 1 0.5
1
 7
"""


def test_a_uai_file_written_by_hand(tmp_path):
    (tmp_path / "m.uai").write_text(BY_HAND)
    f0, f01, f21 = (1, 2), ((1, 2), (3, 4)), ((5, 1), (1, 0.5))
    weights = [7 * f0[x] * f01[x][y] * f21[z][y] for x, y, z in itertools.product((0, 1), repeat=3)]
    reading = read_machine(tmp_path / "m.uai")
    np.testing.assert_allclose(all_log_p(reading), np.sort(np.log(weights)), atol=1e-14)
    assert abs(log_z_of(reading) - np.log(sum(weights))) < 1e-13
    transposed = [7 * f0[x] * f01[y][x] * f21[z][y] for x, y, z in itertools.product((0, 1), repeat=3)]
    assert abs(log_z_of(reading) - np.log(sum(transposed))) > 0.01


# As the partition-function instances of the UAI 2014 competition: a preamble, then tables, with the blanks, line
# ends and numbers that their programs write.  f(0, 1, 2) can be read where one of its variables is observed.
AS_PUBLISHED = (
    "MARKOV \r\n4\t\r\n2 2 2 2\n6\n1 0\n2  0 1\n2 3 2\n3 0 1 2\n0\n1 3\n\n"
    "2\n 1e0 .5\n\n4 \n 1E+00 2.E-3 \n 3.0e+02 4\n4\n5 1 1 0.5\n\n8\n 1 2 3 4 5 6 7 0\n1\n+1e-5\n2\n1\n7"
)
TABLES = {
    (0,): [1, 0.5],
    (0, 1): [[1, 2e-3], [3e2, 4]],
    (3, 2): [[5, 1], [1, 0.5]],
    (0, 1, 2): [[[1, 2], [3, 4]], [[5, 6], [7, 0]]],
    (): 1e-5,
    (3,): [1, 7],
}


def weight(x):
    """The product of all factors at a state of the four variables."""
    return np.prod([np.asarray(table)[tuple(x[v] for v in scope)] for scope, table in TABLES.items()])


@pytest.mark.parametrize(
    "text", ["1 1 0", " 2\n1 0 0\t1 \n", "1\n1 1 0\n", "3 0 1\r\n1 0\r\n3 1", "4 0 0 1 0 2 0 3 0"]
)
def test_a_uai_model_as_published_with_evidence(tmp_path, text):
    """Formats of 2014 and 2010; what is summed over are the states that agree with the evidence."""
    (tmp_path / "m.uai").write_bytes(AS_PUBLISHED.encode())
    (tmp_path / "m.uai.evid").write_bytes(text.encode())
    numbers = [int(word) for word in text.split()]
    pairs = numbers[-2 * (len(numbers) // 2) :] if len(numbers) % 2 else numbers[2:]
    observed = dict(zip(pairs[::2], pairs[1::2], strict=True))
    states = [
        x for x in itertools.product((0, 1), repeat=4) if all(x[v] == value for v, value in observed.items())
    ]
    reading = read_machine(tmp_path / "m.uai", ReadConfig(evidence=str(tmp_path / "m.uai.evid")))
    assert reading.machine.n_units == 4 - len(observed)
    assert abs(log_z_of(reading) - np.log(sum(map(weight, states)))) < 1e-12
    assert reading.description["evidence"]["observed"] == len(observed)
    np.testing.assert_allclose(all_log_p(reading), np.sort(np.log([weight(x) for x in states])), atol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends before its number of observed"),
        ("1 1", "ends before its observed variables"),
        ("1 1 0 7 8", "2 numbers too many"),
        ("2 1 0 2 0 2", "one sample"),
        ("2 1 0 1 1", "a variable twice"),
        ("1 4 0", "below 4"),
        ("1 1 2", "other than 0 and 1"),
        ("1 1.5 0", "whole numbers"),
        ("one", "more than numbers"),
        ("1 3 0", "factor 3 has 3 unobserved variables"),
        ("3 0 1 1 1 2 1", "factor 3 has the values"),
    ],
)
def test_evidence_that_does_not_fit(tmp_path, text, message):
    (tmp_path / "m.uai").write_text(AS_PUBLISHED)
    (tmp_path / "e.evid").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_machine(tmp_path / "m.uai", ReadConfig(evidence=str(tmp_path / "e.evid")))
    assert "m.uai" in str(caught.value)
    with pytest.raises(ConfigError, match="--evidence"):
        read_machine(FORMATS / "spin.coo", ReadConfig(evidence="x"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("MARKOV", "COMPRESSED"), "no format"),
        (("\n3\n2 2 2", "\n3\n2 3 2"), "variable 1 has 3 states"),
        (("\n3\n2 2 2", "\n3\n2 2"), "number of variables|states|variables"),
        (("2 0 1", "3 0 1 2"), "factor 1 has 3 variables"),
        (("2 0 1", "2 0 3"), r"variables \[0, 3\]; give different ones below 3"),
        (("2 0 1", "2 1 1"), r"variables \[1, 1\]"),
        ((" 1.0 2.0", " 0.0 2.0"), "remove the states of probability zero"),
        ((" 1.0 2.0", " -1 2.0"), "positive"),
        ((" 1.0 2.0", " nan 2.0"), "positive"),
        ((" 1.0 2.0", " inf 2.0"), "positive"),
        ((" 1.0 2.0", " 1.0"), "has"),
        ((" 1.0 2.0", " one 2.0"), "more than numbers"),
        (("1\n 7\n", "1\n 7 8\n"), "1 numbers too many"),
        (("1\n 7\n", ""), "truncated"),
        (("\n3\n", "\n3.5\n"), "whole numbers"),
        (("\n3\n", "\n99999999999\n"), "whole numbers"),
        (("\n3\n", "\n2000000000\n"), "truncated"),
        (("MARKOV\n3", "MARKOV\n\xb3"), "no UAI file"),
    ],
)
def test_bad_uai_files_are_refused_in_one_line(tmp_path, change, message):
    assert change[0] in BY_HAND
    path = tmp_path / "m.uai"
    path.write_text(BY_HAND.replace(*change), encoding="latin-1")
    if change[1] == "COMPRESSED":
        message = "begins with 'COMPRESSED'"  # the name promises UAI
    with pytest.raises(DataError, match=message) as error:
        read_machine(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


# --- options that a file answers itself -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rbms-12", {"units": "pm1"}),
        ("grbm.pt", {"units": "pm1"}),
        ("grbm.pt", {"rows": "left"}),
        ("spin-1.bqm", {"units": "01"}),
        ("markov.uai", {"beta": 2.0}),
        ("rbm.skops", {"rows": "left"}),
        ("rbm.pt", {"beta": 2.0}),
        ("rbm-v5.mat", {"update": 3}),
        ("spin.coo", {"units": "01"}),
    ],
)
def test_options_that_a_file_answers_itself_are_refused(tmp_path, name, options):
    path, _ = original(name, tmp_path)
    with pytest.raises((ConfigError, DataError), match=f"--{next(iter(options))}: .*(leave|omit)"):
        read_machine(path, ReadConfig(**options))


def test_text_that_does_not_say_its_units(tmp_path):
    path = tmp_path / "ising.coo"
    path.write_text("0 0 1.5\n0 1 -0.5\n# a remark\n1 0 -0.25\n")
    with pytest.raises(DataError, match="give --units 01 or pm1"):
        read_machine(path)
    for units in ("01", "pm1"):
        x = states(2, units)
        log_p = -(1.5 * x[:, 0] - 0.75 * x[:, 0] * x[:, 1])
        np.testing.assert_allclose(all_log_p(read_machine(path, ReadConfig(units=units))), np.sort(log_p))


# --- documentation --------------------------------------------------------------------------------------------


def test_every_file_is_told_of_and_every_name_documented():
    listed = (FORMATS / "README.md").read_text()
    for path in FORMATS.iterdir():
        assert path.suffix in (".md", ".json", ".py") or f"`{path.name}`" in listed
    page = (FORMATS.parents[2] / "docs" / "formats.md").read_text()
    for name in (*WEIGHTS, *itertools.chain(*PAIRS), *SUFFIXES, "J", "constant"):
        assert f"`{name}`" in page
    for option in ("--units pm1", "--rows left", "--beta"):
        assert option in page

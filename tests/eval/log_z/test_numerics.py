"""log Z of machines at the edges of arithmetic, by every method, against sums that are done by hand.

Estimates come with 16 ladders, or groups of chains: |t| > 6 happens once in 40 000 fresh seeds (Student's t, 15
degrees of freedom); there are about 60 estimates here.
"""

import json

import numpy as np
import pytest

from dvae_core.errors import ConfigError, OverlapError
from dvae_eval.exact.plan import exact_log_z
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.log_z.run import HALF_UNIT
from dvae_eval.log_z.with_pymbar import bar
from dvae_eval.machine import BipartiteMachine, machine_from_bonds, machine_from_couplings
from dvae_eval.readers import ReadConfig, read_machine
from dvae_eval.readers.write import write_machine
from tests.oracles import enumerate_states, log_marginals

RNG = np.random.default_rng(0)
W, B, C = RNG.normal(size=(6, 8)), RNG.normal(size=6), RNG.normal(size=8)
SHORT = {"n_sweeps": 80, "n_replicates": 16, "n_chains": 256, "threads": 1}


def by_hand(W, b, c):
    """log Z by a sum over the states of the left side."""
    return np.logaddexp.reduce(log_marginals(W, b, c, enumerate_states(len(b))))


def isolated(W):
    """Couplings that leave a unit of either side alone."""
    W = W.copy()
    W[2], W[:, 5] = 0, 0
    return W


CASES = {
    "a subnormal coupling": (np.full((1, 4), 5e-324), np.zeros(1), np.zeros(4)),
    "tiny": (1e-12 * W, 1e-12 * B, 1e-12 * C),
    "small": (1e-6 * W, 1e-6 * B, 1e-6 * C),
    "thousands": (1e3 * W, 1e3 * B, 1e3 * C),
    "millions": (1e6 * W, 1e6 * B, 1e6 * C),
    "one beside one": (np.array([[0.7]]), np.array([0.2]), np.array([-0.3])),
    "one beside many": (W.reshape(1, 48), B[:1], np.tile(B, 8)),
    "many beside one": (W[:, :1], B, C[:1]),
    "biases of 700": (W, 700 * np.sign(B), 700 * np.sign(C)),
    "biases of 10000": (W, 1e4 * np.sign(B), 1e4 * np.sign(C)),
    "units alone": (isolated(W), B, C),
    "one state": (W, np.full(6, 60.0), np.full(8, -60.0)),
    "two states": (np.array([[1e4]]), np.array([-5e3]), np.array([-5e3])),
    "no coupling": (0 * W, 0 * B, 0 * C),
}


def agrees(result, expected):
    """Whether a number is what its error says; the last digits of a float64 are nobody's."""
    return abs(result.log_z - expected) <= 6 * result.std_err + 1e-13 * max(1, abs(expected))


@pytest.mark.parametrize("method", ["auto", "exact", "pt-bar", "ais"])
@pytest.mark.parametrize("name", CASES)
def test_every_method_agrees_within_its_error(name, method):
    result = estimate_log_z(CASES[name], method=method, **SHORT)
    expected = by_hand(*CASES[name])
    assert agrees(result, expected)
    assert result.std_err == 0 or result.std_err >= HALF_UNIT * abs(expected)
    assert result.settings["dtype"].startswith("float64" if result.method == "exact" else "float32 fields")
    assert not agrees(result, expected + max(1.0, 7 * result.std_err))


@pytest.mark.parametrize("method", ["auto", "exact", "pt-bar", "ais", "reverse-ais"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (30, 40)])
def test_without_couplings_and_biases_log_z_is_n_log_2(shape, method):
    result = estimate_log_z((np.zeros(shape), np.zeros(shape[0]), np.zeros(shape[1])), method=method)
    assert (result.std_err, result.trustworthy) == (0.0, True)
    assert abs(result.log_z - sum(shape) * np.log(2)) < 1e-13


@pytest.mark.parametrize("scale", [1e7, 1e30, 1e300])
def test_what_float32_cannot_tell_apart_is_exact_or_refused(scale, tmp_path, cli):
    arrays = scale * W, scale * B, scale * C
    assert estimate_log_z(arrays).log_z == pytest.approx(by_hand(*arrays), rel=1e-14)
    for method in ("pt-bar", "ais"):
        with pytest.raises(ConfigError, match=f"--method {method}: .* --method exact"):
            estimate_log_z(arrays, method=method)
    np.savez(tmp_path / "m.npz", W=arrays[0], b_left=arrays[1], b_right=arrays[2])
    status, out, err = cli("logz", tmp_path / "m.npz", "--method", "pt-bar", "--quiet")
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_bennetts_ratio_of_works_that_cannot_be_bracketed_is_refused():
    with pytest.raises(OverlapError, match="no mass"):
        bar(np.full(50, 4e5), np.full(50, 3e5))


@pytest.mark.parametrize("method", ["exact", "pt-bar"])
def test_single_and_double_precision_arrays(method, tmp_path):
    """Rounding moves log Z by no more than the parameters; the result says which type the file has."""
    numbers = {}
    for dtype in (np.float32, np.float64):
        np.savez(tmp_path / "m.npz", W=W.astype(dtype), b_left=B.astype(dtype), b_right=C.astype(dtype))
        reading = read_machine(tmp_path / "m.npz")
        result = estimate_log_z(reading.machine, method=method, description=reading.description, **SHORT)
        assert result.model["dtype"] == np.dtype(dtype).name
        numbers[dtype] = result.log_z
    moved = sum(np.abs(x.astype(np.float32) - x).sum() for x in (W, B, C))
    assert abs(numbers[np.float32] - numbers[np.float64]) <= moved + (method != "exact") * 1e-4


# --- ten thousand units -----------------------------------------------------------------------------------------


def test_ten_thousand_units_beside_ten():
    """The ten are enumerated here by another code."""
    arrays = 0.3 * RNG.normal(size=(9990, 10)), RNG.normal(size=9990), RNG.normal(size=10)
    terms = [log_marginals(arrays[0].T, arrays[2], arrays[1], h) for h in enumerate_states(10)]
    result = estimate_log_z(arrays)
    assert result.method == "exact"
    assert abs(result.log_z - np.logaddexp.reduce(terms)) < 1e-8


@pytest.mark.slow
def test_a_chain_of_ten_thousand_units():
    """A product of 2 x 2 matrices, half of either unit's bias in each."""
    n, coupling, bias = 10_000, 0.7, -0.3
    ends = np.column_stack((np.arange(n - 1), np.arange(1, n)))
    result = estimate_log_z(machine_from_bonds(ends, np.full(n - 1, coupling), np.full(n, bias)))
    x = np.arange(2)
    transfer = np.exp(coupling * np.outer(x, x) + bias / 2 * np.add.outer(x, x))
    vector, log_z = np.exp(bias / 2 * x), 0.0
    for _ in range(n - 1):
        vector = transfer @ vector
        log_z += np.log(vector.sum())
        vector /= vector.sum()
    assert result.method == "exact"
    assert abs(result.log_z - log_z - np.log(vector @ np.exp(bias / 2 * x))) < 1e-7


# --- bonds that are there twice ---------------------------------------------------------------------------------


def test_a_bond_that_is_there_twice_counts_twice(tmp_path):
    """As in dimod, in SciPy and in a product of factors."""
    expected = by_hand(np.array([[0.75]]), np.array([0.1]), np.zeros(1))
    texts = {
        "m.coo": "# vartype=BINARY\n0 1 -1\n1 0 0.25\n0 0 -0.1\n",
        "m.uai": f"MARKOV 2 2 2 3 2 0 1 2 1 0 1 0\n4 1 1 1 {np.exp(1.0)!r} 4 1 1 1 {np.exp(-0.25)!r}\n"
        f"2 1 {np.exp(0.1)!r}".replace("np.float64(", "").replace(")", ""),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        reading = read_machine(tmp_path / name)
        assert abs(exact_log_z(reading.machine) + reading.constant - expected) < 1e-12
    arrays = {"row": [0, 0], "col": [1, 1], "data": [1.0, -0.25], "shape": [2, 2], "format": np.bytes_("coo")}
    np.savez(tmp_path / "m.npz", **arrays, b=[0.1, 0.0])
    assert abs(exact_log_z(read_machine(tmp_path / "m.npz").machine) - expected) < 1e-12


# --- one machine, many formats ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".mat", ".uai"])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 300.0])
def test_a_machine_that_was_written_has_the_same_log_z(tmp_path, suffix, scale):
    machines = (
        BipartiteMachine.from_arrays(scale * W, scale * B, scale * C),
        machine_from_couplings(scale * np.triu(W[:, :6], 1), scale * B),
        machine_from_bonds(np.array([[0, 1]]), np.array([5e-324]), B),
    )
    for machine in machines:
        write_machine(tmp_path / f"m{suffix}", machine, 1.5)
        reading = read_machine(tmp_path / f"m{suffix}", ReadConfig())
        expected = exact_log_z(machine) + 1.5
        assert abs(exact_log_z(reading.machine) + reading.constant - expected) <= 1e-13 * max(1, abs(expected))


def test_the_command_states_the_types(tmp_path, cli):
    np.savez(tmp_path / "m.npz", W=W.astype("f4"), b_left=B, b_right=C)
    for method, dtype in (("exact", "float64"), ("pt-bar", "float32 fields, float64 sums")):
        args = ("--method", method, "--sweeps", 80, "--json", "--quiet")
        status, out, _ = cli("logz", tmp_path / "m.npz", *args)
        assert status in (0, 3)
        result = json.loads(out)
        assert (result["model"]["dtype"], result["settings"]["dtype"]) == ("float32", dtype)

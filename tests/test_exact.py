"""Enumeration against a second, naive enumeration, closed forms and symmetries."""

import numpy as np
import pytest

from dvae_core.errors import ConfigError, DataError
from dvae_eval import exact
from dvae_eval.exact import exact_log_z
from dvae_eval.machine import BipartiteMachine
from dvae_eval.readers import read_machine
from tests.oracles import naive_log_z


def random_machine(n_left, n_right, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    arrays = (rng.normal(size=shape) * scale for shape in ((n_left, n_right), n_left, n_right))
    return BipartiteMachine.from_arrays(*arrays)


@pytest.mark.parametrize(("n_left", "n_right"), [(3, 2), (2, 5), (1, 1), (1, 6), (4, 4)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_agrees_with_naive_enumeration(n_left, n_right, scale):
    machine = random_machine(n_left, n_right, scale)
    expected = naive_log_z(machine.W, machine.b_left, machine.b_right)
    assert abs(exact_log_z(machine) - expected) < 1e-12 * max(1, abs(expected))


def test_independent_units_have_a_closed_form():
    rng = np.random.default_rng(1)
    b, c = rng.normal(size=700) * 5, rng.normal(size=12) * 5
    expected = np.logaddexp(0, b).sum() + np.logaddexp(0, c).sum()
    machine = BipartiteMachine.from_arrays(np.zeros((700, 12)), b, c)
    assert abs(exact_log_z(machine) - expected) < 1e-12 * expected


def test_blocks_do_not_change_the_value(monkeypatch):
    machine = random_machine(9, 11)
    whole = exact_log_z(machine)
    monkeypatch.setattr(exact, "BLOCK_VALUES", 64)
    assert abs(exact_log_z(machine) - whole) < 1e-12 * abs(whole)


def test_flipping_a_unit_changes_log_z_by_its_bias():
    """Gauge symmetry: v_0 -> 1 - v_0 moves W's row into the other side's biases."""
    machine = random_machine(6, 5, seed=2)
    W, b, c = machine.W.copy(), machine.b_left.copy(), machine.b_right + machine.W[0]
    W[0], b[0] = -W[0], -b[0]
    flipped = BipartiteMachine.from_arrays(W, b, c)
    assert abs(exact_log_z(machine) - exact_log_z(flipped) - machine.b_left[0]) < 1e-11


def test_too_large_a_side_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"30 units.*pt-bar"):
        exact_log_z(random_machine(30, 40))


@pytest.mark.parametrize(
    ("W", "b", "c", "message"),
    [
        (np.zeros((2, 3)), np.zeros(3), np.zeros(3), "b_left has shape"),
        (np.zeros((2, 0)), np.zeros(2), np.zeros(0), "both at least 1"),
        (np.zeros(3), np.zeros(2), np.zeros(0), "W has shape"),
        (np.full((2, 2), np.nan), np.zeros(2), np.zeros(2), "nan or infinite"),
        (np.zeros((2, 2), complex), np.zeros(2), np.zeros(2), "complex"),
        (np.array([["a"]]), np.zeros(1), np.zeros(1), "real numbers"),
    ],
)
def test_bad_arrays_are_refused(W, b, c, message):
    with pytest.raises(DataError, match=message):
        BipartiteMachine.from_arrays(W, b, c)


@pytest.mark.parametrize(
    "names", [("b_left", "b_right"), ("b_visible", "c_hidden"), ("vbias", "hbias"), ("b", "c")]
)
def test_npz_files_are_read_under_their_common_names(tmp_path, names):
    machine = random_machine(3, 4)
    path = tmp_path / "rbm.npz"
    np.savez(path, W=machine.W, **dict(zip(names, (machine.b_left, machine.b_right), strict=True)))
    assert read_machine(path).machine.sha256 == machine.sha256


def test_damaged_and_foreign_files_are_refused(tmp_path):
    machine = random_machine(3, 4)
    path = tmp_path / "rbm.npz"
    np.savez(path, W=machine.W, b_left=machine.b_left, b_right=machine.b_right)
    content = path.read_bytes()
    flipped = content[:200] + bytes([content[200] ^ 1]) + content[201:]
    for bad in (content[: len(content) // 2], b"", b"not an npz", flipped):
        path.write_bytes(bad)
        with pytest.raises(DataError, match=r"rbm\.npz"):
            read_machine(path)
    np.savez(path, W=machine.W)
    with pytest.raises(DataError, match="no b_left"):
        read_machine(path)
    np.savez(path, W=np.array([object()]), allow_pickle=True)
    with pytest.raises(DataError, match=r"rbm\.npz"):
        read_machine(path)

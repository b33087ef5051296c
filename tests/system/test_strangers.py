"""Machines solved by other means, in files as strangers write them: NumPy alone knows the truth here."""

import json

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.io import savemat
from scipy.special import logsumexp

from dvae_core.errors import DataError
from dvae_eval.machine import machine_from_couplings
from tests.oracles import enumerate_states, kaufman, log_marginals
from tests.oracles.solvable import log_choices


def log_z(cli, path, *args):
    """(exit status, log Z, standard error) as the command states them."""
    status, out, _ = cli("logz", path, "--json", "--quiet", *args)
    result = json.loads(out)
    return status, result["log_z"], result["std_err"]


def log_z_of_sides(W, b, c):
    """log Z over {0,1} by enumerating the left units."""
    return float(logsumexp(log_marginals(W, b, c, enumerate_states(len(b)))))


# --- machines that can be solved ------------------------------------------------------------------------------


def curie_weiss(n, m, w, b, c):
    """All couplings alike: the number of left units that are on is all that matters."""
    on = np.arange(n + 1)
    truth = logsumexp(log_choices(n) + b * on + m * np.logaddexp(0, c + w * on))
    return {"W": np.full((n, m), w), "b_left": np.full(n, b), "b_right": np.full(m, c)}, (), float(truth)


def turned(machine):
    """Call on off and off on, of a random half of the units: another machine, log Z known all the same."""
    arrays, args, truth = machine
    W, b, c = arrays.values()
    rng = np.random.default_rng(7)
    left, right = (rng.random(len(bias)) < 0.5 for bias in (b, c))
    s, t = np.where(left, -1, 1), np.where(right, -1, 1)
    offset = b @ left + c @ right + left @ W @ right
    other = {"W": W * s[:, None] * t, "b_left": s * (b + W @ right), "b_right": t * (c + left @ W)}
    return other, args, truth - float(offset)


def golf_hole(n, steep, depth):
    """One unit knows one state of n others, which is `depth` nats deep; each that is wrong costs `steep`."""
    pattern = np.random.default_rng(8).random(n) < 0.5
    arrays = {
        "W": np.where(pattern, steep, -steep)[:, None],
        "b_left": np.zeros(n),
        "b_right": np.array([depth - steep * pattern.sum()]),
    }
    wrong = np.arange(n + 1)
    return arrays, (), float(logsumexp(log_choices(n) + np.logaddexp(0, depth - steep * wrong)))


def torus(height, width, coupling):
    """Ising spins on a torus, ±1."""
    J = np.zeros((height * width,) * 2)
    for site in range(height * width):
        i, j = divmod(site, width)
        for neighbour in ((i + 1) % height * width + j, i * width + (j + 1) % width):
            J[min(site, neighbour), max(site, neighbour)] += coupling
    return {"J": J, "b": np.zeros(height * width)}, ("--units", "pm1"), kaufman(height, width, coupling)[0]


def chain(n, scale):
    """Couplings along a line, by transfer of one unit's two weights."""
    rng = np.random.default_rng(9)
    J, b = scale * rng.normal(size=n - 1), scale / 5 * rng.normal(size=n)
    off, on = 0.0, b[0]
    for coupling, bias in zip(J, b[1:], strict=True):
        off, on = np.logaddexp(off, on), np.logaddexp(off, on + coupling) + bias
    return {"J": np.diag(J, 1), "b": b}, (), float(np.logaddexp(off, on))


def locked_pairs(n, coupling):
    """Pairs of units that are alike, and that no single flip turns over."""
    half = np.full(n, -coupling / 2)
    pair = np.log(2) + np.log1p(np.exp(-coupling / 2))
    return {"W": coupling * np.eye(n), "b_left": half, "b_right": half}, (), float(n * pair)


def lonely(n, m):
    """Five units on each side are coupled, all others are alone, and some have enormous biases."""
    rng = np.random.default_rng(10)
    W, b, c = np.zeros((n, m)), rng.normal(size=n), rng.normal(size=m)
    W[:5, :5], b[-1], c[-1] = rng.normal(size=(5, 5)), 1e6, -1e6
    alone = np.logaddexp(0, np.concatenate((b[5:], c[5:]))).sum()
    return {"W": W, "b_left": b, "b_right": c}, (), log_z_of_sides(W[:5, :5], b[:5], c[:5]) + float(alone)


def cancelling(n, scale):
    """Biases that take the couplings' mean field away: a spin glass at temperature zero, nearly."""
    W = scale * np.random.default_rng(11).normal(size=(n, n))
    b, c = -W.sum(1) / 2, -W.sum(0) / 2
    return {"W": W, "b_left": b, "b_right": c}, (), log_z_of_sides(W, b, c)


SOLVED = {
    "Curie-Weiss, critical": curie_weiss(40, 40, 0.1, -2.0, -2.0),
    "two modes, turned": turned(curie_weiss(60, 60, 0.25, -7.45, -7.5)),
    "first order, turned": turned(curie_weiss(40, 40, 0.5, -10.6, -9.6)),
    "golf hole": golf_hole(20, 12.0, 25.0),
    "torus, nearly critical": torus(10, 10, 0.44),
    "torus, cold": torus(9, 10, 1.0),
    "chain": chain(60, 30.0),
    "locked pairs": locked_pairs(30, 40.0),
    "lonely units": lonely(300, 200),
    "1e5 nats that cancel": cancelling(8, 1e5),
    "one and one": (
        {"W": [[3.0]], "b_left": [-1.0], "b_right": [-2.0]},
        (),
        float(np.log(1 + np.e**-1 + np.e**-2 + 1)),
    ),
}


@pytest.mark.parametrize("name", SOLVED)
def test_the_default_is_right_to_rounding(name, tmp_path, cli):
    arrays, args, truth = SOLVED[name]
    np.savez(tmp_path / "machine.npz", **arrays)
    assert log_z(cli, tmp_path / "machine.npz", *args) == (0, pytest.approx(truth, rel=1e-12, abs=1e-9), 0.0)


@pytest.mark.parametrize("name", SOLVED)
def test_tempering_is_right_or_says_that_it_is_not(name, tmp_path, cli):
    """Five standard errors of Student's t with 31 degrees of freedom: eleven machines in 4000 false alarms."""
    arrays, args, truth = SOLVED[name]
    np.savez(tmp_path / "machine.npz", **arrays)
    how = ("--method", "pt-bar", "--sweeps", "640", "--threads", "1")
    status, estimate, std_err = log_z(cli, tmp_path / "machine.npz", *how, *args)
    assert status == 3 or abs(estimate - truth) < 5 * std_err
    assert status == 0 or name == "golf hole"


@pytest.mark.parametrize("how", [(), ("--energies", "joint"), ("--preset", "paper")])
@pytest.mark.parametrize("n_known", [1, 6])
def test_a_pattern_that_one_unit_knows_is_not_missed_and_trusted(how, n_known, tmp_path, cli):
    """One of the smaller side's units knows one of 2^30 states, and all but Z's 14 nats are there without it."""
    rng = np.random.default_rng(0)
    patterns = rng.random((30, n_known)) < 0.5
    W, b = np.where(patterns, 12.0, -12.0), np.zeros(30)
    c = np.array([35.0, *[5.0] * (n_known - 1)]) - 12 * patterns.sum(0)
    np.savez(tmp_path / "rbm.npz", W=W, b_left=b, b_right=c)
    tempering = ("--method", "pt-bar", "--sweeps", "640", "--threads", "1")
    status, estimate, std_err = log_z(cli, tmp_path / "rbm.npz", *tempering, *how)
    assert status == 3 or abs(estimate - log_z_of_sides(W.T, c, b)) < 5 * std_err


@pytest.mark.parametrize("repeats", [1, 3])
def test_what_annealing_back_misses_is_part_of_its_error(repeats, tmp_path, cli):
    """Two modes: the paths between them carry weight, and no chain takes them; 0.24 nats too high, +- 0.03."""
    rng = np.random.default_rng(1)
    W = 1.7 * np.abs(rng.normal(size=(38, 12)))
    b, c = -W.sum(1) * rng.choice([0.48, 0.49, 0.51, 0.52]), -W.sum(0) / 2
    np.savez(tmp_path / "rbm.npz", W=W, b_left=b, b_right=c)
    how = ("--method", "reverse-ais", "--chains", "320", "--sweeps", "400", "--threads", "1", "--repeats", repeats)
    _, estimate, std_err = log_z(cli, tmp_path / "rbm.npz", *how)
    assert 0.1 < estimate - log_z_of_sides(W.T, c, b) < 3 * std_err


# --- files as strangers write them ------------------------------------------------------------------------------

RNG = np.random.default_rng(12)
W, B, C = RNG.normal(size=(5, 3)), RNG.normal(size=5), RNG.normal(size=3)
RBM = {"W": torch.tensor(W), "v_bias": torch.tensor(B), "h_bias": torch.tensor(C)}


def npz(**arrays):
    """A writer of these arrays."""
    return "npz", lambda path: np.savez(path, **arrays)


def pt(content):
    """A writer of what torch.save makes of `content`."""
    return "pt", lambda path: torch.save(content, path)


def mat(**arrays):
    """A writer of a MATLAB file."""
    return "mat", lambda path: savemat(path, arrays)


STRANGERS = {
    "TensorFlow's tutorial": npz(W=W, vb=B, hb=C),
    "its transpose": npz(weights=W.T, vb=B[None], hb=C[:, None]),
    "short words": npz(W=W, b_vis=B, b_hid=C),
    "long words": npz(W=W, bias_visible=B, bias_hidden=C),
    "the state of an optimiser": npz(W=W, dW=0 * W, b=B, c=C, epoch=3, name="run 5", meta=np.array({}, object)),
    "Hinton's programs": mat(vishid=W, visbiases=B, hidbiases=C, epoch=9.0, opts={"eta": 0.1}),
    "Fortran's order, other bytes": npz(W=np.asfortranarray(W, ">f8"), vbias=B.astype(">f8"), hbias=C),
    "parameters": pt({name: torch.nn.Parameter(tensor) for name, tensor in RBM.items()}),
    "DataParallel": pt({f"module.rbm.{name}": tensor for name, tensor in RBM.items()}),
    "a training's checkpoint": pt({"epoch": 3, "rbm": RBM, "optimizer": {"state": {0: {"exp_avg": RBM["W"]}}}}),
    "a network's": pt({"net": {**RBM, "encoder.weight": torch.ones(4, 4)}}),
    "views": pt({**RBM, "W": torch.tensor(np.tile(W.T, (2, 1))).T[:, 3:]}),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_strangers_file_has_the_same_log_z(name, tmp_path, cli):
    ending, write = STRANGERS[name]
    path = tmp_path / f"rbm.{ending}"
    write(path)
    assert log_z(cli, path) == (0, pytest.approx(log_z_of_sides(W, B, C), abs=1e-12), 0.0)


def test_the_rows_of_vishid_are_visible_also_where_it_is_square(tmp_path, cli):
    square = RNG.normal(size=(4, 4))
    savemat(tmp_path / "dbn.mat", {"vishid": square, "visbiases": B[:4], "hidbiases": C[[0, 1, 2, 0]]})
    expected = log_z_of_sides(square, B[:4], C[[0, 1, 2, 0]])
    assert log_z(cli, tmp_path / "dbn.mat") == (0, pytest.approx(expected, abs=1e-12), 0.0)


def test_a_bias_of_one_unit_may_be_a_number(tmp_path, cli):
    np.savez(tmp_path / "rbm.npz", W=W[:, :1], b_left=B, b_right=C[0])
    expected = log_z_of_sides(W[:, :1], B, C[:1])
    assert log_z(cli, tmp_path / "rbm.npz") == (0, pytest.approx(expected, abs=1e-12), 0.0)


def test_a_number_for_all_couplings_is_refused_as_such(tmp_path, cli):
    np.savez(tmp_path / "rbm.npz", W=0.5, b_left=0.1, b_right=0.2)
    status, _, told = cli("logz", tmp_path / "rbm.npz")
    assert status == 2
    assert "W has shape (1,); give (n_left, n_right)" in told


# --- couplings that are symmetric, or nearly -------------------------------------------------------------------


def products(dtype):
    """Couplings X'X of patterns X, and what another order of summation left in one of their two halves."""
    X = RNG.normal(size=(50, 6)).astype(dtype)
    J = X.T @ X / 50
    np.fill_diagonal(J, 0)
    J[np.tril_indices(6, -1)] *= 1 + 3 * np.finfo(dtype).eps
    return J


def log_z_of_pairs(J, b):
    """log Z over {0,1}, every pair once, by enumeration."""
    states = (np.arange(1 << len(b))[:, None] >> np.arange(len(b))) & 1
    return float(logsumexp(np.einsum("ni,ij,nj->n", states, np.triu(J, 1), states) + states @ b))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_what_rounding_leaves_between_both_halves_is_no_asymmetry(dtype, is_sparse, tmp_path, cli):
    J, path = products(dtype), tmp_path / "J.npz"
    if is_sparse:
        scipy.sparse.save_npz(path, scipy.sparse.csr_array(J))
    else:
        np.savez(path, J=J, b=np.zeros(6))
    mean = (J.astype(np.float64) + J.T) / 2
    assert log_z(cli, path) == (0, pytest.approx(log_z_of_pairs(mean, np.zeros(6)), abs=1e-12), 0.0)


@pytest.mark.parametrize(
    "J", [np.tril(products(np.float64)), products(np.float64) + np.diag(np.ones(5), 1) * 1e-4]
)
def test_advice_on_an_asymmetric_J_does_not_double_what_is_the_same(J):
    with pytest.raises(
        DataError, match=r"triu\(J \+ J.T, 1\) if .* added, numpy.triu\(J, 1\) if they should be equal"
    ):
        machine_from_couplings(J, np.zeros(6))


def test_both_halves_may_be_as_large_as_numbers_go():
    J = np.array([[0, 1.7e308], [1.7e308, 0]])
    assert machine_from_couplings(J, np.zeros(2)).W.item() == 1.7e308
    with pytest.raises(DataError, match="neither"):
        machine_from_couplings(J * np.array([[1], [-1]]), np.zeros(2))

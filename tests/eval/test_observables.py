"""Observables along beta: against enumeration that shares no code, Kaufman's torus, and over many seeds."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import scipy.sparse
from scipy import stats

from dvae_cli.main import main as dvae_eval
from dvae_core.errors import ConfigError, ResultError
from dvae_core.graphs import graph_edges
from dvae_eval import GeneralMachine, estimate_log_z, estimate_observables, load_result, machine_from_couplings
from dvae_eval.exact import moments_plan as moments_plan_module
from dvae_eval.exact.elimination import elimination
from dvae_eval.exact.elimination_moments import eliminated_moments
from dvae_eval.exact.enumeration_moments import EnumeratedMoments
from dvae_eval.exact.exchangeable_moments import ExchangeableMoments
from dvae_eval.exact.moments_plan import moments_plan
from dvae_eval.log_z import run as run_module
from dvae_eval.observables import estimate_observables as module
from dvae_eval.observables import tempered as tempered_module
from dvae_eval.observables.checks import check_energies
from dvae_eval.observables.jackknife import jackknife
from dvae_eval.sampling import tempering as tempering_module
from dvae_eval.test_machines.graphs import torus
from dvae_reports.figures.registry import draw
from tests.commands import status_of
from tests.oracles import curie_weiss, enumerate_states, kaufman, log_weights

RNG = np.random.default_rng(18)
NAMES = ("log_z", "energy", "specific_heat", "entropy", "magnetisation", "unit_means", "correlations")
SCALARS = NAMES[:5]
BETAS = (0.0, 0.4, 1.0, 2.5)


def truth(J, b, beta, values=(0, 1), constant=0.0):
    """Return all observables of p(x) ∝ exp(-β E), E = -(Σ_{i<j} J_ij x_i x_j + b'x + constant), state by state."""
    states = enumerate_states(len(b), values)
    energies = -log_weights(J, b, states) - constant
    top = (-beta * energies).max()
    log_z = top + math.log(math.fsum(np.exp(-beta * energies - top)))
    p = np.exp(-beta * energies - log_z)
    energy = float(p @ energies)
    means = sum(weight * x for weight, x in zip(p, states, strict=True))
    products = sum(weight * np.outer(x, x) for weight, x in zip(p, states, strict=True))
    bonds = [(i, j) for i in range(len(b)) for j in range(i + 1, len(b)) if J[i, j]]
    return {
        "log_z": log_z,
        "energy": energy,
        "specific_heat": beta**2 * float(p @ (energies - energy) ** 2),
        "entropy": float(-p @ (-beta * energies - log_z)),
        "magnetisation": float(means.mean()),
        "unit_means": means,
        "correlations": np.array([products[i, j] - means[i] * means[j] for i, j in bonds]),
        "bonds": bonds,
    }


def general(n, share, scale=0.8, rng=RNG):
    return np.triu(rng.normal(size=(n, n)) * (rng.random((n, n)) < share), 1) * scale, rng.normal(size=n) * 0.5


def bipartite(n_left, n_right, rng=RNG):
    """Return (W, b_left, b_right), and the same machine as (J, b)."""
    W, left, right = (rng.normal(size=shape) for shape in ((n_left, n_right), n_left, n_right))
    J = np.zeros((n_left + n_right,) * 2)
    J[:n_left, n_left:] = W
    return (W, left, right), (J, np.concatenate((left, right)))


def scattered_tree(n):
    """Return a tree whose sides are mixed up, so that the machine has another order than its arrays."""
    J = np.zeros((n, n))
    for child in range(1, n):
        J[int(RNG.integers(child)), child] = RNG.normal()
    order = RNG.permutation(n)
    J = (J + J.T)[np.ix_(order, order)]
    return np.triu(J, 1), RNG.normal(size=n)


def deviations(result, k, true):
    """Return the largest distance of every observable at the k-th β from the truth."""
    return {name: np.abs(np.array(result.along_beta[name][k]) - true[name]).max(initial=0) for name in NAMES}


# --- exactly ----------------------------------------------------------------------------------------------------

GLASS = general(20, 1.0, 6.0)  # whose basins 20 sweeps do not weigh
MACHINES = {
    "dense": general(9, 1.0),
    "sparse, with units alone": general(11, 0.15),
    "tree": scattered_tree(11),
    "no bond": (np.zeros((5, 5)), RNG.normal(size=5)),
}


@pytest.mark.parametrize("units", ["01", "pm1"])
@pytest.mark.parametrize("name", MACHINES)
def test_exact_observables_of_general_machines(name, units):
    J, b = MACHINES[name]
    result = estimate_observables((J, b), units=units, betas=BETAS, constant=0.7)
    assert result.method == result.verdict == "exact"
    for k, beta in enumerate(result.along_beta["beta"]):
        true = truth(J, b, beta, (-1, 1) if units == "pm1" else (0, 1), constant=0.7)
        assert max(deviations(result, k, true).values()) < 1e-10
        assert result.bonds == [list(bond) for bond in true["bonds"]]
    assert not any(np.any(result.along_beta[f"{name}_std_err"]) for name in NAMES)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4)])
@pytest.mark.parametrize("units", ["01", "pm1"])
def test_exact_observables_of_rbms(shape, units):
    arrays, (J, b) = bipartite(*shape)
    result = estimate_observables(arrays, units=units, betas=BETAS)
    for k, beta in enumerate(BETAS):
        true = truth(J, b, beta, (-1, 1) if units == "pm1" else (0, 1))
        assert max(deviations(result, k, true).values()) < 1e-10
    assert abs(result.log_z - estimate_log_z(arrays, units=units).log_z) < 1e-10


def test_energies_are_annealers_with_the_other_sign_and_scale():
    J, h = general(8, 0.5)
    result = estimate_observables((J, h), units="pm1", sign=-1, beta=0.3)
    true = truth(-0.3 * J, -0.3 * h, 1.0, (-1, 1))
    assert max(deviations(result, 0, true).values()) < 1e-11


def alike(name):
    """Return (J, b) of 11 units some of which act alike."""
    if name == "Curie-Weiss":
        return np.triu(np.full((11, 11), 0.3), 1), np.full(11, -0.8)
    if name == "Mattis with two biases":
        pattern = np.array([1, -1, 1, 1, -1, 1, -1, -1, 1, 1, -1])
        return np.triu(0.4 * np.outer(pattern, pattern), 1), np.where(np.arange(11) < 6, 0.3, -0.5)
    J = np.zeros((11, 11))  # three kinds on the left of an RBM, of 1, 3 and 4 units
    J[:8, 8:] = RNG.normal(size=(3, 3))[[0, 1, 1, 1, 2, 2, 2, 2]]
    return J, np.concatenate(([0.1], np.full(3, 0.2), np.full(4, -0.3), RNG.normal(size=3)))


@pytest.mark.parametrize("name", ["Curie-Weiss", "Mattis with two biases", "RBM of three kinds"])
@pytest.mark.parametrize("beta", BETAS)
def test_units_that_act_alike(name, beta):
    J, b = alike(name)
    bonds = np.argwhere(J)
    kept = np.arange(8 if name.startswith("RBM") else 11)
    plan = ExchangeableMoments.of(bonds, J[tuple(bonds.T)], b, kept)
    assert plan.n_states <= 300
    found, true = plan.moments(beta), truth(J, b, beta)
    assert abs(found.log_z - true["log_z"]) < 1e-10
    assert abs(found.mean + true["energy"]) < 1e-10
    assert abs(beta**2 * found.variance - true["specific_heat"]) < 1e-9
    assert np.abs(found.units - true["unit_means"]).max() < 1e-12
    i, j = bonds.T
    assert np.abs(found.pairs - found.units[i] * found.units[j] - true["correlations"]).max() < 1e-12
    assert ExchangeableMoments.of(*(bonds, RNG.normal(size=len(bonds)), b, kept)) is None


def test_the_spins_of_curie_and_weiss():
    """All pairs coupled by 1/n: the sum over the number of spins that are up is the closed form."""
    n, K = 300, 1.2
    result = estimate_observables((np.triu(np.full((n, n), K / n), 1), np.zeros(n)), units="pm1", betas=(0.5, 1))
    assert result.verdict == "exact"
    m, log_w = curie_weiss(n, K)
    energy, p = -K / n * (m**2 - n) / 2, np.exp(log_w - np.logaddexp.reduce(log_w))
    assert abs(result.energy - p @ energy) < 1e-8
    assert abs(result.specific_heat - (p @ energy**2 - (p @ energy) ** 2)) < 1e-7
    assert abs(result.correlations[0] - (p @ m**2 - n) / (n * (n - 1))) < 1e-10
    assert abs(result.log_z - np.logaddexp.reduce(log_w)) < 1e-9


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("max_bytes", [None, 8 * 40])
def test_elimination_against_enumeration(beta, max_bytes):
    """A 4 x 5 grid with fields: 20 units; with little memory some of them are held fixed."""
    bonds = np.array(graph_edges("grid-4x5", 20))
    J, b = RNG.normal(size=len(bonds)), RNG.normal(size=20)
    kept = np.array([unit for unit in range(20) if (unit // 5 + unit % 5) % 2])
    plan = elimination(bonds, J, b, max_bytes=max_bytes)
    assert bool(plan.fixed) == (max_bytes is not None)
    one, other = eliminated_moments(plan, beta), EnumeratedMoments.of(bonds, J, b, kept).moments(beta)
    for field in dataclasses.fields(one):
        assert np.abs(getattr(one, field.name) - getattr(other, field.name)).max() < 1e-9


def test_derivatives_and_marginals_are_two_ways_to_one_energy():
    """A 12 x 12 glass with fields, which nobody can enumerate."""
    bonds = np.array(graph_edges("grid-12x12", 144))
    J, b = RNG.choice([-1.0, 1.0], len(bonds)), RNG.normal(size=144) * 0.3
    machine = machine_from_couplings(scipy.sparse.csr_array((J, bonds.T), (144, 144)), b)
    moments, reduced = moments_plan(machine).moments(1.3), machine.reduced()
    assert abs(moments.mean - reduced.bonds()[1] @ moments.pairs - reduced.biases @ moments.units) < 1e-9
    assert moments_plan(machine).route == "elimination"


@pytest.mark.parametrize("K", [0.2, 0.4406868, 0.7])
def test_the_finite_torus_of_kaufman(K):
    machine, _ = torus(6, 6, K)
    assert moments_plan(machine).route == "elimination"
    result = estimate_observables(machine, constant=72 * K, description={"units": "pm1"})
    log_z, energy, heat = kaufman(6, 6, K)
    assert np.allclose((result.log_z, result.energy, result.specific_heat), (log_z, energy, heat), rtol=1e-11)
    assert abs(result.magnetisation) < 1e-12
    # All bonds of a torus are alike.
    assert np.allclose(result.correlations, -energy / K / 72, atol=1e-11)


def test_entropies_lie_between_none_and_that_of_all_states():
    bonds = np.array(graph_edges("grid-8x8", 64))
    J = scipy.sparse.csr_array((RNG.choice([-1.0, 1.0], len(bonds)), bonds.T), (64, 64))
    result = estimate_observables((J, np.zeros(64)), units="pm1", betas="0:4:9")
    along = {name: np.array(values) for name, values in result.along_beta.items() if name in (*SCALARS, "beta")}
    assert np.allclose(along["entropy"], along["log_z"] + along["beta"] * along["energy"], atol=1e-9)
    assert abs(along["entropy"][0] - 64 * math.log(2)) < 1e-10
    assert (np.diff(along["entropy"]) < 0).all()
    assert along["entropy"][-1] > math.log(2) - 1e-9  # two ground states at the least
    # d log Z / dβ = -E, by differences here: the derivative is not made of them.
    step = 1e-4
    near = [estimate_log_z((J, np.zeros(64)), units="pm1", beta=1 + x).log_z for x in (-step, step)]
    assert abs((near[1] - near[0]) / (2 * step) + result.energy) < 1e-5


def test_moments_do_not_hang_on_threads():
    machine, _ = torus(5, 5, 0.4)
    one, two = (moments_plan(machine).moments(1.0, threads=n) for n in (1, 2))
    assert one.mean == two.mean
    assert np.array_equal(one.pairs, two.pairs)
    arrays, _ = bipartite(12, 9)
    one, two = (estimate_observables(arrays, threads=n) for n in (1, 2))
    assert one.along_beta == two.along_beta


def test_compiled_and_plain_enumeration_agree():
    """They share no line: the plain one is of NumPy, for few states."""
    bonds = np.array(list(itertools.product(range(10), range(10, 22))))
    machine = EnumeratedMoments.of(bonds, 3 * RNG.normal(size=120), RNG.normal(size=22), np.arange(10))
    for beta in BETAS:
        one, other = (machine._moments(sums(0, 1 << 10, beta)) for sums in (machine._sums, machine._compiled_sums))
        for field in dataclasses.fields(one):
            assert np.abs(getattr(one, field.name) - getattr(other, field.name)).max() < 1e-10
    in_parts = machine._compiled_sums(0, 700, 1.0).plus(machine._compiled_sums(700, 1 << 10, 1.0))
    assert abs(machine._moments(in_parts).variance - machine.moments(1.0).variance) < 1e-10


def test_what_takes_too_long_is_tempered_or_refused(monkeypatch):
    monkeypatch.setattr(module, "AUTO_SECONDS", 0.0)
    monkeypatch.setattr(module, "EXACT_SECONDS", 0.0)
    arrays = bipartite(6, 5)[0]
    assert estimate_observables(arrays, n_sweeps=100).method == "pt"
    with pytest.raises(ConfigError, match="--method exact"):
        estimate_observables(arrays, method="exact")


def test_a_part_that_cannot_be_had_exactly_needs_no_time():
    n = 400
    J = scipy.sparse.random_array((n, n), density=0.05, rng=np.random.default_rng(0), format="csr")
    machine = machine_from_couplings(scipy.sparse.triu(J, 1), np.zeros(n))
    assert isinstance(machine, GeneralMachine)
    assert math.isinf(moments_plan(machine, 60.0).seconds)


# --- by tempering -----------------------------------------------------------------------------------------------

# Of 25 seeds, t = (estimate - exact) / error has 31 degrees of freedom and a mean square of 31/29 on average; its
# limits are those of chi squared: a sound estimator fails one of the ten tests with probability 1e-4 at the most.
SEEDS, PERIL = 25, 1e-4 / 20
HIGH, LOW = (float(stats.chi2.ppf(q, SEEDS) / SEEDS * 31 / 29) for q in (1 - PERIL, PERIL))


@pytest.fixture(scope="module")
def many():
    """Return results of many seeds, and the truth, of a general machine of spins and of an RBM."""
    rng = np.random.default_rng(5)
    J, h = general(9, 0.6, 0.5, rng)
    arrays, (W, b) = bipartite(5, 6, rng)
    how = {"method": "pt", "betas": (0.5, 1.0, 1.5), "n_sweeps": 240}
    found = {}
    for name, model, units, true in (("spins", (J, h), "pm1", (J, h)), ("rbm", arrays, "01", (W, b))):
        results = [
            estimate_observables(model, units=units, seed=seed, constant=0.5, **how) for seed in range(SEEDS)
        ]
        values = (-1, 1) if units == "pm1" else (0, 1)
        found[name] = results, [truth(*true, beta, values, constant=0.5) for beta in (0.5, 1.0, 1.5)]
    return found


def mean_squares(results, true, k, change=lambda name, value, error: (value, error)):
    """Return the mean square of t over the seeds for every scalar at the k-th β."""
    found = {}
    for name in SCALARS:
        pairs = [change(name, r.along_beta[name][k], r.along_beta[f"{name}_std_err"][k]) for r in results]
        found[name] = float(np.mean([((value - true[name]) / error) ** 2 for value, error in pairs]))
    return found


@pytest.mark.parametrize("kind", ["spins", "rbm"])
def test_errors_of_tempering_hold_over_many_seeds(many, kind):
    results, true = many[kind]
    for name, square in mean_squares(results, true[1], 1).items():
        assert LOW < square < HIGH, name
    for k in (0, 2):  # the other β of the same runs: no test of their own, and a wider limit
        assert max(mean_squares(results, true[k], k).values()) < 1.5 * HIGH


@pytest.mark.parametrize("kind", ["spins", "rbm"])
def test_means_of_units_and_correlations_hold_over_many_seeds(many, kind):
    """Of 25 seeds the mean of t has an error of 1/5: |mean| < 1 fails with 6e-7 for a unit or a bond."""
    results, true = many[kind]
    for name in ("unit_means", "correlations"):
        t = np.array(
            [(np.array(getattr(r, name)) - true[1][name]) / getattr(r, f"{name}_std_err") for r in results]
        )
        assert (np.abs(t.mean(0)) < 1).all()
        assert 0.6 < (t**2).mean() < 1.6


BROKEN = {
    "energy without the constant": lambda name, value, error: (value + 0.5 * (name == "energy"), error),
    "half the error": lambda name, value, error: (value, error / 2),
    "twice the error": lambda name, value, error: (value, error * 2),
    "specific heat without the variance given v": lambda name, v, e: (
        v * (0.8 if name == "specific_heat" else 1),
        e,
    ),
    "entropy of the wrong sign": lambda name, value, error: (-value if name == "entropy" else value, error),
}


def test_what_never_changes_is_not_known_without_error():
    """A field of 30 holds a unit at 1 but for 1e-13: no state of the run has it at 0, and none may be the last."""
    W, left, right = bipartite(4, 5, np.random.default_rng(2))[0]
    left[2] = 30
    result = estimate_observables((W, left, right), method="pt", n_sweeps=200)
    assert result.unit_means[2] == 1
    assert min(result.unit_means_std_err) > 0
    assert min(result.correlations_std_err) > 0


@pytest.mark.parametrize("name", BROKEN)
def test_broken_estimators_are_seen(many, name):
    squares = [mean_squares(*many[kind][:1], many[kind][1][1], 1, BROKEN[name]) for kind in many]
    assert not all(LOW < square < HIGH for found in squares for square in found.values())


def test_sound_runs_are_trusted(many):
    """Three checks on differences fail a sound run with 1e-4 each; the others do not hang on chance here."""
    results = [result for kind in many for result in many[kind][0]]
    assert sum(result.trustworthy for result in results) >= len(results) - 1
    assert {result.verdict for result in results if result.trustworthy} <= {"checked", "loose"}


def test_units_alone_and_order_survive_tempering():
    """Units without a bond on either side, which change the smaller side: values stay with their units."""
    W, left, right = RNG.normal(size=(6, 5)), RNG.normal(size=6) * 2, RNG.normal(size=5) * 2
    W[[1, 4]] = W[:, 3] = 0
    exact, found = (
        estimate_observables((W, left, right), method=method, n_sweeps=n, betas=(0.7, 1))
        for method, n in (("exact", 0), ("pt", 400))
    )
    J, b = scattered_tree(10)
    for one, other in ((exact, found), *[(estimate_observables((J, b), units="pm1"), sampled_tree(J, b))]):
        assert other.bonds == one.bonds
        for name in NAMES:
            error = np.maximum(getattr(other, f"{name}_std_err"), 1e-9)
            # Some 60 numbers with 31 degrees of freedom: 6 errors are exceeded with less than 1e-4.
            assert (np.abs(np.array(getattr(other, name)) - getattr(one, name)) < 6 * error).all()


def sampled_tree(J, b):
    return estimate_observables((J, b), units="pm1", method="pt", n_sweeps=400, seed=1)


def test_results_do_not_hang_on_threads_or_interruption(tmp_path, monkeypatch):
    J, h = general(8, 0.6)
    how = {"units": "pm1", "method": "pt", "betas": (0.5, 1.0, 2.0), "n_sweeps": 600, "seed": 3}
    whole = estimate_observables((J, h), threads=1, **how)
    monkeypatch.setattr(run_module, "SAVE_SECONDS", -1.0)
    monkeypatch.setattr(run_module, "REPORT_SECONDS", -1.0)

    def stop(phase, done, total, value, error):
        if phase == "tempering" and done > 300:
            raise KeyboardInterrupt

    partial = tmp_path / "partial.npz"
    with pytest.raises(KeyboardInterrupt):
        estimate_observables((J, h), threads=2, partial=partial, progress=stop, **how)
    assert partial.exists()
    resumed = estimate_observables((J, h), threads=2, partial=partial, **how)
    assert resumed.along_beta == whole.along_beta
    assert resumed.checks == whole.checks


def test_the_engine_of_torch_averages_alike(monkeypatch):
    monkeypatch.setattr(tempering_module, "has_numba", lambda: False)
    arrays = bipartite(5, 4, np.random.default_rng(4))[0]
    how = {"betas": (0.5, 1.0), "seed": 2}
    found, exact = (
        estimate_observables(arrays, method="pt", n_sweeps=200, **how),
        estimate_observables(arrays, **how),
    )
    for name in NAMES:  # 35 numbers with 31 degrees of freedom: 6 errors are exceeded with less than 1e-4
        error = np.array(getattr(found, f"{name}_std_err"))
        assert (np.abs(np.array(getattr(found, name)) - getattr(exact, name)) < 6 * error).all()


def test_a_time_limit_leaves_a_result():
    result = estimate_observables(bipartite(40, 40)[0], method="pt", time_limit=2.0, n_replicates=8)
    assert all(error > 0 for error in result.along_beta["energy_std_err"])


def test_short_runs_are_not_trusted():
    J, b = GLASS
    result = estimate_observables((J, b), method="pt", n_sweeps=20, units="pm1")
    assert not result.trustworthy
    assert result.reasons


def test_energies_that_hang_on_start_or_time_are_seen():
    """32 replicates, 20 blocks, 3 β: sound ones fail either check with 1e-4."""
    energies = RNG.normal(size=(20, 32, 3))
    assert all(check.passed for check in check_energies(energies))
    by_start = energies + np.where(np.arange(32) < 16, 0.0, 0.5)[None, :, None]
    in_time = energies + np.linspace(0, 1, 20)[:, None, None]
    assert [check.passed for check in check_energies(by_start)] == [True, False]
    assert [check.passed for check in check_energies(in_time)] == [False, True]


def test_few_replicates_and_what_does_not_fit_into_memory(monkeypatch):
    assert all(check.passed for check in check_energies(RNG.normal(size=(4, 2, 1))))
    result = estimate_observables(general(6, 0.8), method="pt", n_sweeps=60, n_replicates=4)
    assert result.energy_std_err > 0
    monkeypatch.setattr(tempered_module, "averages_bytes", lambda *_: 1 << 50)
    with pytest.raises(ConfigError, match="no-correlations"):
        estimate_observables(general(6, 0.8), method="pt", n_sweeps=60)


def test_the_jackknife_removes_the_bias_of_a_variance():
    """The mean over 4000 draws has an error of 0.01; a plain variance of 4 values is 0.25 too small."""
    values = RNG.normal(size=(4, 4000))
    found, error = jackknife(lambda x, square: square - x**2, values, values**2)
    assert abs(found.mean() - 1) < 0.06
    assert abs((values**2).mean(0) - values.mean(0) ** 2 - 0.75).mean() > 0.06
    assert 0.5 < (error**2).mean() / found.var() < 2


# --- results, command line, figure ------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "spins.npz"
    J, b = MACHINES["dense"]
    np.savez(path, J=J, b=b)
    return path


def test_the_command_prints_and_saves(file, tmp_path, capsys):
    out, table = tmp_path / "o.json", tmp_path / "o.csv"
    args = ("observables", file, "--units", "pm1", "--betas", "0.5:1.5:3", "-o", out, "--csv", table)
    assert status_of(dvae_eval, *args) == 0
    text = capsys.readouterr()
    assert "<E> = " in text.out
    assert "β = 0.5" in text.err
    result, (J, b) = load_result(out), MACHINES["dense"]
    assert max(deviations(result, 1, truth(J, b, 1.0, (-1, 1))).values()) < 1e-10
    assert result.along_beta["beta"] == [0.5, 1.0, 1.5]
    assert result.model["units"] == "pm1"
    rows = np.genfromtxt(table, delimiter=",", names=True)
    assert np.allclose(rows["energy"], result.along_beta["energy"])
    assert status_of(dvae_eval, *args) == 2  # both are there
    assert draw("observables", [out]).axes[0].get_ylabel().startswith("energy")
    assert draw("observables", [out, out, out]).axes
    with pytest.raises(ResultError, match="too many"):
        draw("observables", [out] * 5)


def test_a_table_goes_to_a_file_and_no_unit_has_no_magnetisation(file, tmp_path, capsys):
    assert status_of(dvae_eval, "observables", file, "--csv", "-") == 2
    assert "--csv" in capsys.readouterr().err
    model, evidence, out = (tmp_path / name for name in ("m.uai", "m.evid", "o.json"))
    model.write_text("MARKOV 1 2 1 1 0 2 3 4")
    evidence.write_text("1 0 1")
    assert status_of(dvae_eval, "observables", model, "--evidence", evidence, "-q", "-o", out) == 0
    result = load_result(out)
    assert abs(result.log_z - math.log(4)) < 1e-12
    assert abs(result.energy + math.log(4)) < 1e-12
    assert result.magnetisation is None
    assert "not finite" in str(result)


def test_json_and_what_was_assumed(file, capsys):
    assert (
        status_of(dvae_eval, "observables", file, "--json", "-q", "--method", "pt", "--sweeps", 400, "--betas", 1)
        == 0
    )
    said = json.loads(capsys.readouterr().out)
    keys = {name for scalar in SCALARS for name in (scalar, f"{scalar}_std_err")}
    assert keys | {"unit_means", "correlations", "bonds", "trustworthy", "reasons", "verdict"} <= said.keys()
    assert status_of(dvae_eval, "observables", file, "-q", "--no-correlations") == 0
    assert "with units 0 and 1; --units pm1 for spins" in capsys.readouterr().out


def test_untrustworthy_observables_say_so(tmp_path, capsys):
    file = tmp_path / "glass.npz"
    np.savez(file, J=GLASS[0], b=GLASS[1])
    assert status_of(dvae_eval, "observables", file, "-q", "--method", "pt", "--sweeps", 20) == 3
    assert "NOT TO BE TRUSTED" in capsys.readouterr().out


@pytest.mark.parametrize("betas", ["", "x", "1:2", "0:1:1", "0:1:9999999", "-1", "nan", "1e9", "0:1:2:3"])
def test_betas_that_are_none(file, betas, capsys):
    status = status_of(dvae_eval, "observables", file, "--betas", betas)
    if betas == "":
        assert status == 0  # none but 1
        return
    assert status == 2
    assert "--betas" in capsys.readouterr().err


@pytest.mark.parametrize("betas", [(0.5, "x"), object(), [None]])
def test_betas_of_the_library_that_are_none(betas):
    with pytest.raises(ConfigError, match="betas"):
        estimate_observables(MACHINES["dense"], betas=betas)
    with pytest.raises(ConfigError, match="no such setting"):
        estimate_observables(MACHINES["dense"], precision=1)


def test_results_take_the_place_of_worse_ones(file):
    exact = estimate_observables(MACHINES["dense"])
    sampled = estimate_observables(MACHINES["dense"], method="pt", n_sweeps=400)
    others = estimate_observables(MACHINES["dense"], betas=2)
    assert exact.supersedes(sampled)
    assert not sampled.supersedes(exact)
    assert not exact.measures_as(others)


def test_dimod_files_keep_their_energies(tmp_path):
    """E = offset + Σ b s + Σ J s s is the file's own, offset included."""
    lines = ["# vartype=SPIN", "0 0 0.5", "0 1 -1.0", "1 2 0.75"]
    (tmp_path / "m.coo").write_text("\n".join(lines) + "\n")
    out = tmp_path / "o.json"
    assert status_of(dvae_eval, "observables", tmp_path / "m.coo", "-q", "-o", out) == 0
    J = np.zeros((3, 3))
    J[0, 1], J[1, 2] = 1.0, -0.75
    assert max(deviations(load_result(out), 0, truth(J, np.array([-0.5, 0, 0]), 1.0, (-1, 1))).values()) < 1e-12


def test_plans_name_their_routes():
    assert "independent units" in moments_plan(machine_from_couplings(*MACHINES["sparse, with units alone"])).route
    assert moments_plan_module.QUICK > 0

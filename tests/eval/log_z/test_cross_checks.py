"""MBAR and thermodynamic integration where the answer is known; and pymbar's traps."""

import logging
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy.integrate import cumulative_trapezoid

from dvae_core.errors import ConfigError, DataError, NumericalError, OverlapError
from dvae_eval.exact.plan import exact_log_z
from dvae_eval.log_z import post_run
from dvae_eval.log_z.post_run import reduced_potentials, thermodynamic_integration
from dvae_eval.log_z.with_pymbar import bar, mbar, quiet_pymbar
from dvae_eval.machine import BipartiteMachine, machine_from_couplings
from dvae_eval.sampling.reference import Reference
from tests.oracles import enumerate_states
from tests.oracles.paths import joint_on_path


def harmonic(centres, widths, n, seed=0):
    """Return u_kn and N_k of Gaussians: f_k = -log σ_k up to a constant (harmonic oscillators)."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(c, w, n) for c, w in zip(centres, widths, strict=True)])
    u = [((x - c) / w) ** 2 / 2 for c, w in zip(centres, widths, strict=True)]
    return np.array(u), np.full(len(centres), n)


CENTRES, WIDTHS = (0.0, 1.0, 2.0, 2.5), (1.0, 0.8, 1.2, 0.5)
KNOWN = -np.log(np.array(WIDTHS) / WIDTHS[0])


# --- MBAR ---------------------------------------------------------------------------------------------------


def test_mbar_finds_known_normalisers():
    """|z| < 4.5 for three of them: false alarm 2e-5."""
    estimate = mbar(*harmonic(CENTRES, WIDTHS, 2000))
    assert estimate.f_k[0] == 0
    assert (np.abs(estimate.f_k - KNOWN)[1:] < 4.5 * estimate.std_err[1:]).all()
    assert (estimate.std_err[1:] < 0.1).all()
    assert np.allclose(estimate.overlap.sum(1), 1)


def test_mbars_errors_are_borne_out_by_repeats():
    """z-scores of 100 repeats: their sd is outside [0.75, 1.25] for 4 in 10 000 at most."""
    scores = []
    for seed in range(100):
        estimate = mbar(*harmonic(CENTRES, WIDTHS, 100, seed))
        scores.append((estimate.f_k[-1] - KNOWN[-1]) / estimate.std_err[-1])
    assert 0.75 < np.std(scores) < 1.25
    assert abs(np.mean(scores)) < 0.4


def test_mbar_of_two_states_is_bar():
    u_kn, N_k = harmonic(CENTRES[:2], WIDTHS[:2], 500)
    work = u_kn[1] - u_kn[0]
    assert abs(mbar(u_kn, N_k).f_k[1] - bar(work[:500], -work[500:])) < 1e-6


def test_shifts_of_the_potentials_shift_the_answer():
    """Far from zero, where a solver that starts at zero would have to go."""
    u_kn, N_k = harmonic(CENTRES, WIDTHS, 300)
    shifts = np.array([0, 700.0, -2000, 5000])
    assert np.abs(mbar(u_kn + shifts[:, None], N_k).f_k - mbar(u_kn, N_k).f_k - shifts).max() < 1e-5


def test_many_samples_are_thinned_evenly():
    u_kn, _ = harmonic(CENTRES, WIDTHS, 1000)
    kept = np.concatenate([k * 1000 + np.linspace(0, 999, 50).round().astype(int) for k in range(4)])
    expected = mbar(u_kn[:, kept], np.full(4, 50))
    assert (mbar(u_kn, np.full(4, 1000), max_per_state=50).f_k == expected.f_k).all()


def test_states_with_different_numbers_of_samples():
    u_kn, _ = harmonic(CENTRES, WIDTHS, 1000)
    kept = np.r_[0:1000, 1000:1200, 2000:2900, 3000:3010]
    estimate = mbar(u_kn[:, kept], [1000, 200, 900, 10], max_per_state=500)
    assert (np.abs(estimate.f_k - KNOWN)[1:] < 4.5 * estimate.std_err[1:]).all()


@pytest.mark.parametrize("poison", [np.inf, -np.inf, np.nan])
def test_one_bad_potential_is_refused(poison):
    """pymbar takes inf for an answer, and prints LAPACK's complaint at nan."""
    u_kn, N_k = harmonic(CENTRES, WIDTHS, 100)
    u_kn[1, 7] = poison
    with pytest.raises(NumericalError, match="finite"):
        mbar(u_kn, N_k)


@pytest.mark.parametrize("centres", [(0, 12, 24), (0, 50, 100), (0, 1, 100), (0, 100, 1), (0, 300)])
def test_states_without_overlap_are_refused(centres):
    """pymbar answers 0 ± 0.016 for the third state at 0, 1 and 100, and 0 ± nan or ± 1e6 at 0, 12 and 24."""
    with pytest.raises(OverlapError):
        mbar(*harmonic(centres, np.ones(len(centres)), 500))


def test_samples_that_do_not_fit_are_refused():
    u_kn, N_k = harmonic(CENTRES, WIDTHS, 10)
    bad_counts = ((u_kn, N_k[:3]), (u_kn, [20, 20, 0, 0]), (u_kn, [20, 20, -10, 10]))
    for u, n in (*bad_counts, (u_kn[:, 1:], N_k), (u_kn[:1, :10], N_k[:1]), (u_kn[0], N_k)):
        with pytest.raises(ConfigError, match="u_kn has shape"):
            mbar(u, n)


def test_a_solver_that_fails_is_not_believed(monkeypatch):
    """A wrong solution has weights that do not add up; an exception of the solver is ours to name."""
    with quiet_pymbar():
        import pymbar.mbar

    u_kn, N_k = harmonic(CENTRES, WIDTHS, 100)
    solvers, wrong = pymbar.mbar.mbar_solvers, np.array([0, 1, 0, 0])
    monkeypatch.setattr(solvers, "solve_mbar_for_all_states", lambda u, n, f, *_: f + wrong)
    with pytest.raises(NumericalError, match=r"cannot be solved .*W_nk"):
        mbar(u_kn, N_k)

    def fail(*_):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(solvers, "solve_mbar_for_all_states", fail)
    with pytest.raises(NumericalError, match="SVD did not converge"):
        mbar(u_kn, N_k)


def test_pymbar_leaves_no_trace(capfd):
    """It reseeds the global generator, prints and warns, if it is let."""
    before, state, level = np.geterr(), np.random.get_state()[1].copy(), logging.getLogger("pymbar").level  # noqa: NPY002
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mbar(*harmonic(CENTRES, WIDTHS, 100))
        with pytest.raises(OverlapError):
            mbar(*harmonic((0, 12, 24), (1, 1, 1), 500))
    assert np.geterr() == before
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert logging.getLogger("pymbar").level == level
    assert capfd.readouterr() == ("", "")


TRACES = """
import sys, numpy as np
from {module} import {function}
assert "pymbar" not in sys.modules, "imported before it is needed"
before = np.seterr(over="raise", under="warn", divide="ignore", invalid="raise")
before = np.geterr()
rng = np.random.default_rng(0)
x = rng.normal(size=(2, 100))
{call}
assert "pymbar" in sys.modules
assert np.geterr() == before, np.geterr()
"""


@pytest.mark.parametrize(
    ("module", "function", "call"),
    [
        ("dvae_eval.log_z.with_pymbar", "bar", "bar(x[0] + 0.5, x[1] + 0.5)"),
        ("dvae_eval.log_z.with_pymbar", "mbar", "mbar(np.array([x.ravel() ** 2 / 2] * 2), [100, 100])"),
    ],
)
def test_the_first_import_of_pymbar_is_silent_and_late(module, function, call):
    """In a process of its own: banners come with the import, and an error state that is not the default stays."""
    code = TRACES.format(module=module, function=function, call=call)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- potentials and derivatives -----------------------------------------------------------------------------


def machines():
    rng = np.random.default_rng(0)
    yield BipartiteMachine.from_arrays(rng.normal(size=(3, 6)) * 2, rng.normal(size=3), rng.normal(size=6))
    yield machine_from_couplings(np.triu(rng.normal(size=(5, 5)), 1), rng.normal(size=5))


def bases(machine):
    rng, r = np.random.default_rng(1), machine.reduced()
    return None, Reference(rng.normal(size=len(r.b)), rng.normal(size=len(r.c)))


@pytest.mark.parametrize("blocks", [1, 1 << 18])
def test_reduced_potentials_against_sums_over_all_states(blocks, monkeypatch):
    monkeypatch.setattr(post_run, "BLOCK_VALUES", blocks)
    betas = [0.0, 0.4, 1.0]
    for machine in machines():
        v = enumerate_states(len(machine.reduced().b))
        for reference in bases(machine):
            expected = [-np.logaddexp.reduce(joint_on_path(machine, v, beta, reference), axis=1) for beta in betas]
            assert np.allclose(
                reduced_potentials(machine, betas, v.astype(np.uint8), reference), expected, atol=1e-12
            )


def test_states_that_are_not_binary_are_refused():
    machine = next(machines())
    with pytest.raises(DataError, match="kept units"):
        reduced_potentials(machine, [0, 1], np.zeros((4, 6)))
    with pytest.raises(DataError, match="other than 0 and 1"):
        reduced_potentials(machine, [0, 1], np.full((4, 3), 2))


# --- thermodynamic integration ------------------------------------------------------------------------------


def planted(strength=0.3, shape=(10, 40), seed=4):
    J = strength * np.outer(*(np.random.default_rng(seed + i).choice([-1, 1], n) for i, n in enumerate(shape)))
    return BipartiteMachine.from_arrays(4 * J, -2 * J.sum(1), -2 * J.sum(0))


def strong(shape=(10, 40), seed=5):
    rng = np.random.default_rng(seed)
    W = rng.normal(size=shape) * 1.5
    return BipartiteMachine.from_arrays(W, rng.normal(size=shape[0]), rng.normal(size=shape[1]))


class Exact:
    """All states of a machine on a schedule: potentials, probabilities, and what x = u_k - u_{k+1} does there."""

    def __init__(self, machine, betas):
        self.truth = exact_log_z(machine) - machine.n_units * math.log(2)
        u = reduced_potentials(machine, betas, enumerate_states(len(machine.reduced().b)))
        self.p = np.exp(-u - np.logaddexp.reduce(-u, axis=1)[:, None])
        self.x = u[:-1] - u[1:]

    def moments(self, p):
        mean = (p * self.x).sum(1)
        centred = self.x - mean[:, None]
        return mean, (p * centred**2).sum(1), (p * centred**3).sum(1)

    def works(self, n_samples, n_replicates, seed=0):
        """Return works of independent samples."""
        rng = np.random.default_rng(seed)
        draws = [rng.choice(p.size, (n_samples, n_replicates), p=p / p.sum()) for p in self.p]
        forward = [-x[at] for x, at in zip(self.x, draws[:-1], strict=True)]
        return np.stack(forward, -1), np.stack([x[at] for x, at in zip(self.x, draws[1:], strict=True)], -1)


def spaced(machine, sd):
    """Return rungs that are `sd` standard deviations of the joint energy apart, (d² log Z / dβ²)^(1/2) dβ."""
    fine = np.linspace(0, 1, 401)
    u = reduced_potentials(machine, fine, enumerate_states(len(machine.reduced().b)))
    spread = np.sqrt(np.gradient(np.gradient(np.logaddexp.reduce(-u, axis=1), fine), fine))
    length = cumulative_trapezoid(spread, fine, initial=0)
    betas = np.interp(np.linspace(0, length[-1], math.ceil(length[-1] / sd) + 1), length, fine)
    betas[-1] = 1
    return betas


@pytest.mark.parametrize("make", [planted, strong])
@pytest.mark.parametrize("sd", [0.7, 1.0])
def test_cumulants_beat_the_trapezoid(make, sd):
    """Exact moments, so that only the rule is judged; the oracle is enumeration.

    Rungs one standard deviation of the energy apart are those of a schedule that exchanges joint states at 0.5.
    """
    exact = Exact(make(), spaced(make(), sd))
    start, end = exact.moments(exact.p[:-1]), exact.moments(exact.p[1:])
    trapezoid = ((start[0] + end[0]) / 2).sum() - exact.truth
    cubic, quintic = (rule.sum() - exact.truth for rule in post_run._hermite(start, end))
    assert abs(trapezoid) > 0.03
    assert abs(cubic) < 0.15 * abs(trapezoid)
    assert abs(quintic) < 0.05 * abs(cubic)


def test_the_rules_are_exact_for_polynomials():
    """Of degree 5 and 3, and of no higher degree."""
    for degree in range(8):
        c = np.polynomial.Polynomial.basis(degree)
        ends = [tuple(np.array([c.deriv(k)(t)]) for k in range(3)) for t in (0.0, 1.0)]
        cubic, quintic = (float(rule[0]) for rule in post_run._hermite(*ends))
        assert (abs(cubic - 1 / (degree + 1)) < 1e-12) == (degree <= 3)
        assert (abs(quintic - 1 / (degree + 1)) < 1e-12) == (degree <= 5)


@pytest.mark.parametrize("make", [planted, strong])
def test_integration_of_samples(make):
    """Within 6 standard errors (15 degrees of freedom: 2.4e-5 by chance) and the quadrature error."""
    exact = Exact(make(), spaced(make(), 1.0))
    forward, reverse = exact.works(4000, 16)
    found = thermodynamic_integration(forward, reverse)
    assert abs(found.value - exact.truth) < 6 * found.std_err + found.quadrature_error
    assert found.std_err < 0.03
    assert found.quadrature_error < 0.03
    assert abs(found.repeats.mean() - found.value) < 1e-12
    trapezoid = (reverse - forward).mean((0, 1)).sum() / 2
    assert abs(trapezoid - exact.truth) > 6 * found.std_err + found.quadrature_error


def test_integration_errors_are_borne_out_by_repeats():
    """z-scores of 100 runs with 16 replicates each: their sd is outside [0.8, 1.35] for 1 in 1000 at most."""
    exact = Exact(strong(), spaced(strong(), 0.5))
    runs = [thermodynamic_integration(*exact.works(20, 16, seed)) for seed in range(100)]
    scores = [(run.value - exact.truth) / run.std_err for run in runs]
    assert 0.8 < np.std(scores) < 1.35
    assert abs(np.mean(scores)) < 0.5


def test_mbar_of_a_ladder():
    """Potentials of samples of every rung, solved: |z| < 4.5, 7e-6 by chance."""
    machine, betas = strong(), spaced(strong(), 3.0)
    exact, states = Exact(machine, betas), enumerate_states(10)
    rng = np.random.default_rng(6)
    v = [states[rng.choice(len(states), 500, p=p / p.sum())] for p in exact.p]
    found = mbar(reduced_potentials(machine, betas, np.concatenate(v)), np.full(len(betas), 500))
    assert abs(-found.f_k[-1] - exact.truth) < 4.5 * found.std_err[-1] < 0.5


def test_rungs_that_are_too_far_apart_are_confessed():
    exact = Exact(planted(), [0.0, 0.5, 1.0])
    found = thermodynamic_integration(*exact.works(200, 16))
    assert abs(found.value - exact.truth) > 1
    assert found.quadrature_error > 1


def test_works_that_cannot_be_integrated_are_refused():
    works = np.zeros((10, 4, 3))
    for forward, reverse in ((works, works[:5]), (works[0], works[0]), (works[:0], works[:0])):
        with pytest.raises(ConfigError, match="works have shapes"):
            thermodynamic_integration(forward, reverse)
    for poison in (np.nan, np.inf):
        bad = works.copy()
        bad[3, 2, 1] = poison
        for pair in ((bad, works), (works, bad)):
            with pytest.raises(NumericalError, match="finite"):
                thermodynamic_integration(*pair)
    single = thermodynamic_integration(works[:, :1], works[:, :1])
    assert (single.value, single.quadrature_error) == (0, 0)
    assert math.isnan(single.std_err)

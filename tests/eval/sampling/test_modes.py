"""Paths from mixtures: against enumeration of v, h and k, a broken kernel, and a hidden mode."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from dvae_core.errors import ConfigError
from dvae_eval.config import LogZConfig
from dvae_eval.log_z import run as tempered
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.log_z.referee import LARGEST_ERROR, REFEREE_PRECISION, referee_checks
from dvae_eval.machine import BipartiteMachine
from dvae_eval.sampling import modes, replicas_numba
from dvae_eval.sampling.annealing import annealed_importance_sampling, reverse_ais, uniform_schedule
from dvae_eval.sampling.basins import Basins, find_basins
from dvae_eval.sampling.lower_bound import LowerBound
from dvae_eval.sampling.mixture import MixtureReference
from dvae_eval.sampling.modes import mixture_of_modes, mixture_of_states
from dvae_eval.sampling.schedule import Schedule
from dvae_eval.sampling.tempering import make_replicas
from dvae_eval.test_machines.graphs import complete, torus
from dvae_eval.test_machines.rbms import enumerated, planted, random_rbm, trained
from tests.eval.sampling.test_kernels import general, rbm
from tests.oracles import enumerate_states, log_marginals, worst_p_value
from tests.replicas import assert_works_are_differences, states_and_works

BETAS = np.array([0.0, 0.1, 0.375, 0.8, 1.0])


def random_mixture(machine, n_components=3, scale=1.5, seed=9):
    reduced, rng = machine.reduced(), np.random.default_rng(seed)
    weights = rng.random(n_components) + 0.2
    b, c = (scale * rng.normal(size=(n_components, len(x))) for x in (reduced.b, reduced.c))
    return MixtureReference(weights / weights.sum(), b, c)


def log_joint(machine, mixture, t, v):
    """Return log p~_t(v, k), (..., K), float64: h summed out, the formula of the module written out."""
    r = machine.reduced()
    A = np.logaddexp(0, mixture.b).sum(1) + np.logaddexp(0, mixture.c).sum(1)
    hidden = np.logaddexp(0, t * (v @ r.W + r.c)[..., None, :] + (1 - t) * mixture.c).sum(-1)
    pairs = 0 if r.J is None else np.einsum("...i,ij,...j->...", v, np.triu(r.J), v)
    of_components = np.log(mixture.weights) - A + v @ mixture.b.T
    return (t * (v @ r.b + pairs))[..., None] + (1 - t) * of_components + hidden - np.log(len(A))


def log_p(machine, mixture, t, v):
    return logsumexp(log_joint(machine, mixture, t, v), axis=-1)


# --- the path --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", [rbm(3, 4), general(5)])
def test_log_z_along_the_path_is_that_of_all_states_of_all_units(machine):
    """Sums over v, h and k of the energy function itself: 1 / K at t = 0, Z at t = 1, and what lies between."""
    mixture, reduced = random_mixture(machine), machine.reduced()
    v, h = enumerate_states(len(reduced.b)), enumerate_states(len(reduced.c))
    pairs = 0 if reduced.J is None else (v @ np.triu(reduced.J) * v).sum(1)[:, None]
    energy = (v @ reduced.b)[:, None] + h @ reduced.c + v @ reduced.W @ h.T + pairs
    products = [(v @ a)[:, None] + h @ d for a, d in zip(mixture.b, mixture.c, strict=True)]
    path = mixture.path(reduced)
    for t in BETAS:
        joint = [
            t * energy + (1 - t) * (np.log(w) + x - logsumexp(x))
            for w, x in zip(mixture.weights, products, strict=True)
        ]
        expected = logsumexp(joint) - np.log(len(joint))
        assert logsumexp(path.log_p(torch.from_numpy(v), t).numpy()) == pytest.approx(expected, abs=1e-10)
    assert expected == pytest.approx(logsumexp(energy), abs=1e-10)
    assert logsumexp(log_p(machine, mixture, 0.0, v)) == pytest.approx(mixture.log_z, abs=1e-12)


def test_a_mixture_of_another_machine_is_refused():
    with pytest.raises(ConfigError, match="fit it to this machine"):
        random_mixture(rbm(3, 5)).path(rbm(3, 4).reduced())


# --- distributions -----------------------------------------------------------------------------------------------

SMALL = {
    "3x5": rbm(3, 5),
    "1x1": rbm(1, 1, 2.0),
    "5x150": rbm(5, 150, 0.3),
    "sparse 5x17": rbm(5, 17, fill=0.15),
    "general": general(6),
    "three classes": general(8, fill=0.4, seed=3),
}


@pytest.mark.parametrize("name", SMALL)
def test_every_rung_has_its_own_distribution(name, engine):
    """4000 states of each of 5 rungs, chi-square, p > 1e-6: false alarm 5e-6 each."""
    machine = SMALL[name]
    mixture = random_mixture(machine)
    t = make_replicas(machine, Schedule(BETAS), 400, 1, 0, reference=mixture)
    # Couplings among the kept units are torch's.
    assert t.engine == ("torch" if machine.reduced().J is not None else engine)
    assert worst_p_value(t, partial(log_p, machine, mixture)) > 1e-6


def test_gibbs_sweeps_alone_keep_the_distribution(engine):
    """No exchanges: every rung on its own, sweep after sweep, from states drawn at t = 0."""
    machine = SMALL["3x5"]
    mixture = random_mixture(machine)
    t = make_replicas(machine, Schedule(BETAS), 400, 1, 0, reference=mixture)
    t.run = lambda n: t.sweep(BETAS, n)
    assert worst_p_value(t, partial(log_p, machine, mixture)) > 1e-6


def test_components_that_are_drawn_with_wrong_weights_are_rejected(engine):
    """Of k given v alone: one component comes e times too often there, and nowhere else."""
    machine = SMALL["3x5"]
    mixture = random_mixture(machine)
    t = make_replicas(machine, Schedule(BETAS), 400, 1, 0, reference=mixture)
    if engine == "numba":
        for chains in t.chains:
            chains.model.arrays.log_weights[0] += 1.0
    else:
        t.path.log_constants[0] += 1.0
    t.run = lambda n: t.sweep(BETAS, n)
    assert worst_p_value(t, partial(log_p, machine, mixture)) < 1e-30


def test_a_mixture_that_is_forgotten_is_rejected(engine):
    machine = SMALL["3x5"]
    t = make_replicas(machine, Schedule(BETAS), 400, 1, 0, reference=random_mixture(machine, seed=1))
    assert worst_p_value(t, partial(log_p, machine, random_mixture(machine))) < 1e-30


# --- works ---------------------------------------------------------------------------------------------------

EXACT_WORKS = SMALL | {
    "17x33": rbm(17, 33),
    "40x1100": rbm(40, 1100, 0.3),
    "130x300": rbm(130, 300, 0.2),
    "general 40": general(40, 0.3),
    "|W| = 50": BipartiteMachine.from_arrays(
        np.random.default_rng(0).uniform(-50, 50, (64, 64)), np.zeros(64), np.zeros(64)
    ),
}


def replicas_of(machine, mixture):
    return make_replicas(machine, Schedule(np.array([0.0, 0.25, 0.625, 1.0])), 5, 3, 0, reference=mixture)


@pytest.mark.parametrize("n_components", [1, 64])
@pytest.mark.parametrize("name", EXACT_WORKS)
def test_works_are_differences_of_reduced_potentials(name, n_components, engine):
    """Against float64, to 1e-4 (1 + |w| / 1000), and to 1e-6 a unit where fields are moderate."""
    machine = EXACT_WORKS[name]
    mixture = random_mixture(machine, n_components)
    replicas = replicas_of(machine, mixture)
    betas, (v, works) = replicas.schedule.betas, states_and_works(replicas)
    u = np.stack([-log_p(machine, mixture, beta, v) for beta in betas])
    assert_works_are_differences(works, u, None if "50" in name else 1e-6 * max(10, machine.n_units))


@pytest.mark.parametrize("name", ["3x5", "5x150", "130x300", "general 40"])
def test_energies_are_slopes_of_reduced_potentials(name, engine):
    """Against differences over 2e-4, whose own error is far below the bound."""
    machine, step = EXACT_WORKS[name], 1e-4
    mixture = random_mixture(machine, 5)
    replicas = replicas_of(machine, mixture)
    betas, (v, works) = replicas.schedule.betas, states_and_works(replicas)
    for k, beta in enumerate(betas):
        ends = [log_p(machine, mixture, beta + sign * step, v[:, k]) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * step)
        assert works.energies[0, :, k] == pytest.approx(slope, rel=1e-4, abs=1e-4 * machine.n_units)


# --- threads, chunks, continuations ----------------------------------------------------------------------------

CONTINUED = {"rbm": rbm(9, 121), "general": general(12)}


def make(name, **settings):
    machine = CONTINUED[name]
    reference = random_mixture(machine, 7)
    return make_replicas(machine, Schedule(BETAS), 7, 4, 1, exchange="random", reference=reference, **settings)


def arrays(works):
    return [works.forward, works.reverse, works.energies]


def test_results_do_not_depend_on_threads_or_tasks(monkeypatch):
    runs = []
    for threads, most in ((1, 256), (3, 256), (1, 11)):
        monkeypatch.setattr(replicas_numba, "MAX_CHAINS", most)
        t = make("rbm", threads=threads)
        t.anneal(2)
        runs.append((*arrays(t.run(30)), t.v, t.round_trips))
        assert len(t.tasks) == {256: threads, 11: 4}[most]
    for other in runs[1:]:
        assert all((a == b).all() for a, b in zip(runs[0], other, strict=True))


@pytest.mark.parametrize("name", CONTINUED)
def test_a_run_in_pieces_or_after_a_break_is_the_same_run(name, engine):
    whole = make(name)
    whole.anneal(2)
    expected = whole.run(13)
    chunks = make(name)
    chunks.anneal(2)
    first = chunks.run(5)
    other = make(name)
    other.load_state_dict(chunks.state_dict())
    for rest in (chunks.run(8), other.run(8)):
        found = map(np.concatenate, zip(arrays(first), arrays(rest), strict=True))
        assert all((a == b).all() for a, b in zip(arrays(expected), found, strict=True))
    assert (other.v == whole.v).all()


# --- fits ----------------------------------------------------------------------------------------------------


def clusters(n_visible=60, n_hidden=12, weights=(0.4, 0.3, 0.2, 0.1), seed=3, n_steps=4000):
    """Return an RBM that was trained by exact gradients on patterns whose bits are flipped now and then."""
    rng = np.random.default_rng(seed)
    patterns = rng.random((len(weights), n_visible)) < 0.5
    x = (patterns[rng.choice(len(weights), 2000, p=weights)] ^ (rng.random((2000, n_visible)) < 0.05)).astype(
        float
    )
    W, b, c = 0.05 * rng.normal(size=(n_visible, n_hidden)), np.zeros(n_visible), np.zeros(n_hidden)
    h = enumerate_states(n_hidden)
    for _ in range(n_steps // 20):
        logs = log_marginals(W.T, c, b, h)
        p = np.exp(logs - logsumexp(logs))
        mean_v, up = 1 / (1 + np.exp(-(b + h @ W.T))), 1 / (1 + np.exp(-(x @ W + c)))
        W += 0.3 * (x.T @ up / len(x) - mean_v.T @ (p[:, None] * h))
        b += 0.3 * (x.mean(0) - p @ mean_v)
        c += 0.3 * (up.mean(0) - p @ h)
    return BipartiteMachine.from_arrays(W, b, c), enumerated(W, b, c)


@pytest.fixture(scope="module")
def clustered():
    return trained("clusters-80x10")


def check_mixture(mixture, machine):
    reduced = machine.reduced()
    assert mixture.weights.sum() == pytest.approx(1)
    assert (mixture.weights > 0).all()
    assert mixture.b.shape == (len(mixture.weights), len(reduced.b))
    assert mixture.c.shape == (len(mixture.weights), len(reduced.c))
    assert np.abs(mixture.b).max() < 10
    assert (mixture.b[-1] == 0).all()


def test_mixtures_of_modes_and_of_states_have_the_weights_of_the_clusters(clustered):
    """The second is fitted to 4000 exact samples: its shares of the basins differ by 6 standard errors at most."""
    machine, log_z = clustered
    reduced, basins = machine.reduced(), find_basins(machine.reduced(), 0)
    check_mixture(mixture_of_modes(machine, basins), machine)
    v = enumerate_states(len(reduced.b))
    p = np.exp(log_marginals(reduced.W, reduced.b, reduced.c, v) - log_z)
    samples = v[np.random.default_rng(0).choice(len(v), 4000, p=p / p.sum())].astype(np.uint8)
    fitted = mixture_of_states(machine, samples, basins, 16, 0)
    check_mixture(fitted, machine)
    q = np.exp(log_p(machine, fitted, 0.0, v) - fitted.log_z)
    assert q.sum() == pytest.approx(1)
    # What they share is nearly everything; a single product shares less than half.
    assert np.minimum(p, q).sum() > 0.7
    assert (
        np.minimum(p, np.exp(log_p(machine, mixture_of_states(machine, samples, basins, 1, 0), 0, v))).sum() < 0.5
    )


def test_modes_that_no_state_belongs_to_stay(clustered):
    """States of one cluster alone are fitted: all other modes are still there."""
    machine, _ = clustered
    basins = find_basins(machine.reduced(), 0)
    rng = np.random.default_rng(0)
    states = (rng.random((500, basins.means.shape[1])) < basins.means[0]).astype(np.uint8)
    means = 1 / (1 + np.exp(-mixture_of_states(machine, states, basins, 8, 0).b))
    for mode in basins.means[:4]:
        assert np.abs(means - mode).max(1).min() < 0.3


# --- log Z -----------------------------------------------------------------------------------------------------

QUICK = {"method": "pt-bar", "n_sweeps": 800, "threads": 1, "reference": "modes"}
MODELS = {
    "random": lambda: random_rbm(11, (12, 30), 1.0),
    "strong": lambda: random_rbm(12, (12, 30), 6.0),
    "planted": lambda: planted(11, (14, 40), 0.25),
    "clusters": clusters,
    "complete": lambda: complete(14, 12, 3.0),
    "torus": lambda: torus(4, 4, 0.4),
}


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_the_exact_value(name):
    """|z| < 6 with 31 degrees of freedom: false alarm 1.2e-6 each; and the error must be small."""
    machine, exact = MODELS[name]()
    result = estimate_log_z(machine, **QUICK, seed=1)
    assert abs(result.log_z - exact) < 6 * result.std_err
    assert 0 < result.std_err < 0.05
    found = result.diagnostics["uniform_run"]
    assert abs(found["log_z"] - exact) < 6 * found["std_err"]


def test_one_step_is_enough_where_the_mixture_is_near(clustered):
    result = estimate_log_z(clustered[0], **QUICK)
    assert len(result.diagnostics["betas"]) == 2


def test_a_schedule_takes_over_where_one_step_is_too_long(clustered, monkeypatch):
    machine, exact = clustered
    monkeypatch.setattr(tempered, "BRIDGE_RATE", 0.99)
    result = estimate_log_z(machine, **QUICK, exchange_rate=0.95)
    assert len(result.diagnostics["betas"]) > 2
    assert abs(result.log_z - exact) < 6 * result.std_err


@pytest.mark.parametrize("at", ["tempering from modes", "pilot from modes"])
def test_the_seed_fixes_the_result_and_an_interruption_does_not_matter(at, clustered, tmp_path, monkeypatch):
    monkeypatch.setattr(tempered, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(tempered, "REPORT_SECONDS", 0.0)
    machine, path = clustered[0], tmp_path / "partial.npz"
    whole = estimate_log_z(machine, **QUICK, seed=3)

    class Killed(Exception): ...

    def die(phase, *_):
        if phase.startswith(at):
            raise Killed

    with pytest.raises(Killed):
        estimate_log_z(machine, **QUICK, seed=3, partial=path, progress=die)
    assert path.exists()
    again = estimate_log_z(machine, **QUICK, seed=3, partial=path)
    assert again.repeats == whole.repeats
    assert again.diagnostics["uniform_run"] == whole.diagnostics["uniform_run"]
    assert estimate_log_z(machine, **(QUICK | {"threads": 2}), seed=3).repeats == whole.repeats
    assert estimate_log_z(machine, **QUICK, seed=4).repeats != whole.repeats


def test_joint_energies_are_refused():
    with pytest.raises(ConfigError, match="--energies joint"):
        LogZConfig(reference="modes", energies="joint")


@pytest.mark.parametrize("machine_and_log_z", [random_rbm(11, (8, 30), 2.0), complete(14, 9, 3.0)])
def test_annealing_from_a_mixture_agrees(machine_and_log_z):
    """Chains of four steps: |z| < 6 with 15 degrees of freedom: false alarm 2.4e-5 each."""
    machine, exact = machine_and_log_z
    mixture, reduced = random_mixture(machine, 4, 0.5), machine.reduced()
    v = enumerate_states(len(reduced.b))
    pairs = 0 if reduced.J is None else (v @ np.triu(reduced.J) * v).sum(1)
    logs = pairs + log_marginals(reduced.W, reduced.b, reduced.c, v)
    samples = v[np.random.default_rng(0).choice(len(v), 4000, p=np.exp(logs - logsumexp(logs)))]
    betas = uniform_schedule(40)
    forward = annealed_importance_sampling(machine, betas, 4000, 0, reference=mixture)
    reverse = reverse_ais(machine, samples, betas, 0, reference=mixture)
    for way in (forward, reverse):
        error = way.repeats(16).std(ddof=1) / 4
        assert abs(way.log_z - exact) < 6 * error
        assert error < 0.1


# --- what it does not know ---------------------------------------------------------------------------------------


@pytest.fixture
def half_hidden(monkeypatch):
    """A machine of two equal modes, its log Z, and means of the mode that no search for basins shows."""
    machine, exact = planted(11, (14, 40), 0.4)
    basins = find_basins(machine.reduced(), 0)
    assert basins.bounds[1] > basins.bounds[0] - 1e-6
    seen = Basins(basins.means[1:2], basins.bounds[1:2], LowerBound(basins.bounds[1], basins.means[1:2]))
    monkeypatch.setattr(tempered, "find_basins", lambda *_, **__: seen)
    return machine, exact, basins.means[0]


def test_a_mode_that_no_search_shows_is_known_from_states_of_the_first_run(half_hidden):
    machine, exact, _ = half_hidden
    result = estimate_log_z(machine, **QUICK, seed=1)
    assert result.trustworthy
    assert abs(result.log_z - exact) < 6 * result.std_err


def test_a_mode_that_the_mixture_lacks_holds_the_states_that_know_it(half_hidden, monkeypatch):
    """No fit may have it: the mixture's own half of the replicates is wrong by log 2, and nothing is trusted."""
    machine, _, hidden = half_hidden
    fit = modes._mixture

    def blind(weights, means, means_h):
        is_seen = np.abs(means - hidden).mean(1) > 0.5
        return fit(weights[is_seen], means[is_seen], means_h[is_seen])

    monkeypatch.setattr(modes, "_mixture", blind)
    monkeypatch.setattr(modes, "UNIFORM", 1e-9)
    result = estimate_log_z(machine, **QUICK, seed=1)
    failed = {c["name"] for c in result.diagnostics["checks"] if not c["passed"]}
    assert not result.trustworthy
    assert "share of the states at β = 1 that never came from the reference since the burn-in" in failed
    assert "difference from the run from the uniform reference, in standard errors" in failed


def test_a_uniform_run_that_says_nothing_does_not_count():
    names = [c.name for c in referee_checks(1.0, 0.01, 1.2, LARGEST_ERROR + 0.1, [], 32) if not c.passed]
    assert names == ["standard error of a run from the uniform reference, nats"]
    names = [c.name for c in referee_checks(1.0, 0.01, 1.0, REFEREE_PRECISION, [], 32) if not c.passed]
    assert names == []
    names = [c.name for c in referee_checks(1.0, 0.01, 1.3, 0.05, [], 32) if not c.passed]
    assert names == ["difference from a run from the uniform reference, in standard errors"]

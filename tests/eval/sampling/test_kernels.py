"""Compiled and torch tempering against enumeration, a float64 formula, and themselves after any interruption."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag
from scipy.special import expit

from dvae_core.errors import ConfigError
from dvae_eval.machine import BipartiteMachine, machine_from_couplings
from dvae_eval.sampling import kernels, replicas_numba
from dvae_eval.sampling.reference import Reference
from dvae_eval.sampling.schedule import Schedule
from dvae_eval.sampling.tempering import make_replicas
from tests.oracles import enumerate_states, worst_p_value
from tests.replicas import assert_works_are_differences, states_and_works

BETAS = np.array([0.0, 0.1, 0.35, 0.8, 1.0])


def rbm(n, m, scale=1.0, fill=1.0, seed=0):
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(n, m)) * (rng.random((n, m)) < fill) * scale
    return BipartiteMachine.from_arrays(W, rng.normal(size=n) * scale, rng.normal(size=m) * scale)


def general(n, scale=1.0, fill=1.0, seed=0):
    rng = np.random.default_rng(seed)
    J = np.triu(rng.normal(size=(n, n)) * (rng.random((n, n)) < fill), 1)
    return machine_from_couplings(J * scale, rng.normal(size=n) * scale)


def random_reference(machine, scale=1.0, seed=9):
    reduced, rng = machine.reduced(), np.random.default_rng(seed)
    return Reference(scale * rng.normal(size=len(reduced.b)), scale * rng.normal(size=len(reduced.c)))


def log_p(machine, reference, beta, v):
    """Return log p_β(v) + log Z_β, float64: the formula of the module, written out."""
    r = machine.reduced()
    x = beta * (v @ r.W + r.c) + (1 - beta) * reference.c
    pairs = 0 if r.J is None else np.einsum("...i,ij,...j->...", v, np.triu(r.J), v)
    return beta * (pairs + v @ r.b) + (1 - beta) * (v @ reference.b) + np.logaddexp(0, x).sum(-1)


def energy(machine, reference, beta, v):
    """Return d log p_β(v) / dβ + d log Z_β / dβ, float64."""
    r = machine.reduced()
    own = v @ r.W + r.c - reference.c
    pairs = 0 if r.J is None else np.einsum("...i,ij,...j->...", v, np.triu(r.J), v)
    return pairs + v @ (r.b - reference.b) + (expit(reference.c + beta * own) * own).sum(-1)


# --- distributions -----------------------------------------------------------------------------------------

SMALL = {
    "3x5": rbm(3, 5),
    "1x1": rbm(1, 1, 2.0),
    "1x40": rbm(1, 40, 0.3),
    "sparse 5x17": rbm(5, 17, fill=0.15),
    "complete": general(5),
    "three classes": general(8, fill=0.4, seed=3),
}


@pytest.mark.parametrize(("exchange", "energies"), [("even-odd", "reduced"), ("random", "joint")])
@pytest.mark.parametrize("name", SMALL)
def test_every_rung_has_its_own_distribution(name, exchange, energies, engine):
    """4000 states of each of 5 rungs, chi-square, p > 1e-6: false alarm 5e-6 each."""
    machine, reference = SMALL[name], random_reference(SMALL[name])
    t = make_replicas(
        machine, Schedule(BETAS), 400, 1, 0, reference=reference, exchange=exchange, energies=energies
    )
    assert t.engine == engine
    assert worst_p_value(t, partial(log_p, machine, reference)) > 1e-6


def test_exchanges_that_are_always_accepted_are_rejected():
    """The compiled rule, with generators wound back so that the next uniform number is always 0."""
    machine = SMALL["3x5"]
    reference = random_reference(machine)
    t = make_replicas(machine, Schedule(np.array([0.0, 1.0])), 400, 1, 0, reference=reference)

    def wind_back():
        t.coins[:] = 2**64 - 0x9E3779B97F4A7C15

    run, t.run = t.run, lambda n: [(wind_back(), run(1)) for _ in range(n)]
    assert worst_p_value(t, partial(log_p, machine, reference)) < 1e-30


def test_a_base_that_is_forgotten_is_rejected(engine):
    machine = SMALL["3x5"]
    t = make_replicas(machine, Schedule(BETAS), 400, 1, 0)
    assert worst_p_value(t, partial(log_p, machine, random_reference(machine))) < 1e-30


BLOCKS = [rbm(12, 30, 0.5, seed=s) for s in range(4)]
LARGE = {
    "13x97": [rbm(13, 97, 0.4)],
    # Four parts that have nothing to do with each other.
    "48x120": BLOCKS,
    "general": [general(13, 0.5)],
    "sparse 12x130": [rbm(12, 130, fill=0.1)],
}


def joined(parts):
    if len(parts) == 1:
        return parts[0]
    W = block_diag(*(part.W for part in parts))
    biases = ([part.b_left for part in parts], [part.b_right for part in parts])
    return BipartiteMachine.from_arrays(W, *map(np.concatenate, biases))


def exact_moments(parts, betas):
    """Return log Z, d log Z / dβ and the means of the kept units of every rung, from a uniform reference."""
    log_z, slopes, means = np.zeros(len(betas)), np.zeros(len(betas)), []
    for part in parts:
        r = part.reduced()
        v, zero = enumerate_states(len(r.b)), Reference(np.zeros_like(r.b), np.zeros_like(r.c))
        logs = [log_p(part, zero, beta, v) for beta in betas]
        p = [np.exp(a - np.logaddexp.reduce(a)) for a in logs]
        log_z += [np.logaddexp.reduce(a) for a in logs]
        slopes += [q @ energy(part, zero, beta, v) for q, beta in zip(p, betas, strict=True)]
        means.append([q @ v for q in p])
    return log_z, slopes, np.concatenate(means, 1)


@pytest.mark.parametrize("energies", ["reduced", "joint"])
@pytest.mark.parametrize("name", LARGE)
def test_moments_and_free_energies_are_those_of_enumeration(name, energies):
    """Means over replicates: |t| < 7 with 99 degrees of freedom, about 300 of them: false alarm 1e-7."""
    machine, schedule = joined(LARGE[name]), Schedule(np.linspace(0, 1, 9))
    t = make_replicas(machine, schedule, 100, 2, 0, energies=energies, threads=2)
    t.anneal(2)
    t.run(20)
    states = []
    works = [(t.run(5), states.append(t.v))[0] for _ in range(60)]
    log_z, slopes, means = exact_moments(LARGE[name], schedule.betas)
    forward, reverse, slope = (np.concatenate([getattr(w, a) for w in works]) for a in w_names())
    steps = np.diff(log_z)
    assert_means(np.exp(-forward - steps).mean(0), 1)
    assert_means(np.exp(-reverse + steps).mean(0), 1)
    assert_means(slope.mean(0), slopes)
    assert_means(np.mean(states, 0), means)


def w_names():
    return "forward", "reverse", "energies"


def assert_means(values, expected):
    """Assert that means over replicates (the first axis) are what they should be."""
    error = values.std(0, ddof=1) / np.sqrt(len(values)) + 1e-6 * np.abs(expected)
    assert (np.abs(values.mean(0) - expected) < 7 * error).all()


# --- works -------------------------------------------------------------------------------------------------

EXACT_WORKS = SMALL | {
    "17x33": rbm(17, 33),
    "40x1100": rbm(40, 1100, 0.3),
    "130x300": rbm(130, 300, 0.2),
    "sparse 3x2000": rbm(3, 2000, fill=0.1),
    "general 40": general(40, 0.3),
    "|W| = 50": BipartiteMachine.from_arrays(
        np.random.default_rng(0).uniform(-50, 50, (64, 64)), np.zeros(64), np.zeros(64)
    ),
    "fields of 1e5": rbm(3, 300, 1e5),
    "sparse fields of 1e5": rbm(3, 300, 1e5, fill=0.1),
}


def replicas_of(machine, reference, energies="reduced"):
    schedule = Schedule(np.array([0.0, 0.625, 1.0]))
    return make_replicas(machine, schedule, 5, 3, 0, reference=reference, energies=energies)


@pytest.mark.parametrize("base_scale", [0.0, 1.0])
@pytest.mark.parametrize("name", EXACT_WORKS)
def test_works_are_differences_of_reduced_potentials(name, base_scale, engine):
    """Against float64, to 1e-4 (1 + |w| / 1000), and to 1e-6 a unit where fields are moderate."""
    machine = EXACT_WORKS[name]
    reference = random_reference(machine, base_scale)
    replicas = replicas_of(machine, reference)
    betas, (v, works) = replicas.schedule.betas, states_and_works(replicas)
    u = np.stack([-log_p(machine, reference, beta, v) for beta in betas])
    is_moderate = "e5" not in name and "50" not in name
    assert_works_are_differences(works, u, 1e-6 * machine.n_units if is_moderate else None)
    slopes = np.stack([energy(machine, reference, beta, v)[:, k] for k, beta in enumerate(betas)], -1)
    assert works.energies[0] == pytest.approx(slopes, rel=1e-6, abs=1e-6 * machine.n_units)


@pytest.mark.parametrize("name", ["3x5", "130x300", "sparse 5x17", "general 40"])
def test_joint_works_are_linear_in_beta(name, engine):
    """Works are energies times steps; and energies minus what the kept units say lie on a lattice of sums."""
    machine = EXACT_WORKS[name]
    replicas = replicas_of(machine, random_reference(machine), "joint")
    betas, (_, works) = replicas.schedule.betas, states_and_works(replicas)
    steps = np.diff(betas)
    assert works.forward == pytest.approx(-steps * works.energies[..., :-1], rel=1e-5, abs=1e-6)
    assert works.reverse == pytest.approx(steps * works.energies[..., 1:], rel=1e-5, abs=1e-6)


def test_joint_energies_are_those_of_some_state(engine):
    machine = SMALL["3x5"]
    reference = random_reference(machine)
    v, works = states_and_works(replicas_of(machine, reference, "joint"))
    r, h = machine.reduced(), enumerate_states(5)
    joint = (v @ (r.b - reference.b))[..., None] + (v @ r.W + r.c - reference.c) @ h.T
    assert np.abs(joint - works.energies[0, ..., None]).min(-1).max() < 1e-5


# --- random numbers and arithmetic ----------------------------------------------------------------------------


def reference_xoshiro(state, n):
    """Return n outputs of xoshiro128++ and the state after them: the published code, in Python's integers."""
    s, mask, outputs = [int(word) for word in state], 2**32 - 1, []

    def rotated(x, k):
        return ((x << k) | (x >> (32 - k))) & mask

    for _ in range(n):
        outputs.append((rotated((s[0] + s[3]) & mask, 7) + s[0]) & mask)
        t = (s[1] << 9) & mask
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotated(s[3], 11)
    return outputs, s


@pytest.mark.parametrize("fill", [1.0, 0.01])
def test_units_are_drawn_by_xoshiro128(fill):
    """Units without fields are on where the highest bit is not set; with |field| = 1, by the number behind it."""
    n, m, n_rungs, n_sweeps = 3, 4, 2, 7
    b = np.array([0.0, 1.0, -1.0])
    W = np.zeros((n, m)) if fill < 1 else np.full((n, m), -1e-30)
    machine = BipartiteMachine.from_arrays(W, b, np.zeros(m))
    t = make_replicas(machine, Schedule(np.array([0.0, 1.0])), 1, 5, 0, reference=Reference(b, np.zeros(m)))
    dense = t.chains[0].__class__ is replicas_numba.DenseChains
    assert dense == (fill == 1)
    before = t.state_dict()["random"][0]
    t.sweep(BETAS[:2], n_sweeps)
    after = t.state_dict()["random"][0]
    p_flip = np.exp(-np.abs(b)) / (1 + np.exp(-np.abs(b)))
    for unit in range(n):
        for rung in range(n_rungs):
            # Dense: a stream for every unit, chain by chain; else one for every chain, unit by unit.
            stream = unit if dense else rung
            per_sweep = 2 * n_rungs if dense else n + m
            outputs, state = reference_xoshiro(before[:, stream], per_sweep * n_sweeps)
            number = outputs[-n_rungs + rung] if dense else outputs[-n + unit]
            assert t.v[0, rung, unit] == ((b[unit] > 0) != ((number >> 1) + 0.5 < p_flip[unit] * 2**31))
            assert after[:, stream].tolist() == state


def test_exponentials_are_exact_to_single_precision():
    from numba import njit

    @njit
    def exps(a, out):
        for i in range(len(a)):
            out[i] = kernels.exp_minus(a[i])

    a = np.concatenate((np.linspace(0, 86.9, 200_001), [0.0, 1e-30])).astype(np.float32)
    out = np.empty_like(a)
    exps(a, out)
    assert np.abs(out / np.exp(-a.astype(float)) - 1).max() < 2.5e-7
    huge = np.array([87.0, 88.0, 1e5, 1e38, np.inf], np.float32)
    exps(huge, out[:5])
    assert np.isfinite(out[:5]).all()
    assert (out[:5] < 2e-38).all()


# --- threads, chunks, continuations ---------------------------------------------------------------------------

CONTINUED = {"dense": rbm(9, 21), "sparse": rbm(20, 40, fill=0.08), "general": general(12)}


def make(name, **settings):
    return make_replicas(CONTINUED[name], Schedule(BETAS), 7, 4, 1, exchange="random", **settings)


def arrays(works):
    return [getattr(works, name) for name in w_names()]


@pytest.mark.parametrize("name", CONTINUED)
def test_results_do_not_depend_on_threads_or_tasks(name, monkeypatch):
    runs = []
    for threads, most in ((1, 256), (2, 256), (3, 256), (1, 11)):
        monkeypatch.setattr(replicas_numba, "MAX_CHAINS", most)
        t = make(name, threads=threads)
        t.anneal(2)
        runs.append((*arrays(t.run(30)), t.v, t.round_trips))
        assert len(t.tasks) == {256: threads, 11: 4}[most]
    for other in runs[1:]:
        assert all((a == b).all() for a, b in zip(runs[0], other, strict=True))


@pytest.mark.parametrize("name", CONTINUED)
def test_a_run_in_pieces_or_after_a_break_is_the_same_run(name, engine, tmp_path):
    whole = make(name)
    whole.anneal(2)
    expected = whole.run(13)
    chunks = make(name)
    chunks.anneal(2)
    first = chunks.run(5)
    np.savez(tmp_path / "state.npz", **chunks.state_dict())
    other = make(name)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        other.load_state_dict(state)
    for rest in (chunks.run(8), other.run(8)):
        found = map(np.concatenate, zip(arrays(first), arrays(rest), strict=True))
        assert all((a == b).all() for a, b in zip(arrays(expected), found, strict=True))
    assert (other.v == whole.v).all()
    assert (other.round_trips == whole.round_trips).all()
    assert other.n_iterations == whole.n_iterations == 13


def test_a_state_of_another_run_is_refused(engine):
    with pytest.raises(ConfigError, match="another run"):
        make("dense").load_state_dict(make("general").state_dict())
    with pytest.raises(ConfigError, match="another run"):
        make("dense").load_state_dict({})


def test_ladders_are_independent_and_seeds_matter(engine):
    t = make("dense")
    works = t.run(50).forward
    assert len({works[:, schedule].tobytes() for schedule in range(7)}) == 7
    other = make_replicas(CONTINUED["dense"], Schedule(BETAS), 7, 5, 1)
    assert (other.run(50).forward != works).any()


def test_first_states_are_as_given_or_drawn_from_the_base(engine):
    machine = rbm(3, 5)
    v = np.random.default_rng(0).integers(0, 2, (6, len(BETAS), 3), dtype=np.uint8)
    assert (make_replicas(machine, Schedule(BETAS), 6, 0, 0, v=v).v == v).all()
    reference = Reference(np.array([-50.0, 50.0, 0.0]), np.zeros(5))
    drawn = make_replicas(machine, Schedule(BETAS), 400, 0, 0, reference=reference).v.mean((0, 1))
    # 2000 fair coins: 6 standard errors.
    assert drawn == pytest.approx([0, 1, 0.5], abs=6 * 0.5 / np.sqrt(2000))
    with pytest.raises(ConfigError, match=r"\(n_replicates, n_rungs, n_kept\) = \(5, 5, 3\)"):
        make_replicas(machine, Schedule(BETAS), 5, 0, 0, v=v)


def test_round_trips_are_counted(engine):
    """Independent replicas: exchanges are always accepted, and replicas circulate at one rung an iteration."""
    machine = BipartiteMachine.from_arrays(np.zeros((2, 3)), np.zeros(2), np.zeros(3))
    t = make_replicas(machine, Schedule(np.linspace(0, 1, 6)), 3, 0, 0)
    works = t.run(600)
    assert np.abs(works.forward).max() == 0
    # Each of 6 replicas is back every 12 iterations, but for the first time around.
    assert (np.abs(t.round_trips - 600 * 6 / 12) <= 6).all()


# --- how it is compiled ----------------------------------------------------------------------------------------


def test_no_folder_for_the_cache_is_no_obstacle(monkeypatch):
    """What numba says where neither the package's folder nor the user's can be written."""

    def njit(cache=False, **settings):
        if cache:
            raise RuntimeError("cannot cache function 'f': no locator available for file 'f.py'")
        return lambda function: function

    monkeypatch.setattr(kernels, "njit", njit)
    assert kernels.kernel(cache=True)(abs) is abs


def test_torch_takes_over_with_a_word_where_numba_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "numba", None)
    with pytest.warns(RuntimeWarning, match="in torch.*install numba"):
        assert make_replicas(rbm(3, 5), Schedule(BETAS), 2, 0, 0).engine == "torch"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_has_the_distributions_too():
    machine = SMALL["three classes"]
    reference = random_reference(machine)
    t = make_replicas(machine, Schedule(BETAS), 400, 1, 0, "cuda", reference=reference)
    assert t.engine == "torch"
    assert worst_p_value(t, partial(log_p, machine, reference)) > 1e-6

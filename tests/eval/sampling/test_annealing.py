"""AIS and reverse AIS against enumeration: unbiased weights, the sandwich, bounds; and variants that are wrong."""

import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import chi2_contingency
from torch.nn.functional import softplus

from dvae_core.errors import ConfigError, DataError, NumericalError
from dvae_core.model.tempered import Tempered
from dvae_eval.log_z.with_pymbar import bar
from dvae_eval.machine import BipartiteMachine, GeneralMachine, machine_from_couplings
from dvae_eval.sampling import annealing
from dvae_eval.sampling.annealing import (
    Annealing,
    annealed_importance_sampling,
    betas_along,
    reverse_ais,
    uniform_schedule,
)
from dvae_eval.sampling.reference import Reference, fitted_reference
from dvae_eval.sampling.schedule import Schedule
from tests.oracles import bipartite, brute_log_z, enumerate_states, log_marginals
from tests.oracles.paths import joint_on_path


def rbm(shape=(3, 5), scale=1.5, seed=0):
    rng = np.random.default_rng(seed)
    return BipartiteMachine.from_arrays(*(rng.normal(size=s) * scale for s in (shape, shape[0], shape[1])))


def complete(n=5, scale=1.2, seed=1):
    """Every unit coupled to every other: n - 1 classes of one unit each are kept."""
    rng = np.random.default_rng(seed)
    return machine_from_couplings(np.triu(rng.normal(size=(n, n)) * scale, 1), rng.normal(size=n))


def coupled(seed=2):
    """An odd ring with chords: several units in a class, and couplings among the kept."""
    rng = np.random.default_rng(seed)
    J = np.zeros((7, 7))
    for i, j in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (0, 6), (0, 3), (2, 5)]:
        J[i, j] = rng.normal() * 1.5
    return machine_from_couplings(J, rng.normal(size=7))


MACHINES = [rbm, complete, coupled]


def exact(machine):
    if isinstance(machine, GeneralMachine):
        return brute_log_z(machine.J, machine.b)
    return brute_log_z(*bipartite(machine.W, machine.b_left, machine.b_right))


def kept_states(machine):
    return enumerate_states(len(machine.reduced().b))


def log_p(machine, v, beta=1.0, reference=None):
    """Return log p~_β(v), by summing over the other side's states one by one."""
    return np.logaddexp.reduce(joint_on_path(machine, v, beta, reference), axis=1)


def exact_samples(machine, n, seed=0):
    """Return independent samples of the machine's kept units."""
    v = kept_states(machine)
    p = log_p(machine, v)
    p = np.exp(p - np.logaddexp.reduce(p))
    return v[np.random.default_rng(seed).choice(len(v), n, p=p / p.sum())].astype(np.uint8)


def some_reference(machine, seed=3):
    rng, r = np.random.default_rng(seed), machine.reduced()
    return Reference(rng.normal(size=len(r.b)), rng.normal(size=len(r.c)))


def part(estimate, log_w):
    """Return the estimate from some weights."""
    return replace(estimate, log_w=log_w)


def z_score(estimate, log_z):
    """Return how many standard errors the mean weight is from its expectation."""
    sign = -1 if estimate.is_reverse else 1
    w = np.exp(estimate.log_w - sign * (log_z - estimate.log_z_0))
    return (w.mean() - 1) / (w.std() / math.sqrt(len(w)))


@pytest.mark.parametrize("make", MACHINES)
@pytest.mark.parametrize("based", [False, True])
def test_the_path(make, based):
    """log p~ and the reference's log Z, against sums over all states."""
    machine = make()
    reference = some_reference(machine) if based else Reference.uniform(machine)
    path, v = reference.path(machine.reduced()), kept_states(machine)
    for beta in (0.0, 0.3, 1.0):
        found = path.log_p(torch.from_numpy(v), beta).numpy()
        assert np.allclose(found, log_p(machine, v, beta, reference), rtol=0, atol=1e-12)
    assert abs(np.logaddexp.reduce(log_p(machine, v, 0.0, reference)) - reference.log_z) < 1e-12
    assert abs(np.logaddexp.reduce(log_p(machine, v)) - exact(machine)) < 1e-12


# Mean weights are approximately normal for 20 000 chains of these light weights: |z| < 4.5 fails by chance with
# probability 7e-6 for each case.
@pytest.mark.parametrize("make", MACHINES)
@pytest.mark.parametrize("based", [False, True])
@pytest.mark.parametrize("schedule", [uniform_schedule(3), np.array([0, 0.2, 0.7, 0.75, 1])])
def test_weights_are_unbiased(make, based, schedule):
    machine = make()
    reference = some_reference(machine) if based else None
    forward = annealed_importance_sampling(machine, schedule, 20_000, 0, reference=reference)
    reverse = reverse_ais(machine, exact_samples(machine, 20_000), schedule, 0, reference=reference)
    assert abs(z_score(forward, exact(machine))) < 4.5
    assert abs(z_score(reverse, exact(machine))) < 4.5


def estimates(machine, n=20_000, schedule=None, **settings):
    schedule = uniform_schedule(4) if schedule is None else schedule
    return (
        annealed_importance_sampling(machine, schedule, n, 1, **settings),
        reverse_ais(machine, exact_samples(machine, n), schedule, 1, **settings),
    )


@pytest.mark.parametrize("make", MACHINES)
def test_energies_that_are_only_scaled_are_rejected(make, monkeypatch):
    """β F_1(v) in place of F_β(v): the weights no longer belong to the kernel's distributions."""

    def scaled(path, v, field, old, new):
        hidden = softplus(field).sum(-1, dtype=torch.float64)
        return (new - old) * (hidden + (v @ path.b).double() + path.pairs(v))

    monkeypatch.setattr(Tempered, "log_ratio", scaled)
    for estimate in estimates(make()):
        assert abs(z_score(estimate, exact(make()))) > 10


@pytest.mark.parametrize("make", MACHINES)
def test_weights_taken_after_the_sweep_are_rejected(make, monkeypatch):
    """p~_β(v_t) / p~_β'(v_t), with v_t drawn at β in place of β'."""
    original, generator = Tempered.log_ratio, torch.Generator().manual_seed(0)

    def late(path, v, field, old, new):
        v, _ = path.sweep(v, field.clone(), new, generator, path.classes())
        return original(path, v, path.field(v), old, new)

    monkeypatch.setattr(Tempered, "log_ratio", late)
    for estimate in estimates(make()):
        assert abs(z_score(estimate, exact(make()))) > 10


@pytest.mark.parametrize("make", MACHINES)
def test_sweeps_at_the_wrong_temperature_are_rejected(make, monkeypatch):
    original = Tempered.sweep
    monkeypatch.setattr(Tempered, "sweep", lambda path, v, x, beta, *rest: original(path, v, x, beta**2, *rest))
    for estimate in estimates(make()):
        assert abs(z_score(estimate, exact(make()))) > 5


@pytest.mark.parametrize("make", MACHINES)
def test_short_schedules_bracket_and_long_ones_agree(make):
    """Single chains' mean log weights lie on their sides of the exact value, by over 10 standard errors."""
    machine, log_z = make(), exact(make())
    forward, reverse = estimates(machine, n=4000, schedule=uniform_schedule(2))
    for estimate, sign in ((forward, 1), (reverse, -1)):
        single = estimate.repeats(len(estimate.log_w)) - log_z
        assert sign * single.mean() < -10 * single.std() / math.sqrt(len(single))
    forward, reverse = estimates(machine, n=512, schedule=uniform_schedule(300))
    for estimate in (forward, reverse):
        # 6e-5 for each of the six.
        assert abs(estimate.log_z - log_z) < 4 * estimate.std_err < 0.05


@pytest.mark.parametrize("make", MACHINES)
def test_forward_and_reverse_chains_are_each_others_reversal(make):
    """Crooks' theorem holds, so that BAR joins both ways, with less error than either (|z| < 4.5, see above)."""
    forward, reverse = estimates(make(), reference=some_reference(make()))
    delta_f = bar(-forward.log_w, -reverse.log_w)
    errors = [1 / (1 + np.exp(e.log_w + s * delta_f)) for e, s in ((forward, 1), (reverse, -1))]
    slope = sum((e * (1 - e)).mean() for e in errors)
    std_err = math.sqrt(sum(e.var() / len(e) for e in errors)) / slope
    assert std_err < min(forward.std_err, reverse.std_err)
    assert abs(forward.log_z_0 - delta_f - exact(make())) < 4.5 * std_err


def pair_counts(machine, step, seed, n=100_000):
    """Return how often the kernel at β = 1 goes from each state to each other; step -1 reverses its classes."""
    path = Reference.uniform(machine).path(machine.reduced(), dtype=torch.float32)
    v = torch.from_numpy(exact_samples(machine, n, seed)).float()
    after, _ = path.sweep(v, path.field(v), 1.0, torch.Generator().manual_seed(seed), path.classes()[::step])
    code = 2.0 ** torch.arange(v.shape[1])
    n_states = 1 << v.shape[1]
    pairs = ((v @ code) * n_states + after @ code).long()
    return np.bincount(pairs.numpy(), minlength=n_states**2).reshape(n_states, n_states)


def test_the_reverse_kernel_is_the_reversal():
    """Flows one way and back, by a χ² test at 1e-6; with the classes in the same order both ways it must fail."""
    machine = complete(4, scale=2.0)
    forward = pair_counts(machine, 1, 1)

    def p_value(step):
        tables = np.stack([forward.ravel(), pair_counts(machine, step, 2).T.ravel()])
        return chi2_contingency(tables[:, tables.sum(0) > 20]).pvalue

    assert p_value(-1) > 1e-6
    assert p_value(1) < 1e-12


@pytest.mark.parametrize("make", MACHINES)
def test_the_last_states_are_nearly_samples(make):
    """Means of the kept units from weighted states, after a long schedule: within 5 standard errors of 0.02."""
    machine = make()
    states = kept_states(machine)
    truth = np.exp(log_p(machine, states) - exact(machine)) @ states
    forward = annealed_importance_sampling(machine, uniform_schedule(200), 2000, 0)
    assert forward.v.dtype == np.uint8
    assert np.abs(np.average(forward.v, axis=0, weights=np.exp(forward.log_w)) - truth).max() < 0.1
    # A schedule of one step takes its only ratio with draws from the reference, or with the samples it was given.
    samples = exact_samples(machine, 100)
    assert (reverse_ais(machine, samples, [0, 1], 0).v == samples).all()
    start = annealed_importance_sampling(machine, [0, 1], 20_000, 0, reference=some_reference(machine)).v
    assert np.abs(start.mean(0) - expit(some_reference(machine).b)).max() < 5 * 0.5 / math.sqrt(20_000)


def test_independent_units_have_no_error_from_their_own_base():
    machine = BipartiteMachine.from_arrays(np.zeros((4, 6)), np.arange(4.0), -np.arange(6.0))
    reference = Reference(machine.b_left, machine.b_right)
    for estimate in estimates(machine, n=64, reference=reference):
        assert abs(estimate.log_z - exact(machine)) < 1e-9
        assert estimate.std_err < 1e-9
        assert abs(estimate.ess - 64) < 1e-6


def test_a_machine_of_which_nothing_is_kept():
    machine = machine_from_couplings(np.zeros((5, 5)), np.arange(5.0))
    estimate = annealed_importance_sampling(machine, uniform_schedule(3), 10, 0)
    assert abs(estimate.log_z - brute_log_z(machine.J, machine.b)) < 1e-5


def test_huge_weights_stay_finite():
    rng = np.random.default_rng(8)
    machine = BipartiteMachine.from_arrays(rng.uniform(-50, 50, (6, 8)), rng.normal(size=6), rng.normal(size=8))
    # A sharp spread of weights: the estimate is what its bounds make of it.
    forward, reverse = estimates(machine, n=512, schedule=uniform_schedule(500))
    assert forward.bound() < exact(machine) < reverse.bound()
    assert reverse.bound() - forward.bound() < 2


def test_a_fitted_base_has_the_means_of_the_samples():
    machine = rbm((4, 6))
    v = exact_samples(machine, 50_000)
    reference = fitted_reference(machine, v)
    states = kept_states(machine)
    p = np.exp(log_p(machine, states) - exact(machine))
    # Standard errors of means are at most 0.5 / sqrt(50 000); five of them fail with probability 6e-7 a unit.
    assert np.abs(expit(reference.b) - p @ states).max() < 5 * 0.5 / math.sqrt(50_000)
    hidden = expit(states @ machine.W + machine.b_right)
    assert np.abs(expit(reference.c) - p @ hidden).max() < 5 * 0.5 / math.sqrt(50_000)
    # It is nearer to the machine than the uniform reference, so that weights vary less.
    fitted, _ = estimates(machine, n=2000, reference=reference)
    uniform, _ = estimates(machine, n=2000)
    assert fitted.log_w.std() < 0.7 * uniform.log_w.std()


def test_a_fitted_base_is_never_certain():
    reference = fitted_reference(rbm((3, 5)), np.ones((10, 3), np.uint8))
    assert np.allclose(reference.b, np.log(11))
    with pytest.raises(ConfigError, match="pseudo_count"):
        fitted_reference(rbm((3, 5)), np.ones((10, 3)), pseudo_count=0)


def test_bounds_hold_as_often_as_they_say():
    """400 bounds at 50 %, so wide that Markov's inequality is far from tight: more than half must hold (4 sd)."""
    machine, log_z = rbm(scale=2.5), exact(rbm(scale=2.5))
    for estimate, sign in zip(estimates(machine, n=400 * 16, schedule=uniform_schedule(2)), (1, -1), strict=True):
        parts = [part(estimate, w) for w in np.split(estimate.log_w, 400)]
        for level in (0.5, 0.95):
            held = np.mean([sign * one.bound(level, n_groups=4) <= sign * log_z for one in parts])
            assert held > level - 4 * math.sqrt(level * (1 - level) / 400)
        # One nat tighter, and the bound would hold too seldom.
        tight = np.mean([sign * one.bound(0.95, n_groups=4) + 1.0 <= sign * log_z for one in parts])
        assert tight < 0.95


def test_the_standard_error_is_the_spread_of_repeats():
    """The spread of 400 estimates from 32 chains each: its own relative error is 4 %, so 20 % is 5 of them."""
    for estimate in estimates(rbm(), n=400 * 32):
        repeats = estimate.repeats(400)
        parts = [part(estimate, w) for w in np.split(estimate.log_w, 400)]
        errors = [one.std_err for one in parts]
        assert abs(repeats.std(ddof=1) / np.sqrt(np.mean(np.square(errors))) - 1) < 0.2
        assert abs(repeats.std(ddof=1) / math.sqrt(400) / estimate.std_err - 1) < 0.2


def test_the_mean_of_groups_and_the_effective_number_of_chains():
    estimate = Annealing(np.log([1.0, 1.0, 2.0, 4.0]), 5.0, False, np.zeros((4, 1), np.uint8))
    assert abs(estimate.log_z - (5 + math.log(2))) < 1e-12
    assert abs(estimate.ess - 64 / 22) < 1e-12
    w = np.array([1, 1, 2, 4])
    assert abs(estimate.std_err - w.std(ddof=1) / w.mean() / 2) < 1e-12
    assert np.allclose(estimate.repeats(2), [5, 5 + math.log(3)])
    back = replace(estimate, is_reverse=True)
    assert abs(back.log_z - (5 - math.log(2))) < 1e-12
    assert math.isnan(part(estimate, np.zeros(1)).std_err)
    with pytest.raises(ConfigError, match="4 chains cannot make 16 groups"):
        estimate.bound()


def test_a_seed_fixes_the_result_whatever_the_number_of_threads(monkeypatch):
    monkeypatch.setitem(annealing.MAX_CHUNK, "cpu", 32)
    machine = rbm()
    before = torch.get_num_threads()
    first, again, parallel, other = (
        annealed_importance_sampling(machine, uniform_schedule(5), 200, seed, threads=threads).log_w
        for seed, threads in ((0, 1), (0, 1), (0, 3), (1, 1))
    )
    assert torch.get_num_threads() == before
    assert (first == again).all()
    assert (first == parallel).all()
    assert (first != other).all()
    # Chunks differ from one another, and more chains only add to them.
    assert not np.intersect1d(first[:32], first[32:64]).size == 32
    more = annealed_importance_sampling(machine, uniform_schedule(5), 300, 0).log_w
    assert (more[:192] == first[:192]).all()


def test_the_sandwich_closes_on_what_the_samples_know():
    """Two modes of equal weight that no chain leaves; from one of them alone, and back to it, log 2 is missing."""
    patterns = np.ones(12), np.ones(20)
    J = 0.3 * np.outer(*patterns)
    machine = BipartiteMachine.from_arrays(4 * J, -2 * J.sum(1), -2 * J.sum(0))
    one_mode = np.ones((256, 12), np.uint8)
    reference = fitted_reference(machine, one_mode)
    forward = annealed_importance_sampling(machine, uniform_schedule(300), 256, 0, reference=reference)
    reverse = reverse_ais(machine, one_mode, uniform_schedule(300), 0, reference=reference)
    log_z = np.logaddexp.reduce(log_marginals(machine.W, machine.b_left, machine.b_right, kept_states(machine)))
    for estimate in (forward, reverse):
        assert abs(estimate.log_z - (log_z - math.log(2))) < 0.1
    # The uniform reference finds both.
    assert abs(annealed_importance_sampling(machine, uniform_schedule(300), 256, 0).log_z - log_z) < 0.1


def test_a_forward_and_a_reverse_estimate_share_no_random_numbers():
    forward, reverse = estimates(rbm((1, 1)), n=2000)
    assert abs(np.corrcoef(forward.log_w, reverse.log_w)[0, 1]) < 0.1


def test_global_generators_are_left_alone():
    state = torch.random.get_rng_state()
    estimates(rbm(), n=10)
    assert (torch.random.get_rng_state() == state).all()


def test_progress_hears_of_every_step_and_may_interrupt(monkeypatch):
    monkeypatch.setitem(annealing.MAX_CHUNK, "cpu", 32)
    heard = []
    betas = uniform_schedule(130)
    annealed_importance_sampling(rbm(), betas, 100, 0, threads=2, report=lambda p: heard.append((p.done, p.total)))
    assert heard == sorted(heard)
    assert heard[-1] == (13_000, 13_000)
    assert len(heard) <= 4 * 66

    def stop(progress):
        raise KeyboardInterrupt

    n_threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        annealed_importance_sampling(rbm(), betas, 100, 0, report=stop)
    assert threading.active_count() == n_threads


def test_schedules():
    assert np.allclose(uniform_schedule(4), [0, 0.25, 0.5, 0.75, 1])
    schedule = Schedule(np.array([0, 0.1, 0.3, 1]))
    fine = betas_along(schedule, 30)
    assert np.allclose(fine[::10], schedule.betas)
    # Rates of 3 : 2 : 1 give the schedule's steps 15, 10 and 5 of 30.
    fine = betas_along(schedule, 30, [0.6, 0.4, 0.2])
    assert np.allclose(fine[[0, 15, 25, 30]], schedule.betas)
    for betas in (fine, betas_along(schedule, 7, [0.5, 0, 0]), betas_along(schedule, 1)):
        Schedule(betas)
    with pytest.raises(ConfigError, match="one per step"):
        betas_along(schedule, 30, [0.5])


def test_settings_and_samples_that_cannot_be_used_are_refused():
    machine, betas = rbm(), uniform_schedule(3)
    with pytest.raises(ConfigError, match="increase strictly"):
        annealed_importance_sampling(machine, [0, 0.6, 0.5, 1], 10, 0)
    with pytest.raises(ConfigError, match="n_chains is 0"):
        annealed_importance_sampling(machine, betas, 0, 0)
    with pytest.raises(ConfigError, match="threads is 0"):
        annealed_importance_sampling(machine, betas, 10, 0, threads=0)
    with pytest.raises(ConfigError, match="fit it to this machine"):
        annealed_importance_sampling(machine, betas, 10, 0, reference=Reference(np.zeros(2), np.zeros(5)))
    for samples in (np.zeros((0, 3)), np.zeros(3), np.zeros((4, 5))):
        with pytest.raises(DataError, match="kept units"):
            reverse_ais(machine, samples, betas, 0)
    for value in (2, -1, 0.5, np.nan):
        with pytest.raises(DataError, match="other than 0 and 1"):
            reverse_ais(machine, np.full((4, 3), value), betas, 0)


def test_weights_that_overflow_are_refused():
    machine = BipartiteMachine.from_arrays(np.full((2, 2), 3e38), np.zeros(2), np.zeros(2))
    with pytest.raises(NumericalError, match="extreme couplings"):
        annealed_importance_sampling(machine, uniform_schedule(10), 10, 0)

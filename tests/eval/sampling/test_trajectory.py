"""Paths along a training: against enumeration, a broken kernel, and the files that hold the machines."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from dvae_core.errors import ConfigError, DataError
from dvae_eval import estimate_log_z
from dvae_eval.exact.plan import exact_log_z
from dvae_eval.log_z import run as tempered
from dvae_eval.machine import BipartiteMachine, machine_from_couplings
from dvae_eval.sampling import replicas_numba
from dvae_eval.sampling.annealing import annealed_importance_sampling, reverse_ais, uniform_schedule
from dvae_eval.sampling.schedule import Schedule
from dvae_eval.sampling.tempering import make_replicas
from dvae_eval.sampling.trajectory import TrajectoryReference
from dvae_eval.trajectory import Trajectory
from tests.oracles import all_states, enumerate_states, log_marginals, worst_p_value
from tests.oracles.trajectories import clustered_data, trained
from tests.replicas import states_and_works

# Rungs at, next to and far from machines of a trajectory of four.
BETAS = np.array([0.0, 0.1, 0.375, 0.8, 1.0])


def random_walk(n, m, n_machines=4, scale=0.6, seed=0):
    """Return RBMs each of which is the one before and noise; the first has no couplings."""
    rng = np.random.default_rng(seed)
    parts = [np.zeros((n, m)), rng.normal(size=n) * scale, rng.normal(size=m) * scale]
    machines = [BipartiteMachine.from_arrays(*parts)]
    for _ in range(n_machines - 1):
        parts = [part + scale * rng.normal(size=part.shape) for part in parts]
        machines.append(BipartiteMachine.from_arrays(*parts))
    return machines


def parameters(machines, t):
    """Return W, b, c at t of the reduced machines, written out for one t."""
    parts = [m.reduced() for m in machines]
    position = t * (len(parts) - 1)
    k = min(int(position), len(parts) - 2)
    x = position - k
    return [(1 - x) * getattr(parts[k], name) + x * getattr(parts[k + 1], name) for name in ("W", "b", "c")]


def log_p(machines, t, v):
    """Return log p~_t(v), float64, of any leading axes."""
    return log_marginals(*parameters(machines, t), v)


# --- the path -------------------------------------------------------------------------------------------------


def test_log_z_along_the_path_is_that_of_all_states_of_all_units():
    """Sums over v and h of the interpolated energy; independent units at t = 0, the last machine at t = 1."""
    machines = random_walk(3, 4)
    reference = TrajectoryReference.of(machines)
    path, v, h = reference.path(machines[-1].reduced()), enumerate_states(3), enumerate_states(4)
    for t in BETAS:
        W, b, c = parameters(machines, t)
        expected = logsumexp((v @ b)[:, None] + h @ c + v @ W @ h.T)
        assert logsumexp(path.log_p(torch.from_numpy(v), t).numpy()) == pytest.approx(expected, abs=1e-12)
    assert expected == pytest.approx(exact_log_z(machines[-1]), abs=1e-12)
    assert reference.log_z == pytest.approx(exact_log_z(machines[0]), abs=1e-12)


def test_a_first_machine_with_couplings_is_preceded_by_its_biases():
    machines = random_walk(3, 4)[2:]
    reference = TrajectoryReference.of(machines)
    assert len(reference.W) == 3
    assert not reference.W[0].any()
    assert np.array_equal(reference.b[0], machines[0].b_left)


def test_a_side_that_is_the_larger_is_summed_out():
    """Left or right, the machines are those of `Machine.reduced`."""
    machines = random_walk(5, 2)
    reference = TrajectoryReference.of(machines)
    assert reference.W.shape == (4, 2, 5)
    path = reference.path(machines[-1].reduced())
    assert logsumexp(path.log_p(all_states(2), 1.0)) == pytest.approx(exact_log_z(machines[-1]))


# --- distributions --------------------------------------------------------------------------------------------

SMALL = {"3x5": (3, 5), "1x1": (1, 1, 2, 2.0), "5x150": (5, 150, 4, 0.2), "6x4": (6, 4, 9)}


def replicas(machines, betas=BETAS, n=400, seed=1, **how):
    reference = TrajectoryReference.of(machines)
    return make_replicas(machines[-1], Schedule(betas), n, seed, 0, reference=reference, **how)


@pytest.mark.parametrize("name", SMALL)
def test_every_rung_has_its_own_distribution(name, engine):
    """4000 states of each of 5 rungs, chi-square, p > 1e-6: false alarm 5e-6 each."""
    machines = random_walk(*SMALL[name])
    t = replicas(machines)
    assert t.engine == engine
    assert worst_p_value(t, partial(log_p, machines)) > 1e-6


def test_gibbs_sweeps_alone_keep_the_distribution(engine):
    machines = random_walk(3, 5)
    t = replicas(machines)
    t.run = lambda n: t.sweep(BETAS, n)
    assert worst_p_value(t, partial(log_p, machines)) > 1e-6


def break_biases(t, machines, engine):
    """Let sweeps have the kept units' biases at the square of t; works keep those at t."""
    reference = TrajectoryReference.of(machines)
    wrong = reference.at(t.schedule.betas**2)[1]
    if engine == "numba":
        (chains,) = t.chains
        chains.model.tables(t.betas).own_v[:, : wrong.shape[1]] = wrong
    else:
        t.machines.b[:] = t.machines.b.new_tensor(wrong[:, None])


def test_biases_that_sweeps_interpolate_wrongly_are_rejected(engine):
    machines = random_walk(3, 5)
    t = replicas(machines)
    break_biases(t, machines, engine)
    assert worst_p_value(t, partial(log_p, machines)) < 1e-10


# --- works ----------------------------------------------------------------------------------------------------

WORKS = {**SMALL, "17x33": (17, 33), "40x1100": (40, 1100, 3, 0.3), "130x300": (130, 300, 3, 0.2)}


@pytest.mark.parametrize("name", WORKS)
def test_works_are_those_of_the_formula(name, engine):
    """In float64, at the very states: to 2e-6 of all that is added up."""
    machines, betas = random_walk(*WORKS[name]), np.array([0.0, 0.25, 0.625, 1.0])
    v, works = states_and_works(replicas(machines, betas, 5, 3))
    logs = np.array([[log_p(machines, t, v[:, k]) for t in betas] for k in range(len(betas))])
    size = 1 + max(float(sum(np.abs(x).sum() for x in parameters(machines, t))) for t in betas) / 10
    for k in range(3):
        assert works.forward[0, :, k] == pytest.approx(logs[k, k] - logs[k, k + 1], abs=2e-6 * size)
        assert works.reverse[0, :, k] == pytest.approx(logs[k + 1, k + 1] - logs[k + 1, k], abs=2e-6 * size)
    quotient = (logs[1, 2] - logs[1, 0]) / (betas[2] - betas[0])
    assert works.energies[0, :, 1] == pytest.approx(quotient, abs=1e-5 * size)


def test_a_run_goes_on_where_it_was_interrupted_whatever_the_threads(engine):
    machines = random_walk(17, 33)
    whole = replicas(machines, n=6)
    expected = whole.run(20)
    first = replicas(machines, n=6, threads=2)
    first.run(7)
    second = replicas(machines, n=6, threads=3)
    second.load_state_dict(first.state_dict())
    assert np.array_equal(second.run(13).forward, expected.forward[7:])
    assert np.array_equal(second.v, whole.v)


# --- estimates ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def training():
    """Five tight clusters, 40 visible and 6 hidden units: some machines kept at equal acceptance."""
    return trained(clustered_data(40, 5, 0.05, 200), 6, 800, 0.04)


@pytest.fixture
def along(monkeypatch):
    """Let the path along the training be taken, whatever the barriers."""
    monkeypatch.setattr(tempered, "shorter_path", lambda *barriers: "trajectory")


QUICK = {"method": "pt-bar", "n_sweeps": 1000, "n_replicates": 16}


def z_scores(machines, n_seeds):
    """Return (estimate - exact) / error of log Z of the last machine and of each of the others, (n_seeds, n)."""
    exact = np.array([exact_log_z(machine) for machine in machines])
    scores = []
    for seed in range(n_seeds):
        result = estimate_log_z(machines[-1], **QUICK, seed=seed, trajectory=machines)
        curve = result.diagnostics["trajectory"]
        assert curve["log_z"][-1] == result.log_z
        assert curve["log_z"][0] == pytest.approx(exact[0], abs=1e-9)  # independent units
        scores.append((np.array(curve["log_z"]) - exact)[1:] / np.array(curve["std_err"])[1:])
    return np.array(scores)


def test_log_z_of_every_machine_is_within_its_error(training, along):
    """25 seeds, 4 machines each: |z| < 5.5, of Student's t with 15 degrees of freedom: false alarm 0.6 % in all.

    The mean of the last one's z lies within 4 of its own errors, the spread of all in [0.75, 1.4].
    """
    z = z_scores(training[0], 25)
    assert np.abs(z).max() < 5.5
    assert abs(z[:, -1].mean()) < 4 * 1.1 / 5
    assert 0.75 < z.std() < 1.4


@pytest.mark.slow
def test_errors_along_a_training_are_neither_too_small_nor_too_large(training, along):
    """200 seeds: Student's t with 15 degrees of freedom has a spread of 1.07, to 0.06 at so many."""
    z = z_scores(training[0], 200)
    assert (np.abs(z.mean(0)) < 4 * 1.1 / np.sqrt(200)).all()
    assert ((z.std(0) > 0.85) & (z.std(0) < 1.35)).all()


def test_sweeps_with_wrong_biases_are_rejected(training, along, monkeypatch):
    """The same estimate with Gibbs at other biases than works, by 0.75 nats half-way: 10 errors off."""
    right = replicas_numba.TrajectoryModel._made

    def wrong(self, t):
        tables = right(self, t)
        tables.own_v[:, : self.n_kept] += 3 * (t * (1 - t))[:, None]
        return tables

    monkeypatch.setattr(replicas_numba.TrajectoryModel, "_made", wrong)
    assert np.abs(z_scores(training[0], 1)).max() > 10


def test_the_path_with_the_smaller_barrier_is_taken(training):
    """A training in equilibrium is shorter than β; one that goes astray on its way is not."""
    machines = training[0]
    exact = exact_log_z(machines[-1])
    rng = np.random.default_rng(0)
    astray = [
        machines[0],
        *(
            BipartiteMachine.from_arrays(*(2 * rng.normal(size=x.shape) for x in (m.W, m.b_left, m.b_right)))
            for m in machines[1:-1]
        ),
        machines[-1],
    ]
    for given, chosen in ((machines, "trajectory"), (astray, "beta")):
        result = estimate_log_z(machines[-1], **QUICK, seed=2, trajectory=given)
        path = result.diagnostics["path"]
        assert path["chosen"] == chosen
        assert (path["barrier_trajectory"] <= path["barrier_beta"]) == (chosen == "trajectory")
        assert ("trajectory" in result.diagnostics) == (chosen == "trajectory")
        assert abs(result.log_z - exact) < 5 * result.std_err


def test_without_a_trajectory_nothing_changes(training):
    """The path in β gives the number that it gives without any other."""
    machine = training[0][-1]
    assert estimate_log_z(machine, **QUICK, path="beta").log_z == estimate_log_z(machine, **QUICK).log_z


def test_an_estimate_goes_on_where_it_was_interrupted(training, along, tmp_path, monkeypatch):
    machines = training[0]
    whole = estimate_log_z(machines[-1], **QUICK, trajectory=machines)
    monkeypatch.setattr(tempered, "SAVE_SECONDS", 0.0)

    class Killed(Exception):
        pass

    def kill(phase, done, total, log_z, std_err):
        if phase == "tempering" and done > 400:
            raise Killed

    monkeypatch.setattr(tempered, "REPORT_SECONDS", 0.0)
    partial = tmp_path / "partial.npz"
    with pytest.raises(Killed):
        estimate_log_z(machines[-1], **QUICK, trajectory=machines, partial=partial, progress=kill)
    monkeypatch.setattr(tempered.TemperedRun, "adapt", None)  # it is not adapted again
    again = estimate_log_z(machines[-1], **QUICK, trajectory=machines, partial=partial)
    assert (again.log_z, again.diagnostics["path"]) == (whole.log_z, whole.diagnostics["path"])


def test_annealing_along_a_training_brackets_log_z(training):
    """Forward on average low, back high, and each within 5 errors."""
    machines = training[0]
    reference = TrajectoryReference.of(machines)
    how = {"betas": uniform_schedule(200), "seed": 0, "reference": reference}
    exact = exact_log_z(machines[-1])
    forward = annealed_importance_sampling(machines[-1], n_chains=200, **how)
    assert abs(forward.log_z - exact) < 5 * forward.std_err
    t = make_replicas(machines[-1], Schedule.uniform(8), 200, 0, 0, reference=reference)
    t.run(200)
    back = reverse_ais(machines[-1], t.v[:, -1], **how)
    assert abs(back.log_z - exact) < 5 * back.std_err


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"trajectory": []}, ConfigError, "trajectory: is empty"),
        ({"trajectory": [random_walk(3, 4)[0]]}, DataError, "3x4, the last one 40x6"),
        (
            {"trajectory": [machine_from_couplings(np.triu(np.ones((3, 3)), 1), np.ones(3))]},
            ConfigError,
            "not an RBM",
        ),
        ({"path": "trajectory"}, ConfigError, "give trajectory"),
        ({"path": "trajectory", "energies": "joint"}, ConfigError, "--energies joint"),
        ({"path": "trajectory", "reference": "modes"}, ConfigError, "--reference modes"),
    ],
)
def test_what_is_no_path_is_refused(training, settings, error, message):
    with pytest.raises(error, match=message) as caught:
        estimate_log_z(training[0][-1], method="pt-bar", **settings)
    assert "\n" not in str(caught.value)


def test_a_trajectory_ends_with_the_machine_that_is_measured(training):
    machines = training[0]
    found = Trajectory.of(machines[:-1], [1, 5, 7, 9]).ending_with(machines[-1], 2.0)
    assert (found.steps, found.constants) == ((1, 5, 7, 9, 10), (0.0, 0.0, 0.0, 0.0, 2.0))
    assert found.ending_with(machines[-1], 2.0) is found


def test_where_log_z_is_exact_it_is_along_the_training_as_well(training):
    machines = training[0]
    found = estimate_log_z(machines[-1], trajectory=machines)
    assert found.method == "exact"
    assert found.diagnostics["trajectory"]["log_z"] == [exact_log_z(machine) for machine in machines]


def test_an_earlier_machine_that_float32_cannot_hold_is_refused(training):
    machines = training[0]
    huge = BipartiteMachine.from_arrays(1e9 * machines[2].W, machines[2].b_left, machines[2].b_right)
    with pytest.raises(ConfigError, match="float32 does not resolve a nat"):
        estimate_log_z(machines[-1], method="pt-bar", trajectory=[machines[0], huge])


def test_sweeps_at_other_places_than_the_rungs_keep_the_distribution_there(engine):
    """As annealing does, with some rungs at one place; then at places of its own."""
    machines = random_walk(3, 5)
    for places in (np.minimum(BETAS, 0.375), np.array([0.05, 0.2, 0.4, 0.85, 0.9])):
        t = replicas(machines)
        t.run = lambda n, t=t, places=places: t.sweep(places, n)
        t.sweep(places, 50)
        t.schedule = type("Places", (), {"betas": places})
        assert worst_p_value(t, partial(log_p, machines)) > 1e-6

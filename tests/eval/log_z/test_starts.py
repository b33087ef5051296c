"""Starts from given states: units in their places, basins found from them, a bound, and a check that can fail."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logsumexp

from dvae_core.errors import DataError
from dvae_eval.config import LogZConfig
from dvae_eval.log_z import run as tempered
from dvae_eval.log_z.bar import Bridge
from dvae_eval.log_z.checks import check_given_starts, check_known_states, student_limit
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.log_z.run import TemperedRun
from dvae_eval.machine import BipartiteMachine, machine_from_couplings
from dvae_eval.sampling.basins import find_basins
from dvae_eval.sampling.lower_bound import mean_field_bounds, weight_of_states
from dvae_eval.sampling.replicas_numba import CompiledReplicas
from dvae_eval.starts import MOST, Starts, coupled_kept_states
from dvae_eval.test_machines.graphs import complete
from dvae_eval.test_machines.rbms import from_spins, random_rbm
from tests.broken import blind_search
from tests.eval.log_z.test_log_z import interrupted, without_exchange
from tests.eval.sampling.test_basins import detectors
from tests.oracles import enumerate_states, log_weights

QUICK = {"method": "pt-bar", "n_sweeps": 400, "threads": 1}


def check_of(result, words):
    """Return the one check of a result whose name has these words."""
    (found,) = [check for check in result.checks if words in check.name]
    return found


# --- which units are which --------------------------------------------------------------------------------------


def shuffled_bipartite():
    """J and b of an RBM of 4 and 5 units whose units stand in any order, two of them without a coupling."""
    rng = np.random.default_rng(0)
    J, order = np.zeros((11, 11)), rng.permutation(11)
    J[np.ix_(order[:4], order[4:9])] = rng.normal(size=(4, 5))
    return np.triu(J + J.T, 1), rng.normal(size=11)


def general():
    """J and b of nine units that are not bipartite, and one without a coupling between them."""
    rng = np.random.default_rng(1)
    J = np.triu(rng.normal(size=(10, 10)) * (rng.random((10, 10)) < 0.5), 1)
    J[0, 1:3] = J[1, 2] = 1.0
    J[4], J[:, 4] = 0, 0
    return J, rng.normal(size=10)


def with_sides(shape):
    """J and b of W and two biases, left units first, and the machine of these; some units have no coupling."""
    rng = np.random.default_rng(sum(shape))
    W = rng.normal(size=shape)
    W[1], W[:, 2:4] = 0, 0
    left, right = (rng.normal(size=n) for n in shape)
    J = np.zeros((sum(shape), sum(shape)))
    J[: shape[0], shape[0] :] = W
    return J, np.concatenate((left, right)), BipartiteMachine.from_arrays(W, left, right)


CASES = {
    "shuffled": lambda: (*shuffled_bipartite(), machine_from_couplings(*shuffled_bipartite())),
    "general": lambda: (*general(), machine_from_couplings(*general())),
    "left is smaller": lambda: with_sides((4, 6)),
    "right is smaller": lambda: with_sides((6, 5)),
    "right is smaller once units are left out": lambda: with_sides((5, 6)),
}


@pytest.mark.parametrize("name", CASES)
def test_states_of_all_units_come_to_the_units_that_they_are_of(name):
    """By definition: of all states that agree in the kept units, the weights add up to p~ of these units."""
    J, b, machine = CASES[name]()
    states = enumerate_states(len(b))
    log_p = log_weights(J, b, states)
    kept = coupled_kept_states(machine, states.astype(np.uint8), 0)
    coupled, alone = machine.without_isolated_units()
    reduced = coupled.reduced()
    distinct, which = np.unique(kept, axis=0, return_inverse=True)
    assert distinct.shape == (2 ** len(reduced.b), len(reduced.b))
    summed = np.array([logsumexp(log_p[which.ravel() == i]) for i in range(len(distinct))])
    assert np.allclose(summed, mean_field_bounds(reduced, reduced.W, distinct.astype(float)) + alone)
    # Units in any other order would not pass.
    turned = coupled_kept_states(machine, states[:, ::-1].astype(np.uint8), 0)
    summed = [logsumexp(log_p[(turned == state).all(1)]) for state in distinct]
    assert not np.allclose(summed, mean_field_bounds(reduced, reduced.W, distinct.astype(float)) + alone)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_other_side_is_drawn_given_the_one(shape, side):
    """Each unit is on as often as its field says, |z| < 5 of at most 5 units: false alarm 3e-6."""
    machine, _ = random_rbm(3, shape, 1.0)
    n = shape[side == "right"]
    state = np.arange(n) % 2
    kept = coupled_kept_states(machine, np.repeat(state[None], MOST, 0), 0)
    if n == min(shape):
        assert (kept == state).all()
        return
    fields = machine.b_left + machine.W @ state if side == "right" else machine.b_right + state @ machine.W
    p = expit(fields)
    assert (np.abs(kept.mean(0) - p) < 5 * np.sqrt(p * (1 - p) / MOST)).all()
    assert np.ptp(p) > 0.2  # so that another order of the units would not pass


def test_states_of_minus_one_and_one_are_the_same_states():
    machine, _ = random_rbm(0, (5, 7), 1.0)
    states = np.random.default_rng(0).integers(0, 2, (30, 12))
    kept = coupled_kept_states(machine, states, 0)
    for same in (2 * states - 1, states.astype(bool), states.astype(float), 2.0 * states - 1):
        assert (coupled_kept_states(machine, same, 0) == kept).all()
        assert Starts(same).description() == Starts(states).description()


@pytest.mark.parametrize(
    ("states", "words"),
    [
        (np.zeros((4, 9)), r"states of 9 units; give states of 12 \(all units\) or 7 \(the right side\) or 5"),
        (np.zeros((0, 12)), "at least one state"),
        (np.zeros(12), "at least one state"),
        (np.full((4, 12), 0.5), "0 and 1, or -1 and"),
        (np.arange(-1, 2).repeat(4).reshape(1, 12), "0 and 1, or -1 and"),
        (np.full((4, 12), np.nan), "0 and 1, or -1 and"),
        ([["a", "b"]], "real numbers"),
    ],
)
def test_what_is_no_state_is_refused(states, words):
    machine, _ = random_rbm(0, (5, 7), 1.0)
    with pytest.raises(DataError, match=f"starts: .*{words}"):
        estimate_log_z(machine, **QUICK, starts=states)


def test_a_machine_without_sides_of_its_own_takes_states_of_all_units_alone():
    machine = machine_from_couplings(*shuffled_bipartite())
    assert isinstance(machine, BipartiteMachine)
    with pytest.raises(DataError, match=r"give states of 11 \(all units\) of the machine"):
        estimate_log_z(machine, **QUICK, starts=np.zeros((3, machine.n_left)))


# --- basins and bounds ------------------------------------------------------------------------------------------


@pytest.fixture
def blind(monkeypatch):
    blind_search(monkeypatch)


def hidden_pattern():
    """A machine whose one deep basin holds all but 1e-7 of its mass, log Z to 1e-3, and the state there."""
    machine, log_z = detectors(40, 41, 0.0)
    pattern = np.random.default_rng(0).random((41, 40))[0] < 0.5
    return machine, log_z, pattern.astype(np.uint8)


def test_a_basin_that_no_search_finds_is_found_from_a_state_near_it(blind):
    machine, exact, pattern = hidden_pattern()
    reduced = machine.reduced()
    near = pattern ^ (np.arange(40) < 2)
    assert find_basins(reduced, 0).lower_bound.value < exact - 10
    found = find_basins(reduced, 0, given=np.stack([np.zeros(40, np.uint8), near]))
    assert abs(found.lower_bound.value - exact) < 1e-3
    assert np.abs(found.means[0] - pattern).max() < 0.05
    # States that know nothing find nothing.
    others = np.random.default_rng(1).integers(0, 2, (50, 40)).astype(np.uint8)
    assert find_basins(reduced, 0, given=others).lower_bound.value < exact - 10


def test_no_start_makes_a_bound_that_is_above_the_exact_value():
    """Of any states given to small machines of all kinds; a wrong weight, of every state twice, is above it."""
    n_above = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        n = rng.integers(4, 9)
        J = np.triu(rng.normal(size=(n, n)) * rng.choice([0.5, 3]) * (rng.random((n, n)) < 0.7), 1)
        J[0, 1:3] = J[1, 2] = 1.0
        b = rng.normal(size=n)
        states = enumerate_states(n)
        exact = logsumexp(log_weights(J, b, states))
        machine = machine_from_couplings(J, b)
        given = coupled_kept_states(machine, states[rng.integers(len(states), size=2 ** rng.integers(0, 10))], 0)
        coupled, alone = machine.without_isolated_units()
        reduced = coupled.reduced()
        assert find_basins(reduced, 0, given=given).lower_bound.value + alone <= exact
        weight = weight_of_states(reduced, given) + alone
        assert weight <= exact
        n_above += weight + np.log(2) > exact
    assert n_above > 20


def test_an_estimate_below_the_weight_of_given_states_is_refused(blind):
    """Without starts the estimate is 16 nats low, and every check passes."""
    machine, exact, pattern = hidden_pattern()
    alone = estimate_log_z(machine, **QUICK)
    assert alone.trustworthy
    assert alone.log_z < exact - 10
    known = estimate_log_z(machine, **QUICK, starts=pattern[None])
    assert abs(known.diagnostics["weight_of_states"] - exact) < 1e-3
    assert abs(known.diagnostics["lower_bound"] - exact) < 1e-3
    assert not check_known_states(alone.log_z, alone.std_err, known.diagnostics["weight_of_states"], 4.5).passed
    assert known.trustworthy <= (abs(known.log_z - exact) < 6 * known.std_err)


@pytest.mark.parametrize("settings", [{"method": "ais"}, {"method": "reverse-ais"}])
def test_annealing_is_held_against_the_given_states_as_well(settings, blind):
    machine, exact, pattern = hidden_pattern()
    how = {**settings, "n_sweeps": 50, "n_chains": 64, "threads": 1}
    result = estimate_log_z(machine, **how, starts=pattern[None])
    assert abs(result.diagnostics["weight_of_states"] - exact) < 1e-3
    assert result.settings["starts"]["n_states"] == 1


# --- the third group --------------------------------------------------------------------------------------------


def test_a_third_of_the_replicates_starts_from_the_given_states():
    """On every rung of theirs, each state as often as any other; the others start as they would."""
    machine, _ = random_rbm(0, (12, 30), 1.0)
    states = np.random.default_rng(0).integers(0, 2, (7, 12)).astype(np.uint8)
    run = TemperedRun(machine, LogZConfig(), starts=states)
    assert (run.n_ordered, run.n_given) == (11, 10)
    given = run._given(13)
    assert given.shape == (10, 13, 12)
    _, counts = np.unique(given.reshape(-1, 12), axis=0, return_counts=True)
    assert len(counts) == 7
    assert np.ptp(counts) <= 1
    for n, groups in ((2, (1, 0)), (5, (2, 0)), (6, (2, 2)), (8, (3, 2))):
        few = TemperedRun(machine, LogZConfig(n_replicates=n), starts=states)
        assert (few.n_ordered, few.n_given) == groups
    assert TemperedRun(machine, LogZConfig()).n_given == 0


def bridge_of(replicates):
    """Return a bridge of one block whose replicates have these estimates."""
    fields = {f.name: None for f in dataclasses.fields(Bridge)}
    return Bridge(**{**fields, "influence": replicates[None]})


@pytest.mark.parametrize("n", [6, 8, 32])
def test_the_check_of_given_starts_fails_as_often_as_it_says(n):
    """10 000 sound runs: the larger of two distances has the tail of its limit, within 5 standard deviations.

    Bonferroni's limit is at most a little wide: differences from one group are correlated.  False alarm 6e-7.
    """
    rng = np.random.default_rng(n)
    checks = [check_given_starts(bridge_of(rng.normal(size=n)), n // 3) for _ in range(10_000)]
    values = np.array([check.value for check in checks])
    assert checks[0].threshold == student_limit(n - 2, 2)
    for alarm in (0.2, 0.05):
        limit = stats.t.ppf(1 - alarm / 4, n - 3)
        share, error = (values > limit).mean(), np.sqrt(alarm / len(values))
        assert 0.75 * alarm - 5 * error < share < alarm + 5 * error
    broken = [check_given_starts(bridge_of(rng.normal(size=n) + 20 * (np.arange(n) >= n - n // 3)), n // 3)]
    assert not broken[0].passed or n < 8  # of two replicates a group, hardly anything is certain


@pytest.mark.parametrize("seed", range(12))
def test_no_false_alarm_where_all_forget_where_they_began(seed):
    """The check fails a sound run once in 10 000; |z| < 6 with 31 degrees of freedom: 1.2e-6 each."""
    machine, exact = random_rbm(seed, (12, 30), 1.0)
    states = np.zeros((1, 42)) if seed % 2 else np.random.default_rng(seed).integers(0, 2, (100, 42))
    result = estimate_log_z(machine, **QUICK, seed=seed, starts=states)
    assert check_of(result, "given and other starts").passed
    assert abs(result.log_z - exact) < 6 * result.std_err
    assert set(result.diagnostics["starts"]) == {"random", "ordered", "given"}


def test_replicates_that_stay_where_they_were_given_to_start_are_found_out(monkeypatch):
    """Replicas that never exchange, in a machine with two modes, and states from the side of the heavier one."""
    W, a, b, _ = from_spins(np.full((16, 60), 0.1), (np.full(16, 0.2), np.zeros(60)))
    machine = BipartiteMachine.from_arrays(W, a, b)
    heavier = np.ones((1, 16), np.uint8)
    result = estimate_log_z(machine, **QUICK, starts=heavier)
    assert check_of(result, "given and other starts").passed
    monkeypatch.setattr(CompiledReplicas, "run", without_exchange(CompiledReplicas.run))
    lighter = dataclasses.replace(find_basins(machine.reduced(), 0), means=np.full((1, 16), 1e-3))
    monkeypatch.setattr(tempered, "find_basins", lambda *_, **__: lighter)
    result = estimate_log_z(machine, **QUICK, starts=heavier)
    assert not check_of(result, "given and other starts").passed
    assert not result.trustworthy


def test_a_hidden_basin_that_only_the_given_states_know_fails_the_check(blind, monkeypatch):
    """The pattern is kept from the search: replicates that start elsewhere never come to it."""
    machine, _, pattern = hidden_pattern()
    monkeypatch.setattr(tempered, "find_basins", lambda *args, given, **how: find_basins(*args, **how))
    result = estimate_log_z(machine, **QUICK, starts=pattern[None])
    assert not check_of(result, "given and other starts").passed
    assert result.diagnostics["starts"]["given"] > result.diagnostics["starts"]["random"] + 1


# --- the estimate as a whole ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rbm", "complete"])
def test_the_number_of_threads_does_not_matter(name):
    machine = (random_rbm(11, (12, 30), 1.0) if name == "rbm" else complete(14, 12, 3.0))[0]
    states = np.random.default_rng(0).integers(0, 2, (40, machine.n_units))
    one, two = (estimate_log_z(machine, method="pt-bar", n_sweeps=200, threads=n, starts=states) for n in (1, 2))
    assert one.repeats == two.repeats
    assert one.diagnostics["weight_of_states"] == two.diagnostics["weight_of_states"]


def test_a_killed_run_continues_from_its_starts_to_the_same_number(tmp_path, monkeypatch):
    monkeypatch.setattr(tempered, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(tempered, "REPORT_SECONDS", 0.0)
    machine, _ = random_rbm(11, (12, 30), 1.0)
    states = np.random.default_rng(0).integers(0, 2, (40, 30))
    path = tmp_path / "partial.npz"
    settings = {"method": "pt-bar", "n_sweeps": 640, "seed": 5, "starts": states}
    whole = estimate_log_z(machine, **settings, threads=1)
    interrupted(machine, path, 4, **settings)
    again = estimate_log_z(machine, **settings, partial=path, threads=1)
    assert (again.log_z, again.repeats) == (whole.log_z, whole.repeats)
    for name in ("lower_bound", "weight_of_states", "starts", "running"):
        assert again.diagnostics[name] == whole.diagnostics[name]
    path.unlink()  # What was done from other starts is not continued.
    interrupted(machine, path, 4, **settings)
    for other in (None, 1 - states):
        fresh, resumed = (
            estimate_log_z(machine, **{**settings, "starts": other}, partial=p, threads=1) for p in (None, path)
        )
        assert resumed.repeats == fresh.repeats


def test_repeats_share_the_starts():
    machine, exact = random_rbm(11, (12, 30), 1.0)
    states = np.random.default_rng(0).integers(0, 2, (40, 42))
    result = estimate_log_z(machine, method="pt-bar", n_sweeps=200, n_repeats=3, threads=1, starts=states)
    assert check_of(result, "given and other starts").passed
    assert abs(result.log_z - exact) < 8 * result.std_err


def test_an_exact_value_asks_for_no_states():
    machine, exact = random_rbm(11, (12, 30), 1.0)

    def never():
        raise AssertionError("states were asked for")

    result = estimate_log_z(machine, starts=never)
    assert (result.method, "starts" in result.settings) == ("exact", False)
    assert abs(result.log_z - exact) < 1e-9


def test_a_function_returns_states_when_they_are_needed():
    machine, _ = random_rbm(11, (12, 30), 1.0)
    states = np.random.default_rng(0).integers(0, 2, (40, 42))
    given = estimate_log_z(machine, **QUICK, starts=Starts(states, {"from": "here"}))
    called = estimate_log_z(machine, **QUICK, starts=lambda: Starts(2 * states - 1, {"from": "here"}))
    assert called.repeats == given.repeats
    assert called.settings["starts"] == given.settings["starts"]
    assert given.settings["starts"]["from"] == "here"
    assert given.settings["starts"]["n_states"] == 40
    without = estimate_log_z(machine, **QUICK, starts=lambda: None)
    assert "starts" not in without.settings
    assert without.repeats == estimate_log_z(machine, **QUICK).repeats != given.repeats

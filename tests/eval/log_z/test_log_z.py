"""log Z by parallel tempering and BAR, and by annealing, against exact values; the verdict; resuming."""

import dataclasses

import numpy as np
import pytest

import dvae_eval
from dvae_core.errors import ConfigError, DataError
from dvae_eval.config import LogZConfig
from dvae_eval.exact.plan import exact_log_z
from dvae_eval.log_z import run as tempered
from dvae_eval.log_z.checks import check_abrupt, longer
from dvae_eval.log_z.estimate_log_z import estimate_log_z
from dvae_eval.log_z.renewal import promised_share
from dvae_eval.machine import BipartiteMachine
from dvae_eval.sampling.lower_bound import LowerBound
from dvae_eval.sampling.replicas_numba import CompiledReplicas
from dvae_eval.sampling.schedule import Schedule
from dvae_eval.sampling.tempering import make_replicas
from dvae_eval.test_machines.graphs import complete, torus
from dvae_eval.test_machines.rbms import blocks, curie_weiss, golf_hole, planted, random_rbm, trained
from tests.oracles import enumerate_states

QUICK = {"method": "pt-bar", "n_sweeps": 800, "threads": 1}


def huge():
    rng = np.random.default_rng(11)
    W, a, b = rng.uniform(-50, 50, (8, 10)), rng.normal(size=8), rng.normal(size=10)
    machine = BipartiteMachine.from_arrays(W, a, b)
    return machine, exact_log_z(machine)


def one_unit_sides():
    machine = BipartiteMachine.from_arrays([[3.0]], [-0.4], [0.7])
    return machine, float(np.log(1 + np.exp(-0.4) + np.exp(0.7) + np.exp(3.3)))


MODELS = {
    "random": lambda: random_rbm(11, (12, 30), 1.0),
    "strong": lambda: random_rbm(12, (12, 30), 6.0),
    "planted": lambda: planted(11, (14, 40), 0.25),
    "blocks": lambda: blocks(13, 8, (8, 8), 1.0),
    "curie-weiss": lambda: curie_weiss(64, 80, 0.06, -2.4, -1.9),
    "complete": lambda: complete(14, 12, 3.0),
    "torus": lambda: torus(6, 6, 0.4),
    "huge": huge,
    "one unit": one_unit_sides,
}


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_the_exact_value(name):
    """|z| < 6 with 31 degrees of freedom: false alarm 1.2e-6 each; and the error must be small."""
    machine, exact = MODELS[name]()
    result = estimate_log_z(machine, **QUICK, seed=1)
    assert result.trustworthy, result.reasons
    assert abs(result.log_z - exact) < 6 * result.std_err
    assert 0 < result.std_err < 0.15
    assert result.diagnostics["stopped"] == "sweeps"


@pytest.mark.parametrize(
    "settings",
    [
        {"reference": "fitted"},
        {"energies": "joint"},
        {"exchange": "random"},
        {"energies": "joint", "exchange": "random", "burn_in": 0.5},
        {"sandwich": True, "n_chains": 200},
    ],
)
def test_every_way_agrees_with_the_exact_value(settings):
    """As above."""
    machine, exact = MODELS["random"]()
    result = estimate_log_z(machine, **QUICK, **settings, seed=2)
    assert result.trustworthy, result.reasons
    assert abs(result.log_z - exact) < 6 * result.std_err


def test_a_fitted_base_shortens_the_ladder():
    machine, _ = MODELS["random"]()
    uniform, fitted = (
        estimate_log_z(machine, **QUICK, reference=reference) for reference in ("uniform", "fitted")
    )
    assert len(fitted.diagnostics["betas"]) < len(uniform.diagnostics["betas"])
    assert fitted.std_err < uniform.std_err


@pytest.mark.parametrize("method", ["ais", "reverse-ais"])
def test_annealing_agrees_and_says_its_bounds(method):
    """|z| < 6 with 15 degrees of freedom: false alarm 2.4e-5; the bounds hold with 95% each."""
    machine, exact = MODELS["planted"]()
    result = estimate_log_z(machine, method=method, n_sweeps=400, n_chains=400, seed=0, threads=1)
    assert result.trustworthy, result.reasons
    assert result.method == method
    assert abs(result.log_z - exact) < 6 * result.std_err
    found = result.diagnostics["sandwich"]
    assert found["lower_bound"] < exact < found["upper_bound"]


def test_annealing_that_is_too_quick_is_not_trusted():
    machine, _ = random_rbm(3, (14, 200), 8.0)
    result = estimate_log_z(machine, method="ais", n_sweeps=20, n_chains=100, threads=1)
    assert not result.trustworthy


def test_annealing_takes_no_precision():
    with pytest.raises(ConfigError, match="--precision"):
        estimate_log_z(MODELS["random"]()[0], method="ais", precision=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"n_sweeps": 800}, {"precision": 0.02}])
@pytest.mark.parametrize("name", MODELS)
def test_standard_errors_are_true(name, settings):
    """z-scores of 100 seeds: sd in [0.75, 1.25] (p < 1e-3; the larger of two makes it 0.95), mean near 0."""
    machine, exact = MODELS[name]()
    results = [estimate_log_z(machine, method="pt-bar", **settings, seed=seed) for seed in range(100)]
    scores = np.array([(r.log_z - exact) / r.std_err for r in results])
    assert 0.75 < scores.std() < 1.25
    assert abs(scores.mean()) < 4 * 1.1 / 10
    covered = np.mean([low <= exact <= high for low, high in (r.ci95 for r in results)])
    assert covered > 0.87
    assert np.mean([r.trustworthy for r in results]) > 0.97


def test_a_precision_is_reached_and_more_of_it_takes_longer():
    machine, exact = MODELS["random"]()
    rough, fine = (estimate_log_z(machine, method="pt-bar", precision=p, threads=1) for p in (0.02, 0.005))
    for result, precision in ((rough, 0.02), (fine, 0.005)):
        assert result.std_err <= precision
        assert result.diagnostics["stopped"] == "precision"
        assert abs(result.log_z - exact) < 6 * result.std_err
    assert fine.diagnostics["n_sweeps"] > 2 * rough.diagnostics["n_sweeps"]


def test_a_time_limit_ends_the_run_with_an_honest_error():
    machine, exact = MODELS["strong"]()
    result = estimate_log_z(machine, method="pt-bar", precision=1e-5, time_limit=1.0, threads=1)
    assert result.diagnostics["stopped"] == "time limit"
    assert result.std_err > 1e-5
    assert abs(result.log_z - exact) < 6 * result.std_err
    assert result.wall_seconds < 20


@pytest.mark.parametrize("seed", range(4))
def test_a_fitted_reference_that_misses_a_cluster_is_refused(seed):
    """Five tight clusters: 0.33 to 0.47 nats low, 4 to 6 claimed errors, with thousands of round trips.

    The bound of the deepest basin is 0.96 nats below the exact value and says nothing; that of all basins is exact
    to a thousandth.  Seed 1 has too few independent blocks, and was not trusted before.
    """
    machine, exact = trained("clusters-80x10")
    result = estimate_log_z(machine, method="pt-bar", reference="fitted", n_sweeps=32_000, seed=seed)
    assert exact - 1e-3 < result.diagnostics["lower_bound"] < exact
    assert result.log_z < exact - 0.25
    assert not result.trustworthy
    assert seed == 1 or any("strict bound" in reason for reason in result.reasons)
    assert any("changes abruptly" in reason for reason in result.reasons)


@pytest.mark.parametrize("method", ["pt-bar", "ais", "reverse-ais"])
@pytest.mark.parametrize("repeats", [1, 2])
def test_every_estimate_is_held_against_the_bound(method, repeats, monkeypatch):
    """A bound that is 10 nats too high stands for estimates that are as much too low."""
    machine, exact = MODELS["planted"]()
    settings = {"n_sweeps": 400, "n_repeats": repeats, "threads": 1}
    result = estimate_log_z(machine, method=method, **settings)
    assert result.diagnostics["lower_bound"] <= exact
    assert result.diagnostics["n_basins"] >= 2
    high = lambda self: LowerBound(exact + 10, self.basins.means)  # noqa: E731
    monkeypatch.setattr(tempered.TemperedRun, "lower_bound", high)
    refused = estimate_log_z(machine, method=method, **settings)
    failed = [check["name"] for check in refused.diagnostics["checks"] if not check["passed"]]
    assert refused.log_z == result.log_z
    assert sum("strict bound" in name for name in failed) == repeats


def test_states_that_are_never_renewed_are_not_trusted(monkeypatch):
    """Without exchanges no state at β = 1 ever was at β = 0; with them all are, soon."""
    machine, _ = MODELS["random"]()
    renewed = estimate_log_z(machine, **QUICK).diagnostics["renewal"]
    assert renewed["coldest"] == 0
    assert renewed["promised"] < 0.2
    assert promised_share(0.0, 32) == 1
    monkeypatch.setattr(CompiledReplicas, "run", without_exchange(CompiledReplicas.run))
    assert estimate_log_z(machine, **QUICK).diagnostics["renewal"]["coldest"] == 1


def test_few_blocks_do_where_the_energy_is_smooth_and_not_where_it_jumps():
    assert check_abrupt(0.2, 6.5).passed
    assert not check_abrupt(0.8, 7.4).passed
    assert check_abrupt(180.0, 46.0).passed


def test_a_golf_hole_is_not_trusted():
    """Tempering from random states is 15 nats low with perfect exchange rates; the strict bound shows it."""
    machine, exact = golf_hole(100, 40, 0.2, 0.9)
    result = estimate_log_z(machine, **QUICK)
    assert not result.trustworthy
    assert any("strict bound" in reason for reason in result.reasons)
    assert result.log_z < exact - 5


def test_starts_that_do_not_forget_are_not_trusted(monkeypatch):
    """Replicates that are kept in one mode each: replicas that never exchange, in a machine with two modes."""
    machine, _ = planted(5, (16, 60), 0.5, field=0.02)
    monkeypatch.setattr(CompiledReplicas, "run", without_exchange(CompiledReplicas.run))
    result = estimate_log_z(machine, **QUICK)
    assert not result.trustworthy


def without_exchange(run):
    """Return a `run` that hands the replicas back to their rungs as if no exchange had been made."""

    def broken(self, n_iterations):
        works = [run(self, 1)]
        for _ in range(n_iterations - 1):
            self.rungs[:] = np.arange(self.rungs.shape[1])
            works.append(run(self, 1))
        return type(works[0])(
            *(np.concatenate([getattr(w, f.name) for w in works]) for f in dataclasses.fields(works[0]))
        )

    return broken


def test_the_library_takes_arrays():
    rng = np.random.default_rng(0)
    W, a, b = rng.normal(size=(30, 12)), rng.normal(size=30), rng.normal(size=12)
    result = dvae_eval.estimate_log_z((W, a, b))
    assert result.method == "exact"
    J = np.zeros((42, 42))
    J[:30, 30:] = W
    assert abs(dvae_eval.estimate_log_z((J, np.concatenate((a, b)))).log_z - result.log_z) < 1e-9
    with pytest.raises(ConfigError, match="W, b_left, b_right"):
        dvae_eval.estimate_log_z(W)
    with pytest.raises(ConfigError, match="presicion"):
        dvae_eval.estimate_log_z((W, a, b), presicion=0.1)
    with pytest.raises(DataError, match="b_left"):
        dvae_eval.estimate_log_z((W, b, a))


def test_a_constant_shifts_all_that_is_a_log_z():
    machine, _ = MODELS["random"]()
    for settings in (QUICK, {"method": "ais", "n_sweeps": 50, "n_chains": 64, "threads": 1}, {"method": "exact"}):
        plain, shifted = (estimate_log_z(machine, **settings, constant=c) for c in (0.0, 100.0))
        assert abs(shifted.log_z - plain.log_z - 100) < 1e-9
        assert np.allclose(np.array(shifted.ci95) - plain.ci95, 100)
        assert np.allclose(np.array(shifted.repeats) - plain.repeats, 100)
        for name in ("halves", "mean_field_bounds", "lower_bound", "weight_of_states"):
            found, before = (np.array(r.diagnostics.get(name, [])) for r in (shifted, plain))
            assert np.allclose(found - before, 100)
        for name in ("stepping_stones", "starts"):
            found, before = (r.diagnostics.get(name, {}) for r in (shifted, plain))
            assert all(abs(found[key] - before[key] - 100) < 1e-6 for key in before)
        assert [c["passed"] for c in shifted.diagnostics["checks"]] == [
            c["passed"] for c in plain.diagnostics["checks"]
        ]


def test_isolated_units_are_a_closed_form():
    machine, _ = MODELS["random"]()
    rng = np.random.default_rng(3)
    extra = rng.normal(size=5)
    W = np.pad(machine.W, ((0, 2), (0, 3)))
    padded = BipartiteMachine.from_arrays(W, [*machine.b_left, *extra[:2]], [*machine.b_right, *extra[2:]])
    alone, together = (estimate_log_z(m, **QUICK) for m in (machine, padded))
    assert abs(together.log_z - alone.log_z - np.logaddexp(0, extra).sum()) < 1e-9


@pytest.mark.parametrize("name", ["random", "torus"])
def test_the_number_of_threads_does_not_matter(name):
    machine, _ = MODELS[name]()
    one, two = (estimate_log_z(machine, method="pt-bar", n_sweeps=200, threads=n) for n in (1, 2))
    assert one.log_z == two.log_z
    assert one.repeats == two.repeats


def test_repeats_are_independent_and_the_same_for_any_number_of_workers():
    machine, exact = MODELS["random"]()
    settings = {"method": "pt-bar", "n_sweeps": 200, "n_repeats": 4}
    one, two = (estimate_log_z(machine, **settings, threads=n) for n in (1, 2))
    assert one.repeats == two.repeats
    assert len(set(one.repeats)) == 4
    assert one.log_z == np.mean(one.repeats)
    assert abs(one.log_z - exact) < 8 * one.std_err


class Interrupt(Exception):
    pass


def interrupted(machine, path, after, **settings):
    """Run an estimate that keeps what is done at every chance, and dies after so many of them."""
    count = 0

    def die(phase, done, total, estimate, std_err):
        nonlocal count
        count += phase in ("tempering", "repeats")
        if count > after:
            raise Interrupt

    with pytest.raises(Interrupt):
        estimate_log_z(machine, **settings, partial=path, progress=die, threads=1)


@pytest.mark.parametrize("name", ["random", "complete"])
def test_a_killed_run_goes_on_to_the_same_number(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tempered, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(tempered, "REPORT_SECONDS", 0.0)
    machine, _ = MODELS[name]()
    path = tmp_path / "partial.npz"
    settings = {"method": "pt-bar", "precision": 0.004, "seed": 5}
    whole = estimate_log_z(machine, **settings, threads=1)
    interrupted(machine, path, 7, **settings)
    interrupted(machine, path, 20, **settings)
    assert path.exists()
    monkeypatch.setattr(tempered, "run_pilot", None)
    again = estimate_log_z(machine, **settings, partial=path, threads=1)
    assert again.log_z == whole.log_z
    assert again.repeats == whole.repeats
    assert again.diagnostics["running"] == whole.diagnostics["running"]
    for name in ("lower_bound", "n_basins", "weight_of_states", "renewal"):
        assert again.diagnostics[name] == whole.diagnostics[name]


def test_killed_repeats_go_on_to_the_same_number(tmp_path):
    machine, _ = MODELS["random"]()
    path = tmp_path / "partial.npz"
    settings = {"method": "pt-bar", "n_sweeps": 100, "n_repeats": 3}
    whole = estimate_log_z(machine, **settings, threads=1)
    interrupted(machine, path, 1, **settings)
    assert estimate_log_z(machine, **settings, partial=path, threads=1).repeats == whole.repeats


def test_what_was_kept_of_another_task_is_ignored(tmp_path):
    machine, other = MODELS["random"]()[0], MODELS["strong"]()[0]
    path = tmp_path / "partial.npz"
    settings = {"method": "pt-bar", "n_sweeps": 100, "n_repeats": 3}
    interrupted(machine, path, 1, **settings)
    fresh = estimate_log_z(other, **settings, threads=1)
    assert estimate_log_z(other, **settings, partial=path, threads=1).repeats == fresh.repeats
    path.write_bytes(b"PK damaged")
    assert estimate_log_z(other, **settings, partial=path, threads=1).repeats == fresh.repeats


def test_no_couplings_and_no_biases_have_no_error():
    machine = BipartiteMachine.from_arrays(np.zeros((5, 4)), np.zeros(5), np.zeros(4))
    result = estimate_log_z(machine, **QUICK)
    assert abs(result.log_z - 9 * np.log(2)) < 1e-9
    assert result.std_err < 1e-9
    assert result.trustworthy


def test_the_same_seed_gives_the_same_number_and_another_does_not():
    machine, _ = random_rbm(0, (12, 30), 1.0)
    first, again, other = (estimate_log_z(machine, **QUICK, seed=s) for s in (3, 3, 4))
    assert first.log_z == again.log_z
    assert first.repeats == again.repeats
    assert first.log_z != other.log_z


def test_sides_may_be_exchanged():
    """The smaller side is kept whichever it is, so the estimate is the very same."""
    machine, _ = random_rbm(1, (12, 30), 1.0)
    turned = BipartiteMachine.from_arrays(machine.W.T, machine.b_right, machine.b_left)
    assert estimate_log_z(machine, **QUICK).log_z == estimate_log_z(turned, **QUICK).log_z


def test_auto_enumerates_where_it_can():
    machine, _ = random_rbm(2, (12, 30), 1.0)
    result = estimate_log_z(machine)
    assert (result.method, result.std_err, result.trustworthy) == ("exact", 0.0, True)
    assert result.log_z == exact_log_z(machine)
    assert result.ci95 == [result.log_z, result.log_z]


def test_the_exact_value_cannot_be_asked_for_in_vain():
    rng = np.random.default_rng(3)
    machine = BipartiteMachine.from_arrays(rng.normal(size=(40, 40)), np.zeros(40), np.zeros(40))
    for settings in ({"method": "exact"}, {"method": "pt-bar", "against_exact": True}):
        with pytest.raises(ConfigError, match=r"--(method exact|against-exact): 40 units"):
            estimate_log_z(machine, LogZConfig(**settings))


def test_a_run_that_is_far_too_short_is_not_trusted():
    """Strong planted modes, a schedule made for a far too low exchange rate, and hardly any sweeps."""
    machine, _ = planted(4, (18, 60), 0.6)
    result = estimate_log_z(machine, LogZConfig(method="pt-bar", n_sweeps=20, exchange_rate=0.05))
    assert not result.trustworthy
    assert result.reasons


def test_the_ladder_keeps_the_exchange_rate_that_was_asked_for():
    machine, _ = random_rbm(5, (16, 60), 4.0)
    for rate in (0.4, 0.8):
        result = estimate_log_z(machine, **QUICK, exchange_rate=rate)
        rates = np.array(result.diagnostics["exchange_rates"])
        assert np.ptp(rates) < 0.15
        # One rung more or less moves the rate by the share that one step has of the barrier.
        assert abs(rates.mean() - rate) < 0.05 + (1 - rate) / len(rates)


def tempered_distribution(exchange, beta_index, n_iterations=1500, n_replicates=60):
    """Return the total variation distance of the kept side's histogram on one rung from the exact one."""
    rng = np.random.default_rng(6)
    machine = BipartiteMachine.from_arrays(rng.normal(size=(3, 6)) * 2, rng.normal(size=3), rng.normal(size=6))
    replicas = make_replicas(machine, Schedule(np.array([0.0, 0.4, 1.0])), n_replicates, seed=7, round=0)
    if exchange is not None:
        original = replicas._exchange
        replicas._exchange = lambda log_acceptance: original(exchange(log_acceptance))
    counts = np.zeros(8)
    for _ in range(n_iterations):
        replicas.run(1)
        states = replicas.v[:, beta_index] @ np.array([1, 2, 4])
        counts += np.bincount(states, minlength=8)
    beta = float(replicas.schedule.betas[beta_index])
    v = enumerate_states(3)
    log_p = beta * v @ machine.b_left + np.logaddexp(0, beta * (v @ machine.W + machine.b_right)).sum(1)
    p = np.exp(log_p - np.logaddexp.reduce(log_p))
    return np.abs(counts / counts.sum() - p).sum() / 2


@pytest.mark.parametrize("beta_index", [1, 2])
def test_tempering_leaves_every_rung_invariant(beta_index):
    """90000 samples over 8 states, correlated over a few sweeps: distances above 0.01 do not happen by chance."""
    assert tempered_distribution(None, beta_index) < 0.01


def test_a_wrong_exchange_rule_is_rejected(monkeypatch):
    """Exchanges that are always accepted carry hot states to the cold end; torch lets the rule be replaced."""
    monkeypatch.setattr("dvae_eval.sampling.tempering.has_numba", lambda: False)
    assert tempered_distribution(lambda log_acceptance: log_acceptance * 0 + 1, 2) > 0.03


def test_a_run_that_is_too_short_says_by_how_much():
    assert "4 times as many sweeps" in longer(0.5, 2.0)
    assert "1.9 times" in longer(3.212, 6.0)
    assert "cannot be predicted" in longer(0.0, 2.0)
    assert "times" not in longer(2.0, 2.0)

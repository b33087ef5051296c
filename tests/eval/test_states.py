"""Samples of machines by call: exact and tempered, their verdict, their convention, and what makes them wrong."""

import json
import sys
import types

import numpy as np
import pytest
import scipy.io

from dvae_core.errors import ConfigError, ResultError
from dvae_eval import ReadConfig, load_states, read_machine, sample_states, starts
from dvae_eval.machine import machine_from_couplings
from dvae_eval.readers.write import SUFFIXES, write_machine
from dvae_eval.states import tempered
from dvae_eval.states.sampled import SampledStates
from dvae_eval.states.thinning import autocorrelation_time, leading_components, r_hat
from tests.oracles import (
    FALSE_ALARM,
    bipartite,
    brute_log_z,
    enumerate_states,
    log_probabilities,
    log_weights,
    numbers,
    p_value,
    planted,
)
from tests.places import FORMATS

RBM = bipartite(*(np.random.default_rng(0).normal(size=shape) for shape in ((3, 4), 3, 4)))
GLASS = np.triu(np.random.default_rng(1).normal(size=(7, 7)), 1), np.random.default_rng(2).normal(size=7)
TEMPERED = {"method": "pt-bar", "n_sweeps": 1000}


def with_one_alone():
    """A glass, and one unit without couplings among its others."""
    J, b = np.zeros((6, 6)), np.random.default_rng(4).normal(size=6)
    J[np.ix_([0, 1, 3, 4, 5], [0, 1, 3, 4, 5])] = np.triu(np.random.default_rng(3).normal(size=(5, 5)), 1)
    return J, b


MACHINES = {"rbm": RBM, "glass": GLASS, "one alone": with_one_alone()}


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("settings", [{"method": "exact"}, TEMPERED], ids=["exact", "tempered"])
def test_states_are_as_frequent_as_they_are_probable(name, settings):
    """6 tests, each failed by a sound sampler once in 10 000 seeds; log p is that of the state."""
    J, b = MACHINES[name]
    log_p = log_probabilities(J, b)
    found = sample_states((J, b), 4000, seed=5, best=True, **settings)
    assert found.trustworthy
    assert found.states.shape == (4000, len(b))
    assert p_value(found.states, log_p) > FALSE_ALARM
    assert np.allclose(found.log_p + found.log_z, log_p[numbers(found.states)] + brute_log_z(J, b))
    assert log_p[numbers(found.best.state[None])[0]] == log_p.max()
    assert found.best.is_exact == (found.method == "exact")
    assert abs(found.log_z - brute_log_z(J, b)) <= 4 * found.std_err + 1e-9


def test_summed_units_from_the_prior_are_rejected(monkeypatch):
    """Hidden units by their biases alone: the kept units keep their distribution, and all together lose it."""

    def broken(fields, rng):
        return bernoulli(np.broadcast_to(fields.mean(0), fields.shape), rng)

    bernoulli = starts._bernoulli
    monkeypatch.setattr(starts, "_bernoulli", broken)
    found = sample_states(RBM, 4000, seed=5, **TEMPERED)
    assert p_value(found.states, log_probabilities(*RBM)) < 1e-12


# --- modes --------------------------------------------------------------------------------------------------


N_SPINS, STRENGTH, FIELD = 60, 1.8, 0.005


def share_of_the_mode(states, pattern):
    return float(((2 * states.astype(int) - 1) @ pattern > 0).mean())


def test_two_modes_have_their_weights():
    """A Mattis model whose modes lie exp(-17) apart, against a sum over its overlaps: |z| < 4, 6 in 100 000."""
    J, b, pattern, log_p = planted(N_SPINS, STRENGTH, FIELD)
    expected = float(np.exp(log_p[N_SPINS // 2 + 1 :]).sum())
    assert np.exp(log_p[N_SPINS // 2]) < 1e-7
    found = sample_states((J, b), 1000, seed=3, **TEMPERED)
    assert found.trustworthy, found.reasons
    error = np.sqrt(expected * (1 - expected) / found.diagnostics["states"]["effective_states"])
    assert abs(share_of_the_mode(found.states, pattern) - expected) < 4 * error
    assert found.diagnostics["states"]["effective_states"] > 500
    # Broken: without exchanges each chain stays in the mode that it began in.
    x = np.random.default_rng(0).integers(2, size=(32, N_SPINS)).astype(float)
    x = gibbs(J + J.T, b, x, 200)
    assert abs(share_of_the_mode(x, pattern) - expected) < 0.5  # both modes are there, in the shares of the starts
    ones = gibbs(J + J.T, b, np.tile((pattern + 1.0) / 2, (32, 1)), 200)
    assert abs(share_of_the_mode(ones, pattern) - expected) > 8 * error


def gibbs(J, b, x, n_sweeps):
    """Plain Gibbs sampling, unit by unit."""
    rng = np.random.default_rng(1)
    for _ in range(n_sweeps):
        for i in range(len(b)):
            x[:, i] = rng.random(len(x)) < 1 / (1 + np.exp(-(x @ J[i] + b[i])))
    return x


def test_a_run_that_is_too_short_is_declined():
    """Few sweeps of a machine with two modes: not to be trusted, with reasons, and the states all the same."""
    J, b, _, _ = planted(120, 4.0, 0.0)
    found = sample_states((J, b), 64, seed=0, method="pt-bar", n_sweeps=40)
    assert not found.trustworthy
    assert found.verdict == "doubtful"
    assert found.reasons
    assert found.states.shape == (64, 120)


def test_replicas_that_stay_apart_are_told_by_r_hat(monkeypatch):
    """Without exchanges after the run, the replicates disagree, whatever the run said before."""

    def frozen(self, n):
        self.sweep(np.ones_like(self.schedule.betas), n)

    def take(self):
        # All rungs at β = 1: nothing comes from the reference any more.
        monkeypatch.setattr(type(self.run.replicas), "run", frozen)
        return original(self)

    original = tempered._Records.take
    monkeypatch.setattr(tempered._Records, "take", take)
    J, b, _, _ = planted(N_SPINS, STRENGTH, FIELD)
    found = sample_states((J, b), 100, seed=3, **TEMPERED)
    assert any(reason.startswith("R-hat of the replicates") for reason in found.reasons)


# --- thinning -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.97])
def test_the_time_of_an_autoregression_is_known(rho):
    """τ = (1 + ρ) / (1 - ρ) / 2, within 15 % from 32 chains of 2000 steps: at least 4 errors of the estimate."""
    rng = np.random.default_rng(0)
    values = np.zeros((2200, 32))
    for t in range(1, len(values)):
        values[t] = rho * values[t - 1] + rng.normal(size=32)
    assert autocorrelation_time(values[200:]) == pytest.approx((1 + rho) / (1 - rho) / 2, rel=0.15)
    assert r_hat(values[200:]) < 1.05


def test_chains_that_stay_apart_are_slow_and_disagree():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 16)) + 2 * (np.arange(16) % 2)
    assert autocorrelation_time(values) > 50
    assert r_hat(values) > 1.1
    # Of one mean and two scales: told by the distances from the median.
    assert r_hat(rng.normal(size=(500, 16)) * (1 + 3 * (np.arange(16) % 2))) > 1.1
    assert autocorrelation_time(np.ones((100, 4))) == 0.5
    assert r_hat(np.ones((100, 4))) == 1.0


def test_too_many_states_of_a_slow_machine_are_a_warning():
    J, b, _, _ = planted(N_SPINS, STRENGTH, FIELD)
    found = sample_states((J, b), 20_000, seed=3, **TEMPERED)
    assert found.trustworthy
    assert found.verdict == "loose"
    assert "effective number of states" in found.warnings[0]
    assert "ask for fewer" in found.warnings[0]


# --- same states --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"method": "exact"}, TEMPERED], ids=["exact", "tempered"])
def test_a_seed_fixes_the_states_whatever_the_threads(settings):
    one, two, other = (
        sample_states(RBM, 300, seed=seed, threads=threads, **settings)
        for seed, threads in ((1, 1), (1, 2), (2, 1))
    )
    assert np.array_equal(one.states, two.states)
    assert not np.array_equal(one.states, other.states)


def test_an_interrupted_run_goes_on_to_the_same_states(tmp_path, monkeypatch):
    """Stopped while states are taken: the run before is kept, and what followed is done again."""
    partial = tmp_path / "partial.npz"
    whole = sample_states(RBM, 300, seed=1, **TEMPERED)

    def stop(phase, *_):
        if phase == "taking states":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_states(RBM, 300, seed=1, partial=partial, progress=stop, **TEMPERED)
    assert partial.exists()

    phases = []
    again = sample_states(
        RBM, 300, seed=1, partial=partial, progress=lambda phase, *_: phases.append(phase), **TEMPERED
    )
    assert "pilot" not in phases
    assert np.array_equal(again.states, whole.states)
    assert again.log_z == whole.log_z


# --- conventions and labels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_states_of_every_file_that_convert_writes(suffix, tmp_path):
    """A glass of spins, written as 0 and 1 in each format, and read again: energies from the first arrays."""
    np.savez(tmp_path / "spins.npz", J=GLASS[0], b=GLASS[1])
    spins = read_machine(tmp_path / "spins.npz", ReadConfig(units="pm1"))
    path = tmp_path / f"machine{suffix}"
    write_machine(path, spins.machine, spins.constant)
    for reading, values in ((spins, {-1, 1}), (read_machine(path), {0, 1})):
        found = sample_states(reading, 500, seed=1)
        assert set(np.unique(found.states).tolist()) == values
        s = found.states if values == {-1, 1} else 2 * found.states - 1
        assert np.allclose(found.log_p + found.log_z, np.einsum("ni,ij,nj->n", s, GLASS[0], s) + s @ GLASS[1])


def test_states_of_a_bipartite_glass_keep_the_order_of_its_file(tmp_path):
    """A chain, whose sides are every other unit."""
    J, b = np.diag(np.random.default_rng(5).normal(size=6), 1), np.random.default_rng(6).normal(size=7)
    np.savez(tmp_path / "chain.npz", J=J, b=b)
    found = sample_states(read_machine(tmp_path / "chain.npz", ReadConfig(units="pm1")), 200, seed=1)
    energies = np.einsum("ni,ij,nj->n", found.states, J, found.states) + found.states @ b
    assert np.allclose(found.log_p + found.log_z, energies)
    # Broken: in the order of the sides, energies are others.
    order = machine_from_couplings(J, b).order
    mixed = found.states[:, order]
    assert not np.allclose(np.einsum("ni,ij,nj->n", mixed, J, mixed) + mixed @ b, energies)


def coordinates(name):
    """The energies of dimod's text, by hand: {(i, j): bias} and the labels, rising."""
    lines = [line.split() for line in (FORMATS / name).read_text().splitlines() if line[:1].isdigit()]
    biases = {(int(i), int(j)): float(value) for i, j, value in lines}
    return biases, sorted({i for pair in biases for i in pair})


@pytest.mark.parametrize("kind", ["spin", "binary"])
@pytest.mark.parametrize("suffix", ["-1.bqm", "-2.bqm", ".coo"])
def test_labels_of_dimod_name_the_columns(kind, suffix):
    """Its two formats of one model: labels of the first are renamed in the second, as `make_files.py` does."""
    biases, labels = coordinates(f"{kind}.coo")
    renamed = {"0": 0, "one": 1, '["a", 2]': 2, "3": 30, "4.5": 5, "7": 4}
    found = sample_states(read_machine(FORMATS / f"{kind}{suffix}"), 300, seed=2)
    column = {
        (int(label) if suffix == ".coo" else renamed[label]): unit for unit, label in enumerate(found.labels)
    }
    assert sorted(column) == labels
    assert set(np.unique(found.states).tolist()) == ({-1, 1} if kind == "spin" else {0, 1})
    x = found.states.astype(float)
    energies = sum(
        value * x[:, column[i]] * (x[:, column[j]] if i != j else 1.0) for (i, j), value in biases.items()
    )
    offset = 0.0 if suffix == ".coo" else 1.25
    assert np.allclose(found.log_p + found.log_z, -energies - offset, atol=2e-5)


def test_states_of_matlab_have_visible_units_first():
    arrays = scipy.io.loadmat(FORMATS / "rbm-v5.mat")
    W, b, c = arrays["W"], arrays["b"].ravel(), arrays["c"].ravel()
    found = sample_states(read_machine(FORMATS / "rbm-v5.mat"), 200, seed=1)
    v, h = np.split(found.states, [len(b)], axis=1)
    assert np.allclose(found.log_p + found.log_z, np.einsum("ni,ij,nj->n", v, W, h) + v @ b + h @ c)


def test_every_file_of_other_libraries_gives_states_of_its_own_energies(tmp_path):
    """Each log p̃ of a state is one that the library itself computed, of the state of that rank."""
    from tests.eval.readers.test_readers import EXPECTED, original

    for name, expected in EXPECTED.items():
        found = sample_states(read_machine(*original(name, tmp_path)), 4000, seed=1)
        assert found.states.min() in (-1, 0)
        if expected.get("marginal") == "visible":
            continue
        known = np.array(expected["log_p"])
        nearest = known[np.abs((found.log_p + found.log_z)[:, None] - known).argmin(1)]
        assert np.allclose(found.log_p + found.log_z, nearest, atol=2e-9), name
        # Frequencies of the states of each energy, 1 in 10 000 beyond: those above and below the median.
        p = float(np.exp(known[known > np.median(known)] - np.logaddexp.reduce(known)).sum())
        above = float((found.log_p + found.log_z > np.median(known)).mean())
        assert abs(above - p) < 5 * np.sqrt(p * (1 - p) / 4000) + 1e-12, name


def test_objects_have_their_own_units_and_names():
    bqm = types.SimpleNamespace(
        vartype=types.SimpleNamespace(name="SPIN"),
        linear={"a": 0.5, ("b", 1): -0.3, 2: 0.0},
        quadratic={("a", ("b", 1)): 1.0, (("b", 1), 2): -0.7},
        offset=0.25,
    )
    found = sample_states(bqm, 100, seed=1)
    assert found.labels == ("a", '["b", 1]', "2")
    assert found.units == "pm1"
    a, b, c = found.states.astype(float).T
    assert np.allclose(found.log_p + found.log_z, -(0.5 * a - 0.3 * b + a * b - 0.7 * b * c + 0.25))
    assert sample_states(GLASS, 10).labels == ()


# --- held units ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"method": "exact"}, TEMPERED], ids=["exact", "tempered"])
def test_held_units_have_their_values_and_the_others_follow(settings, tmp_path):
    """Against the states of the whole that agree, each test failed once in 10 000 seeds."""
    np.savez(tmp_path / "spins.npz", J=GLASS[0], b=GLASS[1])
    (tmp_path / "held.txt").write_text("1 -1\n4 1\n")
    config = ReadConfig(units="pm1", clamp=str(tmp_path / "held.txt"))
    found = sample_states(read_machine(tmp_path / "spins.npz", config), 4000, seed=1, best=True, **settings)
    s = enumerate_states(7, (-1, 1))
    log_w = log_weights(*GLASS, s)
    log_w[(s[:, 1] != -1) | (s[:, 4] != 1)] = -np.inf
    log_z = float(np.logaddexp.reduce(log_w))
    assert (found.states[:, [1, 4]] == (-1, 1)).all()
    assert p_value((found.states + 1) // 2, log_w - log_z) > FALSE_ALARM
    assert abs(found.log_z - log_z) <= 4 * found.std_err + 1e-9
    assert np.allclose(found.log_p + found.log_z, log_w[numbers((found.states + 1) // 2)])
    assert log_w[numbers((found.best.state[None] + 1) // 2)[0]] == log_w.max()


def test_all_units_held_leave_one_state(tmp_path):
    np.savez(tmp_path / "rbm.npz", J=GLASS[0], b=GLASS[1])
    (tmp_path / "held.csv").write_text("".join(f"{unit},1\n" for unit in range(7)))
    reading = read_machine(tmp_path / "rbm.npz", ReadConfig(clamp=str(tmp_path / "held.csv")))
    found = sample_states(reading, 3, best=True)
    assert found.states.tolist() == [[1] * 7] * 3
    assert found.log_z == pytest.approx(GLASS[0].sum() + GLASS[1].sum())
    assert np.allclose(found.log_p, 0)


# --- refusals and files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"n": 0}, "--n: 0"),
        ({"sweeps": 10}, "sweeps: no such setting"),
        ({"method": "ais"}, "--method"),
        ({"n_sweeps": 5}, "--sweeps: 5 are too few"),
    ],
)
def test_settings_that_are_none_are_refused(settings, match):
    with pytest.raises(ConfigError, match=match):
        sample_states(GLASS, **settings)


def test_exact_states_out_of_reach_are_refused():
    rng = np.random.default_rng(0)
    rbm = rng.normal(size=(60, 60)), rng.normal(size=60), rng.normal(size=60)
    with pytest.raises(ConfigError, match="--method exact: 60 units would have to be enumerated"):
        sample_states(rbm, 10, method="exact")


def test_tables_beyond_the_memory_leave_tempering(monkeypatch):
    monkeypatch.setitem(sample_states.__globals__, "available_memory", lambda: 100)
    assert sample_states(RBM, 50, n_sweeps=200).method == "pt-bar"
    with pytest.raises(ConfigError, match="its tables take"):
        sample_states(RBM, 50, method="exact")


def test_a_sample_set_has_the_energies_of_the_model(monkeypatch):
    """Of a stand-in for dimod, which notes what it is given."""
    given = {}

    class SampleSet:
        @staticmethod
        def from_samples(samples, vartype, **more):
            given.update(samples=samples, vartype=vartype, **more)
            return types.SimpleNamespace(to_serializable=lambda: {"type": "SampleSet"})

    monkeypatch.setitem(sys.modules, "dimod", types.SimpleNamespace(SampleSet=SampleSet))
    found = sample_states(read_machine(FORMATS / "spin.coo", ReadConfig(beta=0.5)), 20, seed=1)
    assert json.loads(found.to_bytes("dimod")) == {"type": "SampleSet"}
    states, variables = given["samples"]
    biases, _ = coordinates("spin.coo")
    column = {variable: unit for unit, variable in enumerate(variables)}
    x = states.astype(float)
    energies = sum(
        value * x[:, column[i]] * (x[:, column[j]] if i != j else 1.0) for (i, j), value in biases.items()
    )
    assert given["vartype"] == "SPIN"
    assert np.allclose(given["energy"], energies)


def test_a_result_cannot_be_changed():
    found = sample_states(RBM, 5)
    assert isinstance(found, SampledStates)
    with pytest.raises(AttributeError):
        found.units = "pm1"


def test_leading_components_are_those_of_the_singular_values():
    """States of three directions, well apart, against NumPy's decomposition, but for signs."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(400, 3)) * (9, 5, 3) @ rng.normal(size=(3, 50)) + rng.normal(size=(400, 50))
    centred = states - states.mean(0)
    expected = np.linalg.svd(centred, full_matrices=False)[2][:3]
    found = leading_components(centred, 3)
    assert np.allclose(np.abs((found * expected).sum(1)), 1, atol=1e-3)
    assert leading_components(centred[:, :2], 3).shape == (2, 2)


def test_states_are_saved_and_read_again(tmp_path):
    found = sample_states(RBM, 30, best=True)
    found.save(tmp_path / "s.npz")
    again = load_states(tmp_path / "s.npz")
    assert np.array_equal(again.states, found.states)
    assert repr(again) == repr(found)
    found.save(str(tmp_path / "s.csv"))
    assert np.array_equal(np.loadtxt(tmp_path / "s.csv", delimiter=",", skiprows=1), found.states)
    with pytest.raises(ConfigError, match=r"has no known suffix; end it with \.npz"):
        found.save(tmp_path / "s.txt")
    assert len(list(tmp_path.iterdir())) == 2


def test_other_files_are_no_states(tmp_path):
    np.savez(tmp_path / "other.npz", states=np.zeros((2, 3)))
    with pytest.raises(ResultError, match="no array meta"):
        load_states(tmp_path / "other.npz")

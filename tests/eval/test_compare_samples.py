"""Samples made elsewhere against a machine: β, KL, moments and basins, by enumeration and with broken variants."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, kstest

from dvae_core.errors import ConfigError, DataError
from dvae_eval import compare_samples, load_result, machine_from_couplings, machine_from_spins, sample_states
from dvae_eval.comparison.beta import by_energy, by_pseudo_likelihood, difference, spread_of_energies
from dvae_eval.comparison.config import CompareConfig
from dvae_eval.comparison.entropy import entropy_of
from dvae_eval.comparison.law import TemperedLaw, law_of
from dvae_eval.comparison.moments import deviations_of, holm, p_values
from dvae_eval.comparison.reads import reads_of
from dvae_eval.readers import Reading
from dvae_eval.test_machines.rbms import trained
from tests.oracles import enumerate_states, log_probabilities, log_weights, numbers, planted

N_SETS = 200


def glass(n=10, strength=0.7, seed=0):
    """J and b over {0,1} of a small machine with couplings of both signs."""
    rng = np.random.default_rng(seed)
    return np.triu(rng.normal(size=(n, n)) * strength, 1), rng.normal(size=n) / 2


class Small:
    """A machine whose states are enumerated by code that shares nothing with the package's."""

    def __init__(self, J, b):
        self.J, self.b, self.x = J, b, enumerate_states(len(b)).astype(np.uint8)
        self.reading = Reading(machine_from_couplings(J, b), 0.0, {"units": "01"})
        self.law = law_of(self.reading.machine, CompareConfig(), 1.0, {})

    def log_p(self, beta):
        return log_probabilities(beta * self.J, beta * self.b)

    def draw(self, beta, n, rng):
        return self.x[rng.choice(len(self.x), n, p=np.exp(self.log_p(beta)))]

    def reads(self, beta, n, rng):
        return reads_of(self.reading, self.draw(beta, n, rng))


@pytest.fixture(scope="module")
def small():
    return Small(*glass())


def inside(ci95, value):
    return ci95[0] <= value <= ci95[1]


# --- β ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_beta_is_within_its_interval_in_95_per_cent_of_200_sets(beta, small):
    """Of 300 exact reads each.  179 to 199 of 200: binomial, a sound interval fails with probability 1e-3.

    A third of the error is rejected by the same bounds; so are reads of another β.
    """
    low, high = binom.ppf((5e-4, 1 - 5e-4), N_SETS, 0.95)
    counts, narrow, apart, spread = np.zeros(2), np.zeros(2), [], []
    for k in range(N_SETS):
        reads = small.reads(beta, 300, np.random.default_rng((k, int(10 * beta))))
        found = by_pseudo_likelihood(reads, small.reading.machine), by_energy(reads, small.law, 1.0)
        counts += [inside(one.ci95, beta) for one in found]
        narrow += [inside(replace(one, std_err=one.std_err / 3).ci95, beta) for one in found]
        apart.append(difference(reads, *found))
        point = small.law.point(found[1].value)
        spread.append(spread_of_energies(reads, point.variance, 0.0))
    assert (low <= counts).all()
    assert (counts <= high).all()
    assert (narrow < low).all()
    # z of both checks is about that of a standard normal; of 1200 values one is above 4.4 with probability 0.013.
    for z in (np.array(apart), np.array(spread)):
        assert (np.abs(z) > 1.96).sum() <= binom.ppf(1 - 1e-4, N_SETS, 0.07)
        assert np.abs(z).max() < 4.4


def test_weights_count_as_reads(small):
    """Occurrences give what repeated rows do; weights that are no whole numbers what a weighted mean has."""
    rng = np.random.default_rng(1)
    x = small.draw(1.0, 500, rng)
    rows, counts = np.unique(x, axis=0, return_counts=True)
    machine = small.reading.machine
    one = by_pseudo_likelihood(reads_of(small.reading, x), machine)
    other = by_pseudo_likelihood(reads_of(small.reading, rows, counts), machine)
    assert (one.value, one.std_err, one.n) == pytest.approx((other.value, other.std_err, other.n))
    weights = np.exp(small.log_p(2.0) - small.log_p(1.0))[numbers(x)]
    weighted = by_energy(reads_of(small.reading, x, weights), small.law, 1.0)
    assert abs(weighted.value - 2) < 4 * weighted.std_err
    assert weighted.n < 500


def test_both_betas_by_brute_force(small):
    """The maxima of both likelihoods on a fine grid, by enumeration."""
    x = small.draw(1.3, 200, np.random.default_rng(3))
    reads, betas = reads_of(small.reading, x), np.linspace(0.5, 2.5, 2001)
    number = numbers(x)
    likelihood = [small.log_p(beta)[number].sum() for beta in betas]
    assert by_energy(reads, small.law, 1.0).value == pytest.approx(betas[np.argmax(likelihood)], abs=1e-3)
    pseudo = []
    flips = number[:, None] ^ (1 << np.arange(10))
    for beta in betas:
        log_p = small.log_p(beta)
        pseudo.append((log_p[number][:, None] - np.logaddexp(log_p[number][:, None], log_p[flips])).sum())
    found = by_pseudo_likelihood(reads, small.reading.machine).value
    assert found == pytest.approx(betas[np.argmax(pseudo)], abs=1e-3)


def test_reads_that_have_no_beta(small):
    """The ground state alone asks for an infinite β; the highest state for a negative one."""
    best, worst = small.x[small.log_p(1.0).argmax()], small.x[small.log_p(1.0).argmin()]
    found = compare_samples((small.J, small.b), np.tile(best, (50, 1)))
    assert found.beta_pl == found.beta_energy == np.inf
    assert not found.is_boltzmann
    assert found.at_beta is None
    found = compare_samples((small.J, small.b), np.tile(worst, (50, 1)))
    assert found.beta_pl == found.beta_energy == -np.inf
    assert "effective β is below 0" in " ".join(found.reasons)


def test_fair_coins_are_the_law_of_beta_0(small):
    """Whichever side of 0 the estimates fall on."""
    betas = []
    for k in range(20):
        x = np.random.default_rng(k).integers(2, size=(500, 10))
        found = compare_samples((small.J, small.b), x, basins=False)
        assert found.is_boltzmann
        betas.append(found.effective_beta)
        assert (found.at_beta is None) == (betas[-1] <= 0)
    assert 0 < np.sum(np.array(betas) < 0) < 20


# --- no Boltzmann law ---------------------------------------------------------------------------------------


def test_a_mixture_of_two_temperatures_is_no_boltzmann_law(small):
    """In each of 20 sets; half as many reads of either temperature alone are of one in each."""
    for k in range(20):
        rng = np.random.default_rng(k)
        hot, cold = small.draw(0.4, 500, rng), small.draw(1.6, 500, rng)
        mixture = compare_samples((small.J, small.b), np.concatenate((hot, cold)), basins=False)
        assert not mixture.is_boltzmann
        assert not mixture.trustworthy
        assert mixture.claim.startswith("no Boltzmann law of this machine at any β; ")
        assert "no Boltzmann law" not in str(mixture.reasons)  # they say what to look at
        for part, beta in ((hot, 0.4), (cold, 1.6)):
            found = compare_samples((small.J, small.b), part, basins=False)
            assert found.is_boltzmann
            assert abs(found.effective_beta - beta) < 4 * found.beta_energy_std_err


def test_reads_of_deep_basins_are_a_boltzmann_law():
    """Both estimates of β are nearly one there: 12 sets of the machine itself, two checks with limits of 1e-4."""
    machine, _ = trained("clusters-80x10")
    for seed in range(12):
        states = sample_states(machine, 200, seed=seed).states
        found = compare_samples(machine, states)
        assert found.is_boltzmann, found.reasons
        assert not compare_samples(machine, 1 - states).is_boltzmann


def test_samples_of_another_machine_are_found_out(small):
    J = small.J.copy()
    J[0, 1] += 1.5
    x = Small(J, small.b).draw(1.0, 2000, np.random.default_rng(0))
    found = compare_samples((small.J, small.b), x)
    assert not found.is_boltzmann
    assert found.at_beta["deviations"][0]["units"] == [0, 1]


def test_modes_of_the_wrong_weight_are_found_out():
    """A planted machine of two modes, of 12 spins: 70 % of the reads in one of two alike, energies all right."""
    J, b, pattern, _ = planted(12, 3.0, 0.0)
    machine = Small(J, b)
    x = machine.draw(1.0, 2000, np.random.default_rng(0))
    found = compare_samples((J, b), x)
    assert found.is_boltzmann
    assert len(found.basins) == 2
    share, error = (found.basins[0][name] for name in ("machine", "machine_std_err"))
    assert abs(share - 0.5) < 4 * error
    up = (2.0 * x - 1) @ pattern > 0
    biased = np.concatenate((x[up], np.where((np.arange((~up).sum()) % 5 < 2)[:, None], 1 - x[~up], x[~up])))
    found = compare_samples((J, b), biased)
    assert abs(found.at_beta["energy_z"]) < 4
    assert "weights of basins differ" in " ".join(found.reasons)


# --- moments ------------------------------------------------------------------------------------------------


def false_alarms(small, n, threshold, shift=0.0):
    """How many of 200 sets have a corrected p below the threshold; `shift` moves the machine's means."""
    point, count = small.law.point(1.0), 0
    for k in range(N_SETS):
        reads = small.reads(1.0, n, np.random.default_rng((k, n)))
        moved = replace(point, units=point.units + shift)
        count += deviations_of(reads, moved, small.law.bonds, is_spin=k % 2 == 0).least < threshold
    return count


@pytest.mark.parametrize("n", [30, 1000])
def test_false_alarms_of_all_moments_together(n, small):
    """5 % of sound sets at the most, for few reads as well: more than 22 of 200 have probability 1e-4."""
    most = binom.ppf(1 - 1e-4, N_SETS, 0.05)
    assert false_alarms(small, n, 0.05) <= most
    if n == 1000:
        assert false_alarms(small, n, 0.05, shift=0.1) > 4 * most


def test_p_values_are_not_too_small_with_rare_units_and_with_errors():
    """Rare and frequent shares in 500 reads, of machines known exactly and with an error: no p comes too often."""
    rng = np.random.default_rng(0)
    expected = np.repeat([1e-3, 0.02, 0.5, 0.999], 5000)
    for error in (0.0, 0.01):
        told = expected + error * rng.normal(size=len(expected)) * np.sqrt(expected * (1 - expected))
        sizes = error * np.sqrt(expected * (1 - expected))
        p = p_values(rng.binomial(500, expected) / 500, told, sizes, 500)
        assert kstest(p, "uniform", alternative="greater").pvalue > 1e-4
        assert (p < 0.01).mean() < 0.013
    assert (p_values(rng.binomial(500, expected) / 500, expected * 0.8, sizes, 500) < 0.01).mean() > 0.2


def test_holm():
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])


# --- KL -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "seed"), [(10, 1), (12, 2), (14, 3)])
def test_kl_lies_between_its_bounds(n, seed):
    """Of reads of β = 1.4 and of another machine, against the exact KL, at two β, 10 sets each.

    Each end has a margin of 1.96 standard errors, and is beyond the truth by more than that as a rule.
    """
    machine = Small(*glass(n, seed=seed))
    other = Small(*glass(n, seed=seed + 10))
    missed = broken = 0
    for law, beta in ((machine, 1.4), (other, 1.0)):
        log_r = law.log_p(beta)
        for k in range(10):
            reads = reads_of(machine.reading, law.draw(beta, 2000, np.random.default_rng(k)))
            entropy = entropy_of(reads, machine.law.bonds, k)
            assert entropy.ci95[0] < -(np.exp(log_r) @ log_r) < entropy.ci95[1]
            for at in (1.0, 0.8):
                exact = np.exp(log_r) @ (log_r - machine.log_p(at))
                point = machine.law.point(at)
                missed += not inside(entropy.kl(point), exact)
                broken += not inside(entropy.kl(replace(point, log_z=point.log_z + 2)), exact)
    assert missed <= 2  # of 40
    assert broken > 20


# --- the whole ----------------------------------------------------------------------------------------------


def test_a_tempered_machine_agrees_with_the_exact_one():
    J, b = glass(12, 0.5, seed=4)
    x = Small(J, b).draw(1.5, 2000, np.random.default_rng(0))
    exact = compare_samples((J, b), x, basins=False)
    found = compare_samples((J, b), x, method="pt", n_sweeps=1500, basins=False)
    assert (exact.method, found.method) == ("exact", "pt")
    assert found.is_boltzmann
    assert found.beta_pl == exact.beta_pl
    assert found.beta_energy == pytest.approx(exact.beta_energy, abs=0.03)
    assert found.beta_energy_std_err >= exact.beta_energy_std_err * 0.95
    for name in ("at_one", "at_beta"):
        mine, theirs = getattr(found, name), getattr(exact, name)
        if name == "at_one":
            assert abs(mine["energy"] - theirs["energy"]) < 4 * mine["energy_std_err"] + 1e-9
            assert abs(mine["log_z"] - theirs["log_z"]) < 4 * mine["log_z_std_err"] + 1e-9
        assert mine["kl"] == pytest.approx(theirs["kl"], abs=0.1)


def test_the_tempered_curve_starts_at_its_closed_form():
    """At β = 0 mean and variance are those of fair coins, and β below it follows from them."""
    J, b = glass(8)
    small = Small(J, b)
    law = law_of(small.reading.machine, CompareConfig(method="pt", n_sweeps=100), 1.0, {})
    assert isinstance(law, TemperedLaw)
    exact = small.law.point(0.0)
    assert (law.means[0], law.variances[0]) == pytest.approx((exact.mean, exact.variance))
    beta, _, _ = law.solve(exact.mean - 0.1 * exact.variance, 1.0)
    assert beta == pytest.approx(-0.1)
    assert law.solve(1e9, 1.0)[0] == np.inf


def test_spins_units_and_held_units_have_their_own_convention(tmp_path):
    rng = np.random.default_rng(0)
    J, h = np.triu(rng.normal(size=(8, 8)) / 2, 1), rng.normal(size=8) / 4
    machine, constant = machine_from_spins(J, h)
    reading = Reading(machine, constant, {"units": "pm1"}, tuple("abcdefgh"))
    s = enumerate_states(8, (-1, 1)).astype(int)
    log_p = log_weights(J, h, s)
    p = np.exp(log_p - np.logaddexp.reduce(log_p))
    reads = s[rng.choice(256, 3000, p=p)]
    found = compare_samples(reading, reads)
    assert found.is_boltzmann
    assert found.at_one["energy"] == pytest.approx(-(p @ log_p))
    assert found.at_one["log_z"] == pytest.approx(np.logaddexp.reduce(log_p))
    assert found.energy == pytest.approx(-np.mean(np.einsum("ni,ij,nj->n", reads, J, reads) + reads @ h))
    for one in found.at_one["deviations"]:
        values = np.prod(s[:, one["units"]], axis=1)
        assert one["machine"] == pytest.approx(p @ values)
        assert one["samples"] == pytest.approx(np.prod(reads[:, one["units"]], axis=1).mean())
        assert one["names"] == ["abcdefgh"[unit] for unit in one["units"]]
    # Columns in another order, by label; and a unit that is held.
    order = rng.permutation(8)
    again = compare_samples(reading, reads[:, order], labels=["abcdefgh"[k] for k in order])
    assert again.to_dict()["beta_pl"] == found.beta_pl
    rest, held = machine.clamped({2: 1})
    clamped = Reading(rest, constant + held, {"units": "pm1"}, tuple("abcdefgh"), {2: 1})
    assert compare_samples(clamped, reads[reads[:, 2] == 1]).is_boltzmann
    with pytest.raises(DataError, match="clamped unit 'c' has another value"):
        compare_samples(clamped, reads)
    found.save(tmp_path / "c.json")
    read = load_result(tmp_path / "c.json")
    assert str(read) == str(found)
    assert read.claim == found.claim
    assert read.supersedes(found)


def test_classes_have_their_own_beta(small):
    rng = np.random.default_rng(0)
    x = np.concatenate((small.draw(0.5, 1500, rng), small.draw(1.5, 500, rng)))
    found = compare_samples((small.J, small.b), x, classes=np.repeat([0, 7], [1500, 500]))
    assert [one["class"] for one in found.classes] == [0, 7]
    assert [one["share"] for one in found.classes] == [0.75, 0.25]
    for one, beta in zip(found.classes, (0.5, 1.5), strict=True):
        for name in ("beta_pl", "beta_energy"):
            assert abs(one[name] - beta) < 4 * one[f"{name}_std_err"]


def test_the_same_seed_gives_the_same_result(small):
    x = small.draw(1.0, 300, np.random.default_rng(0))
    one, other = (compare_samples((small.J, small.b), x, threads=k).to_dict() for k in (1, 2))
    for result in (one, other):
        del result["wall_seconds"], result["environment"]
    assert one == other


def test_reads_that_remember_one_another_are_warned_of(small):
    x = np.repeat(small.draw(1.0, 300, np.random.default_rng(0)), 3, axis=0)
    found = compare_samples((small.J, small.b), x)
    assert "neighbouring reads" in " ".join(found.warnings)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"states": np.zeros((50, 9))}, "states of 9 units, the model has 10"),
        ({"states": np.full((50, 10), 2)}, "give 0 and 1, or -1 and"),
        ({"states": np.zeros((5, 10))}, "contains 5 reads, too few"),
        ({"weights": np.ones(3)}, "weights have shape"),
        ({"classes": np.ones(3)}, "classes have shape"),
        ({"labels": [*"abcdefghij"]}, "has no column '0'"),
    ],
)
def test_what_is_no_reads_is_refused(change, match, small):
    with pytest.raises(DataError, match=match):
        compare_samples((small.J, small.b), **({"states": small.x[:50]} | change))


def test_settings_are_looked_at(small):
    with pytest.raises(ConfigError, match="no such setting"):
        compare_samples((small.J, small.b), small.x, sweeps=3)
    with pytest.raises(ConfigError, match="too few"):
        compare_samples((small.J, small.b), small.x, n_sweeps=3)

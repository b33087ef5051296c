"""BAR and stepping stones on works with known answers, and pymbar's traps."""

from contextlib import suppress

import numpy as np
import pytest
from scipy.special import expit

from dvae_core.errors import ConfigError, NumericalError, OverlapError
from dvae_eval.log_z.with_pymbar import bar
from dvae_eval.sampling.replicas import Works
from dvae_eval.sampling.schedule import Schedule
from tests.oracles.bridges import bridge, stepping_stones


def gaussian_works(delta_f, spread, n, rng):
    """Return works of two Gaussians of equal width: w_f ~ N(Δf + s²/2, s), w_r ~ N(-Δf + s²/2, s).

    They obey Crooks' theorem, p_f(w) = p_r(-w) exp(w - Δf), so Δf is exact.
    """
    return rng.normal(delta_f + spread**2 / 2, spread, n), rng.normal(-delta_f + spread**2 / 2, spread, n)


@pytest.mark.parametrize(("delta_f", "spread"), [(0.0, 0.1), (3.0, 1.0), (-40.0, 2.0)])
def test_bar_finds_the_known_ratio(delta_f, spread):
    w_f, w_r = gaussian_works(delta_f, spread, 20_000, np.random.default_rng(0))
    # The variance of BAR is at most that of either exponential average: (e^{s²} - 1)/n.
    assert abs(bar(w_f, w_r) - delta_f) < 5 * np.sqrt(np.expm1(spread**2) / 20_000)


def test_a_constant_shift_of_the_energies_shifts_the_answer():
    w_f, w_r = gaussian_works(1.0, 1.0, 500, np.random.default_rng(1))
    assert abs(bar(w_f + 100, w_r - 100) - bar(w_f, w_r) - 100) < 1e-6


@pytest.mark.parametrize("poison", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("side", [0, 1])
def test_one_bad_work_is_refused(poison, side):
    """pymbar.bar answers 0.0 ± 0.0 here."""
    works = gaussian_works(1.0, 1.0, 100, np.random.default_rng(2))
    works[side][7] = poison
    with pytest.raises(NumericalError):
        bar(*works)


def test_no_overlap_is_refused():
    """pymbar.bar answers with a small or nan sigma here."""
    rng = np.random.default_rng(3)
    for distance in (50, 100, 300):
        with pytest.raises(OverlapError):
            bar(rng.normal(distance, 1, 1000), rng.normal(distance, 1, 1000))


@pytest.mark.parametrize("sizes", [(20, 20), (7, 50)])
@pytest.mark.parametrize("work", [0.0, 0.1, -3.7, 812.5])
def test_works_that_are_all_equal(work, sizes):
    """A state that only shifts: pymbar may find no bracket for the root, which is the work itself."""
    assert bar(np.full(sizes[0], work), np.full(sizes[1], -work)) == pytest.approx(work, abs=1e-9)


def test_works_on_which_pymbar_gives_up():
    """Neighbours of many sizes and distances, pymbar converging on some: the root, or no overlap, on all."""
    rng, n_found = np.random.default_rng(0), 0
    for scale in (0.1, 1, 10, 100, 1000):
        for _ in range(20):
            mean, n_f, n_r = scale * rng.normal(), *rng.integers(2, 60, 2)
            w_f, w_r = mean + scale * rng.normal(size=n_f), scale * rng.normal(size=n_r) - mean
            with suppress(OverlapError):
                c, m = bar(w_f, w_r), np.log(n_f / n_r)
                up, down = expit(c - m - w_f).sum(), expit(m - c - w_r).sum()
                assert up == pytest.approx(down, rel=1e-4)
                n_found += 1
    assert n_found > 50


def test_empty_works_are_refused():
    with pytest.raises(NumericalError):
        bar(np.empty(0), np.ones(3))


def test_numpys_error_state_is_left_alone(capfd):
    """pymbar sets it to "warn" on import, and prints banners."""
    before = np.geterr()
    bar(*gaussian_works(1.0, 1.0, 100, np.random.default_rng(4)))
    assert np.geterr() == before
    assert capfd.readouterr() == ("", "")


def replicates(n_iterations=400, n_replicates=16, seed=5, correlated=False):
    """Return works of three steps with known ratios 1, -2 and 0.5 in independent replicates."""
    rng = np.random.default_rng(seed)
    forward, reverse = (np.empty((n_iterations, n_replicates, 3)) for _ in range(2))
    for k, delta in enumerate((-1.0, 2.0, -0.5)):
        n = n_iterations // 20 if correlated else n_iterations
        w_f, w_r = (w.reshape(n, n_replicates) for w in gaussian_works(delta, 0.7, n * n_replicates, rng))
        repeat = n_iterations // n
        forward[..., k], reverse[..., k] = np.repeat(w_f, repeat, axis=0), np.repeat(w_r, repeat, axis=0)
    return Works(forward, reverse, np.zeros((n_iterations, n_replicates, 4)))


def part(works, index):
    return Works(works.forward[index], works.reverse[index], works.energies[index])


@pytest.mark.parametrize("correlated", [False, True])
def test_the_error_is_borne_out_by_independent_repeats(correlated):
    """z-scores of 200 repeats: sd in [0.8, 1.25]; the sd of 200 normal z-scores leaves that band with p < 1e-4.

    With every work repeated 20 times BAR's own error would be too small by the square root of 20; the clustered
    one is not.
    """
    n = 200
    scores = []
    for seed in range(n):
        b = bridge(replicates(n_iterations=100, seed=seed, correlated=correlated))
        scores.append((b.total - (-0.5)) / b.std_err)
    assert abs(np.mean(scores)) < 4 * 1.1 / np.sqrt(n)
    assert 0.8 < np.std(scores) < 1.25


def test_parts_of_the_samples_by_influence():
    """First-order estimates from a part agree with BAR on that part."""
    works = replicates()
    whole = bridge(works)
    half = bridge(part(works, slice(0, 200)))
    estimate, error = whole.part(0, 200)
    assert abs(estimate - half.total) < 0.1 * error
    assert abs(error / half.std_err - 1) < 0.1
    single = bridge(part(works, (slice(None), slice(0, 1))))
    assert abs(whole.repeats[0] - single.total) < 0.01
    assert abs(whole.influence.mean()) < 1e-6


def test_stepping_stones_bracket_and_agree():
    forward, reverse = stepping_stones(replicates(n_iterations=4000))
    assert abs(forward - (-0.5)) < 0.05
    assert abs(reverse - (-0.5)) < 0.05


@pytest.mark.parametrize("betas", [[0.0], [0.0, 0.5], [0.1, 1.0], [0.0, 0.5, 0.5, 1.0], [0.0, 0.7, 0.3, 1.0]])
def test_ladders_that_do_not_rise_from_0_to_1_are_refused(betas):
    with pytest.raises(ConfigError):
        Schedule(np.array(betas))


def test_equalised_rungs_are_equally_spaced_in_the_barrier():
    """With the local barrier λ(β) = 2β, Λ(β) = β², rungs belong at the square roots of equal steps."""
    schedule = Schedule.uniform(100)
    rejection = 5 * np.diff(schedule.betas**2)
    equal = schedule.equalised(rejection, exchange_rate=0.5)
    assert equal.n_steps == 10
    assert np.allclose(equal.betas[1:] ** 2, np.arange(1, 11) / 10, atol=0.01)

"""Streamed sums against the works that they stand for, and Bennett's identity against known ratios."""

import numpy as np
import pytest

from dvae_core.errors import NumericalError, OverlapError
from dvae_eval.log_z.bar import MAX_BLOCKS, STATISTICS, WorkSums, bridge_of_sums
from dvae_eval.sampling.replicas import Works
from tests.oracles.bridges import bridge, stepping_stones

DELTAS = np.array([-1.0, 2.0, -0.5])


def gaussian_works(n_iterations, n_replicates=16, spread=0.7, seed=0):
    """Return works that obey Crooks' theorem with Δf = DELTAS: w_f ~ N(Δf + s²/2, s), w_r ~ N(-Δf + s²/2, s)."""
    rng = np.random.default_rng(seed)
    shape = (n_iterations, n_replicates, len(DELTAS))
    forward = rng.normal(DELTAS + spread**2 / 2, spread, shape)
    reverse = rng.normal(-DELTAS + spread**2 / 2, spread, shape)
    return Works(forward, reverse, rng.normal(5.0, 2.0, (n_iterations, n_replicates, len(DELTAS) + 1)))


def chunks(works, chunk):
    for i in range(0, len(works.forward), chunk):
        yield Works(*(a[i : i + chunk] for a in (works.forward, works.reverse, works.energies)))


def summed(works, chunk=8, shift=DELTAS):
    sums = WorkSums(shift, works.forward.shape[1], chunk)
    for w in chunks(works, chunk):
        sums.add(w)
    return sums


@pytest.mark.parametrize("offset", [0.0, 0.1, -0.5])
def test_any_shift_gives_the_known_ratios(offset):
    """z-scores of 200 repeats: mean within 4 standard errors, sd in [0.8, 1.2] (false alarm 1e-4)."""
    scores = []
    for seed in range(200):
        bar = bridge_of_sums(summed(gaussian_works(64, seed=seed), shift=DELTAS + offset))
        scores.append((bar.total + DELTAS.sum()) / bar.std_err)
    assert abs(np.mean(scores)) < 4 / np.sqrt(200)
    assert 0.8 < np.std(scores) < 1.2


def test_it_is_bar_at_the_right_shift():
    works = gaussian_works(4096)
    bar = bridge(works)
    streamed = bridge_of_sums(summed(works, shift=-bar.delta_f))
    assert np.allclose(streamed.delta_f, bar.delta_f, atol=1e-6)
    assert np.allclose(streamed.overlaps, bar.overlaps, atol=1e-3)
    # pymbar stops at a relative tolerance of 1e-12; the overlap has two estimators that agree as 1/sqrt(n).


def test_works_of_the_wrong_sign_are_rejected():
    works = gaussian_works(400)
    wrong = Works(works.forward, -works.reverse, works.energies)
    bar = bridge_of_sums(summed(wrong))
    assert abs(bar.total + DELTAS.sum()) > 10 * bar.std_err


def test_sums_are_means_however_often_stretches_were_merged():
    works = gaussian_works(8 * 200, n_replicates=3)
    sums = summed(works)
    assert MAX_BLOCKS / 2 <= sums.n_blocks < MAX_BLOCKS
    n = sums.n_blocks * sums.block
    acceptance = np.exp(np.minimum(0, -works.forward[:n] - works.reverse[:n]))
    assert np.allclose(sums.statistic("exchange").mean(0), acceptance.mean(0), rtol=1e-12)
    forward = 1 / (1 + np.exp(works.forward[:n] - DELTAS))
    assert np.allclose(sums.statistic("forward")[0], forward[: sums.block].mean(0), rtol=1e-12)
    high = 1 / (1 + np.exp(works.reverse[:n] + DELTAS + 2))
    assert np.allclose(sums.statistic("reverse_high").mean(0), high.mean(0), rtol=1e-12)
    mean, variance = sums.energies()
    assert np.allclose(mean, works.energies[:n].mean((0, 1)))
    assert np.allclose(variance, works.energies[:n].var((0, 1)))


def test_stepping_stones_are_among_the_sums():
    works = gaussian_works(512)
    sums = summed(works)
    forward, reverse = stepping_stones(works)
    assert np.isclose((np.log(sums.statistic("stone_forward").mean((0, 1))) - DELTAS).sum(), forward)
    assert np.isclose(-(np.log(sums.statistic("stone_reverse").mean((0, 1))) + DELTAS).sum(), reverse)


def test_a_saved_state_goes_on_as_if_nothing_had_happened():
    works = list(chunks(gaussian_works(8 * 301), 8))
    whole, first = WorkSums(DELTAS, 16, 8), WorkSums(DELTAS, 16, 8)
    for w in works[:157]:
        first.add(w)
    second = WorkSums.from_state({k: np.array(v) for k, v in first.state_dict().items()})
    for w in works[157:]:
        second.add(w)
    for w in works:
        whole.add(w)
    for name in STATISTICS:
        assert (whole.statistic(name) == second.statistic(name)).all()


def test_poison_and_no_overlap_are_refused():
    works = gaussian_works(64)
    works.forward[3, 4, 1] = np.nan
    with pytest.raises(NumericalError, match="nan"):
        bridge_of_sums(summed(works))
    far = gaussian_works(64)
    far.forward[..., 1] += 800
    far.reverse[..., 1] += 800
    with pytest.raises(OverlapError, match="rungs 1 and 2"):
        bridge_of_sums(summed(far))

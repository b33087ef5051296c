"""Strict bounds of log Z: never above the exact value, whatever the means, the weights and the machine."""

import numpy as np
from scipy.special import expit, logsumexp

from dvae_eval.log_z.checks import check_known_states, check_lower_bound, student_limit
from dvae_eval.machine import BipartiteMachine, machine_from_couplings
from dvae_eval.sampling import basins as basins_module
from dvae_eval.sampling.basins import find_basins, with_basins_of
from dvae_eval.sampling.lower_bound import (
    C,
    _roots,
    mean_field_bounds,
    mixture_bound,
    overlaps,
    sum_over_basins,
    weight_of_states,
)
from dvae_eval.test_machines.rbms import golf_hole, trained
from tests.broken import blind_search
from tests.oracles import enumerate_states


def drawn_machine(rng):
    """An RBM of 4 to 12 units, the smaller side kept, or a general machine of 4 to 10; weak and strong ones."""
    scale = rng.choice([0.3, 1.0, 3.0, 8.0])
    if rng.random() < 0.6:
        shape = rng.integers(2, 7, 2)
        W = rng.normal(size=shape) * scale
        biases = [rng.normal(size=n) * scale - W.sum(1 - side) / 2 for side, n in enumerate(shape)]
        return BipartiteMachine.from_arrays(W, *biases)
    n = rng.integers(4, 11)
    J = np.triu(rng.normal(size=(n, n)) * scale, 1) * (rng.random((n, n)) < 0.8)
    J[0, 1:3] = J[1, 2] = scale  # a triangle: not bipartite
    return machine_from_couplings(J, rng.normal(size=n) * scale - (J + J.T).sum(1) / 2)


def joint(reduced):
    """Return all states of all units, the kept ones first, and their log-weights: the definition, no more."""
    states = enumerate_states(len(reduced.biases))
    v, h = states[:, : len(reduced.b)], states[:, len(reduced.b) :]
    log_p = v @ reduced.b + h @ reduced.c + (v @ reduced.W * h).sum(1)
    return states, log_p if reduced.J is None else log_p + (v @ reduced.J * v).sum(1) / 2


def drawn_means(reduced, rng, n):
    """Means of the kept units of some products: modes of the machine, anything, or certain states; some alike."""
    kind = rng.integers(3)
    if kind == 0:
        v = rng.random((n, len(reduced.b)))
        v = basins_module._settled(reduced, reduced.W, v, 30)
    elif kind == 1:
        v = rng.random((n, len(reduced.b))) ** rng.choice([0.1, 1, 10])
    else:
        v = np.round(rng.random((n, len(reduced.b))))
    return np.where(rng.random((n, 1)) < 0.3, v[:1], v)


def product(reduced, v, states):
    """Return q_k of all states, (n, n_states): products over all units, the summed-out ones at their best."""
    means = np.concatenate((v, expit(reduced.c + v @ reduced.W)), axis=1)
    return np.where(states == 1, means[:, None], 1 - means[:, None]).prod(-1)


def coefficients(reduced, v):
    """Return all Bhattacharyya coefficients of products, as the module makes them."""
    roots = np.array([_roots(reduced, reduced.W, m) for m in v])
    return np.array([overlaps(own, roots) for own in roots])


def bounds_of(seed):
    """Return exact log Z of a drawn machine, bounds by any weights and others, the greedy one, the bare sum."""
    rng = np.random.default_rng(seed)
    reduced = drawn_machine(rng).reduced()
    exact = logsumexp(joint(reduced)[1])
    v = drawn_means(reduced, rng, rng.integers(1, 8))
    single = mean_field_bounds(reduced, reduced.W, v)
    order = np.argsort(-single)
    v, single = v[order], single[order]
    overlap = coefficients(reduced, v)
    log_w = np.log(rng.dirichlet(np.full(len(v), rng.choice([0.1, 1.0, 10.0]))) + 1e-300)
    log_w -= logsumexp(log_w)
    any_weights = mixture_bound(single, log_w, overlap)
    softmax = mixture_bound(single, single - logsumexp(single), overlap)
    greedy = sum_over_basins(reduced, reduced.W, v, single, 200)
    return exact, [any_weights, softmax, single[0]], greedy, logsumexp(single)


def test_no_bound_is_above_the_exact_value():
    """3000 machines with modes, means and weights of every kind; the sum without its correction does not pass."""
    nearest, n_bare = -np.inf, 0
    for seed in range(3000):
        exact, bounds, greedy, bare = bounds_of(seed)
        assert max(bounds) <= exact + 1e-9, seed
        assert greedy.value <= exact, seed  # its rounding is taken off
        assert greedy.value >= bounds[2] - 1e-9, seed  # no worse than the best basin alone
        nearest, n_bare = max(nearest, greedy.value - exact), n_bare + (bare > exact + 1e-9)
    assert nearest > -1e-3  # where basins are apart, nothing is lost
    assert n_bare > 1000


def test_the_correction_is_that_of_two_products():
    """Σ √(q_k q_j) over all states of all units; an RBM with either side kept, and a general machine."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        reduced = drawn_machine(rng).reduced()
        v = drawn_means(reduced, rng, 4)
        q = product(reduced, v, joint(reduced)[0])
        assert np.allclose(coefficients(reduced, v), np.sqrt(q) @ np.sqrt(q).T, atol=1e-12)


def test_the_constant_is_the_maximum():
    r = np.geomspace(1e-6, 1e6, 1_000_000)
    assert 0 < C - (np.log1p(r) / np.sqrt(r)).max() < 1e-5


def test_five_clusters_are_bounded_to_a_thousandth():
    """An estimate from a fitted reference was 129.18 ± 0.06, and trusted; the best basin alone lets it pass."""
    machine, exact = trained("clusters-80x10")
    basins = find_basins(machine.reduced(), seed=0)
    assert exact - 1e-3 < basins.lower_bound.value < exact
    for log_z, std_err in ((129.184, 0.059), (129.150, 0.061), (129.229, 0.050)):
        assert not check_lower_bound(log_z, std_err, basins.lower_bound.value, student_limit(32)).passed
        assert check_lower_bound(log_z, std_err, basins.bounds[0], student_limit(32)).passed
    assert check_lower_bound(exact, 1e-6, basins.lower_bound.value, student_limit(32)).passed


def test_a_basin_that_a_replica_is_in_joins_the_bound(monkeypatch):
    """The search is blind here, and one state of many lies in the hole, on the hottest rung."""
    machine, exact = golf_hole()
    reduced = machine.reduced()
    hole = find_basins(reduced, seed=0).means[0] > 0.5
    blind_search(monkeypatch)
    blind = find_basins(reduced, seed=0).lower_bound
    assert blind.value < exact - 5
    states = np.zeros((8, 5, len(hole)), np.uint8)
    assert with_basins_of(reduced, blind, states).value < exact - 5
    states[3, 0] = hole
    found = with_basins_of(reduced, blind, states)
    assert exact - 0.1 < found.value <= exact


def test_known_states_weigh_no_more_than_all():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        reduced = drawn_machine(rng).reduced()
        exact = logsumexp(joint(reduced)[1])
        all_states = enumerate_states(len(reduced.b)).astype(np.uint8)
        some = rng.permutation(np.repeat(all_states[rng.random(len(all_states)) < 0.5], 3, axis=0))
        assert not len(some) or weight_of_states(reduced, some) <= exact
        assert exact - 1e-9 < weight_of_states(reduced, np.repeat(all_states, 2, axis=0)) <= exact


def test_an_estimate_below_the_weight_of_known_states_is_refused():
    machine, exact = trained("clusters-80x10")
    states = (find_basins(machine.reduced(), 0).means > 0.5).astype(np.uint8)
    weight = weight_of_states(machine.reduced(), states)
    assert exact - 1e-3 < weight < exact
    assert not check_known_states(exact - 1, 0.1, weight, 4.5).passed
    assert check_known_states(exact, 0.1, weight, 4.5).passed

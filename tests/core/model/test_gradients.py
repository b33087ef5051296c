"""The bound and its gradients against enumeration and quadrature (Eq. 8, 11, 12, 14, 31).

Every parameter of the model is compared at once: blocks of samples give a mean gradient and its standard error,
and the largest |z| over all parameters must stay under LIMIT.  With 40 blocks, Student's t puts the false-alarm
rate of a comparison of 60 numbers near 60 * 5e-6 = 3e-4 for LIMIT = 5.3; the seeds are fixed besides.
"""

import itertools
from dataclasses import replace

import pytest
import torch
from scipy import stats

import dvae_core.model.dvae
from dvae_core import config
from dvae_core.model.posterior import expected_energy
from dvae_core.model.smoothing import DiscreteSample, SpikeAndGaussian
from tests.oracles import exact_bound, tiny_model

# `none` has no gradient, and GumBolt's is biased: tests/core/model/test_gumbolt.py.
SMOOTHINGS = [name for name in config.SMOOTHINGS if name not in ("none", "gumbolt")]
N_BLOCKS, BLOCK = 40, 10_000
LIMIT = 5.3
X = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)


def test_the_stated_false_alarm_rate():
    assert 60 * 2 * stats.t.sf(LIMIT, N_BLOCKS - 1) < 3e-4


def gradients(model):
    """Return all gradients as one vector."""
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    vector = torch.cat([part.flatten() for part in parts]).clone()
    model.zero_grad(set_to_none=True)
    return vector


def estimated(model):
    """Return the blocks' bounds (n,) and gradients (n, n_parameters)."""
    generator = torch.Generator().manual_seed(1)
    n_uniform, n_normal = model.n_noise
    values, rows = [], []
    for _ in range(N_BLOCKS):
        rho = torch.rand((BLOCK, n_uniform), generator=generator, dtype=torch.float64)
        eps = torch.randn((BLOCK, n_normal), generator=generator, dtype=torch.float64)
        bound = model.bound(X.expand(BLOCK, -1), rho, eps).elbo(log_z=0.0).mean()
        bound.backward()
        values.append(bound.detach())
        rows.append(gradients(model))
    return torch.stack(values), torch.stack(rows)


def largest_z(blocks, exact):
    """Return the largest |mean - exact| in standard errors; where nothing varies, the two must agree."""
    error = blocks.std(0) / N_BLOCKS**0.5
    distance = (blocks.mean(0) - exact).abs()
    assert (distance[error < 1e-12] < 1e-8).all()
    return float((distance / error.clamp_min(1e-12))[error >= 1e-12].max())


def compare(model):
    """Return the largest |z| of the bound and of its gradients."""
    bound = exact_bound(model, X)
    bound.backward()
    exact = gradients(model)
    values, rows = estimated(model)
    return largest_z(values[:, None], bound.detach()[None]), largest_z(rows, exact)


def in_turn(n_quick, *columns):
    """Return all combinations, all but those of the first `n_quick` values of the last column marked slow."""
    *others, last = columns
    return [
        pytest.param(*row, value, marks=[pytest.mark.slow] * (value not in last[:n_quick]))
        for row in itertools.product(*others)
        for value in last
    ]


@pytest.mark.parametrize(("smoothing", "n_groups"), in_turn(1, SMOOTHINGS, [4, 1, 2, 3]))
def test_bound_and_gradients_agree_with_enumeration(smoothing, n_groups):
    """Of the bound, E[z_i z_j] (the gradient in W), entropy and KL, for models of 2 + 2 units."""
    value, gradient = compare(tiny_model(n_groups=n_groups, seed=n_groups, smoothing=smoothing))
    assert value < LIMIT
    assert gradient < LIMIT


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_bound_and_gradients_with_two_groups_in_small(smoothing):
    value, gradient = compare(tiny_model(n_left=1, n_right=1, seed=2, smoothing=smoothing))
    assert value < LIMIT
    assert gradient < LIMIT


@pytest.mark.parametrize(("n_layers", "smoothing"), in_turn(1, [2], SMOOTHINGS))
def test_bound_and_gradients_with_continuous_layers(n_layers, smoothing):
    model = tiny_model(n_left=1, n_right=1, n_layers=n_layers, seed=7, smoothing=smoothing)
    value, gradient = compare(model)
    assert value < LIMIT
    assert gradient < LIMIT


@pytest.mark.parametrize(("n_layers", "n_sharing_groups"), [(2, 1), (3, 2)])
def test_bound_and_gradients_with_shared_parameters(n_layers, n_sharing_groups):
    """Complete sharing; and two groups of which the first has two layers."""
    model = tiny_model(
        n_left=1, n_right=1, n_layers=n_layers, n_sharing_groups=n_sharing_groups, seed=11, scale=0.7
    )
    value, gradient = compare(model)
    assert value < LIMIT
    assert gradient < LIMIT


def test_uneven_sides_and_groups_across_sides():
    """Groups of a left and a right unit together: some bonds lie inside a group."""
    value, gradient = compare(tiny_model(n_left=1, n_right=3, n_groups=3, seed=5))
    assert value < LIMIT
    assert gradient < LIMIT


@pytest.mark.parametrize(
    ("graph", "n_groups"), [("ring", 4), ("complete", 2), ("complete", 3), ("0-2,0-3,1-2", 4), ("", 2)]
)
def test_bound_and_gradients_with_any_graph(graph, n_groups):
    """Bonds of all kinds: between groups and inside one, with and without lateral connections."""
    model = tiny_model(n_groups=n_groups, seed=4, prior="graph" if graph else "independent", graph=graph)
    value, gradient = compare(model)
    assert value < LIMIT
    assert gradient < LIMIT


def without_factor(prior, sample, groups):
    """Eq. 31 with (1 - z)/(1 - q) left out."""
    z, q, J = sample.z, sample.logits.sigmoid(), prior.couplings()
    effect = (q @ J.T).detach()
    return -(q @ prior.biases() + ((z @ J) * q).sum(-1) + (effect * (q - q.detach())).sum(-1))


def without_earlier_unit(prior, sample, groups):
    """The earlier unit's gradient forgotten altogether."""
    z, q = sample.z, sample.logits.sigmoid()
    return -(q @ prior.biases() + ((z @ prior.couplings()) * q).sum(-1))


def straight_product(prior, sample, groups):
    """E[z_i z_j] taken for q_i q_j across groups, as if ζ did not tie them."""
    return prior.energy(sample.logits.sigmoid())


@pytest.mark.parametrize("broken", [without_factor, without_earlier_unit, straight_product])
def test_wrong_estimators_are_rejected(monkeypatch, broken):
    monkeypatch.setattr(dvae_core.model.dvae, "expected_energy", broken)
    assert max(compare(tiny_model(n_groups=2, seed=2))) > 3 * LIMIT


def spike_formula(prior, sample, groups):
    """Eq. 31 where it does not hold: without a spike, ζ does not tell z."""
    q = sample.logits.sigmoid()
    nu = sample.z + ((1 - sample.z) / (1 - q)).detach() * (q - q.detach())
    return expected_energy(prior, replace(sample, nu=nu), groups)


@pytest.mark.parametrize("smoothing", ["mixture-of-ramps", "overlapping-exponential", "power-function"])
def test_the_spike_formula_is_rejected_where_there_is_no_spike(monkeypatch, smoothing):
    monkeypatch.setattr(dvae_core.model.dvae, "expected_energy", spike_formula)
    assert max(compare(tiny_model(n_left=1, n_right=1, seed=2, smoothing=smoothing))) > 2 * LIMIT


def without_kl(sample):
    """Eq. 22 without its last term."""
    return replace(sample, kl=torch.zeros_like(sample.kl))


def with_kl_cut_off(sample):
    """The last term of Eq. 22 not backpropagated into q: its gradient in q is taken away, its value is kept."""
    q = sample.logits.sigmoid()
    return replace(sample, kl=sample.kl * q.detach() / q)


@pytest.mark.parametrize("broken", [without_kl, with_kl_cut_off])
def test_a_wrong_kl_of_the_gaussian_is_rejected(monkeypatch, broken):
    forward = SpikeAndGaussian.forward
    monkeypatch.setattr(SpikeAndGaussian, "forward", lambda *args: broken(forward(*args)))
    assert max(compare(tiny_model(n_groups=1, seed=1, smoothing="spike-and-gaussian"))) > 3 * LIMIT


def test_the_spike_at_the_beginning_of_rho_is_rejected(monkeypatch):
    """The paper's shifted inverse CDF: the right distribution, but ζ jumps, and its gradients are biased."""
    monkeypatch.setattr(torch.special, "ndtr", torch.zeros_like)
    value, gradient = compare(tiny_model(n_groups=1, seed=1, smoothing="spike-and-gaussian"))
    assert value < LIMIT
    assert gradient > 3 * LIMIT


def test_entropy_and_log_q_agree():
    """-H is the expectation of log q over z, one unit at a time."""
    logits = torch.tensor([[0.3, -2.0, 4.0]], dtype=torch.float64)
    states = torch.tensor([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)], dtype=torch.float64)
    samples = DiscreteSample(states, states, logits.expand(8, -1), states, 0 * states, 0 * states)
    assert torch.allclose((samples.log_q.exp() * samples.log_q).sum(), samples.negative_entropy[0], atol=1e-12)

"""The RBM's energies and its sampler against enumeration."""

import math

import pytest
import torch

from dvae_core.model.prior import annealed_log_z
from dvae_core.model.rbm import RBM
from tests.oracles import all_states, bipartite, brute_log_z, p_value

FALSE_ALARM = 1e-5


@pytest.fixture
def rbm():
    machine = RBM(3, 2).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return machine


def exact_log_p(rbm, beta=1.0):
    """Return log p_β of all joint states."""
    return torch.log_softmax(-beta * rbm.energy(all_states(rbm.n_units)), 0).detach().numpy()


def test_energy_is_that_of_equation_6(rbm):
    z = all_states(5)
    expected = [
        -sum(rbm.W[i, j] * s[i] * s[3 + j] for i in range(3) for j in range(2))
        - sum(rbm.b_left[i] * s[i] for i in range(3))
        - sum(rbm.b_right[j] * s[3 + j] for j in range(2))
        for s in z
    ]
    assert torch.allclose(rbm.energy(z), torch.stack(expected), atol=1e-12)
    quadratic = torch.einsum("ni,ij,nj->n", z, rbm.couplings(), z) + z @ rbm.biases()
    assert torch.allclose(rbm.energy(z), -quadratic, atol=1e-12)
    assert (rbm.couplings().tril() == 0).all()


def left_states():
    """Return all states of the three left units; the two right ones, which do not matter, are ones."""
    return torch.nn.functional.pad(all_states(3), (0, 2), value=1.0)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_free_energies_sum_to_log_z(rbm, beta):
    exact = torch.logsumexp(-beta * rbm.energy(all_states(5)), 0)
    left = torch.logsumexp(-rbm.free_energy(left_states(), beta), 0)
    assert torch.allclose(left, exact, atol=1e-12)


def test_free_energy_takes_one_beta_a_chain(rbm):
    betas = torch.linspace(0, 1, 8, dtype=torch.float64)[:, None]
    together = rbm.free_energy(left_states(), betas)
    singly = torch.stack([rbm.free_energy(v, float(b)) for v, b in zip(left_states(), betas, strict=True)])
    assert torch.allclose(together, singly, atol=1e-12)


def test_negative_phase_has_the_gradient_of_log_z(rbm):
    """Σ p(v) ∂(-F(v)) = ∂ log Z: what training uses in the place of the unknown log Z (Eq. 11)."""
    torch.logsumexp(-rbm.energy(all_states(5)), 0).backward()
    exact = [p.grad.clone() for p in rbm.parameters()]
    rbm.zero_grad()
    free = rbm.free_energy(left_states())
    (torch.softmax(-free, 0).detach() * -free).sum().backward()
    for parameter, expected in zip(rbm.parameters(), exact, strict=True):
        assert torch.allclose(parameter.grad, expected, atol=1e-12)


def p_after_30_sweeps(rbm, sampler, beta):
    """Return the chi-square p-value of 20000 chains against enumeration."""
    generator = torch.Generator().manual_seed(4)
    z = rbm.initial_state(20_000, generator)
    for _ in range(30):
        z = sampler(z, generator)
    return p_value(z, exact_log_p(rbm, beta))


@pytest.mark.parametrize("beta", [0.4, 1.0])
def test_gibbs_samples_the_exact_distribution(rbm, beta):
    def sampler(z, generator):
        return rbm.gibbs(z, 1, generator, beta)

    assert p_after_30_sweeps(rbm, sampler, beta) > FALSE_ALARM


def test_one_beta_a_chain_is_sampled_rightly(rbm):
    """Half of the chains at β = 1 must be unmoved by their neighbours at β = 0."""
    betas = torch.cat((torch.ones(20_000), torch.zeros(20_000)))[:, None].double()
    generator = torch.Generator().manual_seed(5)
    z = rbm.gibbs(rbm.initial_state(40_000, generator), 30, generator, betas)
    for half, beta in ((z[:20_000], 1.0), (z[20_000:], 0.0)):
        assert p_value(half, exact_log_p(rbm, beta)) > FALSE_ALARM


def test_a_broken_sampler_is_rejected(rbm):
    """Both sides drawn at once, each given the other's old state: a common and tempting error."""

    def parallel(z, generator):
        left, right = rbm.split(z)
        p_right = torch.sigmoid(left @ rbm.W + rbm.b_right)
        p_left = torch.sigmoid(right @ rbm.W.T + rbm.b_left)
        p = torch.cat((p_left, p_right), -1)
        return (torch.rand(p.shape, generator=generator) < p).double()

    assert p_after_30_sweeps(rbm, parallel, 1.0) < FALSE_ALARM


def test_annealed_log_z(rbm):
    estimate = annealed_log_z(rbm, torch.Generator().manual_seed(6), n_chains=2000)
    exact = brute_log_z(*bipartite(*(p.detach() for p in (rbm.W, rbm.b_left, rbm.b_right))))
    # 2000 chains of weights with a variance under 0.1 scatter by less than 0.01; five of those.
    assert abs(estimate - exact) < 0.05


def test_the_initial_state_is_uniform():
    z = RBM(50, 50).initial_state(1000, torch.Generator().manual_seed(7))
    assert set(z.unique().tolist()) == {0.0, 1.0}
    assert abs(float(z.mean()) - 0.5) < 5 * 0.5 / math.sqrt(z.numel())

"""Persistent chains: what tempering leaves invariant, and where it helps."""

import numpy as np
import pytest
import torch

from dvae_core.config import TrainConfig
from dvae_core.graphs import graph_edges
from dvae_core.model.boltzmann import BoltzmannMachine
from dvae_core.model.rbm import RBM
from dvae_core.training.negative_phase import PersistentChains
from tests.oracles import all_states, p_value

FALSE_ALARM = 1e-5
N = 5


def tilted(prior):
    """Two unequal modes, all units off or on, between which a few sweeps do not go: exchanges alone decide."""
    with torch.no_grad():
        prior.W.fill_(6.0)
        J = prior.couplings()
        biases = -(J + J.T).sum(0) / 2 + torch.tensor([0.5, 0.3, -0.2, 0.4, -0.1], dtype=torch.float64)
        for parameter, value in zip(list(prior.parameters())[1:], biases.split(sides(prior)), strict=True):
            parameter.copy_(value)
    return prior


def sides(prior):
    return [prior.n_left, prior.n_right] if isinstance(prior, RBM) else [N]


PRIORS = {
    "rbm": lambda: tilted(RBM(3, 2).double()),
    "ring": lambda: tilted(BoltzmannMachine(N, graph_edges("ring", N)).double()),
}


def exact(prior, beta):
    return torch.softmax(-beta * prior.energy(all_states(N)), 0).detach()


def p_values(prior, act):
    """Return the chi-square p-values of the coldest and of a middle rung, after `act` on chains in equilibrium."""
    config = TrainConfig(sampler="tempering", n_rungs=4, n_chains=20_000, n_sweeps=1)
    generator = torch.Generator().manual_seed(2)
    chains = PersistentChains(prior, config, generator)
    for rung, beta in enumerate(chains.betas.tolist()):
        chosen = torch.multinomial(exact(prior, beta), config.n_chains, replacement=True, generator=generator)
        chains.z[rung] = all_states(N)[chosen]
    act(chains, prior, generator)
    return [p_value(chains.z[rung], exact(prior, float(chains.betas[rung])).log().numpy()) for rung in (-1, 1)]


def advances(chains, prior, generator):
    for _ in range(5):
        chains.advance(prior, generator)


@pytest.mark.parametrize("name", PRIORS)
def test_tempering_leaves_every_rung_invariant(name):
    """False alarm 1e-5 for each of two rungs."""
    assert min(p_values(PRIORS[name](), advances)) > FALSE_ALARM


@pytest.mark.parametrize("name", PRIORS)
def test_exchanges_that_are_always_accepted_are_rejected(name, monkeypatch):
    monkeypatch.setattr(PersistentChains, "_log_acceptance", always)
    assert min(p_values(PRIORS[name](), advances)) < FALSE_ALARM


def always(chains, prior, lower, upper):
    return torch.zeros_like(chains.z[lower][..., 0])


def exchanges_alone(chains, prior, generator):
    """Exchange only; then draw the right side given the left, which the exchange was about."""
    for _ in range(6):
        chains._exchange(prior, generator)
    field = chains.betas[:, None, None] * (prior.split(chains.z)[0] @ prior.W + prior.b_right)
    chains.z[..., prior.n_left :] = (torch.rand(field.shape, generator=generator) < field.sigmoid()).double()


def difference_of_free_energies(chains, prior, lower, upper):
    """(β_u - β_l)(F_1(z_u) - F_1(z_l)), as if F_β were β F_1: the error of a published package."""
    step = chains.betas[upper] - chains.betas[lower]
    return step[:, None] * (prior.free_energy(chains.z[upper]) - prior.free_energy(chains.z[lower]))


@pytest.mark.parametrize("rule", [None, difference_of_free_energies])
def test_the_exchange_rule_is_that_of_the_reduced_potentials(rule, monkeypatch):
    """Sweeps would hide a wrong rule: exchanges alone must leave the kept units invariant (false alarm 2e-5)."""
    prior = RBM(2, 3).double()
    with torch.no_grad():
        prior.W.copy_(torch.tensor([[3.0, 3.0, 3.0], [3.0, 3.0, -4.0]]))
        prior.b_right.fill_(-4.0)
    if rule:
        monkeypatch.setattr(PersistentChains, "_log_acceptance", rule)
    assert (min(p_values(prior, exchanges_alone)) > FALSE_ALARM) == (rule is None)


def planted(n_left=16, n_right=16, strength=0.25):
    """Two equal modes, all units on or all off, between which block Gibbs does not go."""
    prior = RBM(n_left, n_right)
    with torch.no_grad():
        prior.W.fill_(4 * strength)
        prior.b_left.fill_(-2 * strength * n_right)
        prior.b_right.fill_(-2 * strength * n_left)
    return prior


def share_of_the_other_mode(sampler):
    """Return the share of 400 chains, all begun in the mode with all units on, that end in the other."""
    prior = planted()
    config = TrainConfig(sampler=sampler, n_rungs=10, n_chains=400, n_sweeps=20)
    generator = torch.Generator().manual_seed(3)
    chains = PersistentChains(prior, config, generator)
    chains.z.fill_(1.0)
    for _ in range(20):
        chains.advance(prior, generator)
    return float((chains.negative_samples.mean(-1) < 0.5).float().mean())


def test_tempering_finds_both_modes_and_gibbs_does_not():
    """By symmetry half of the chains belong to either mode; 400 scatter by 0.025, five of those are allowed."""
    assert share_of_the_other_mode("gibbs") < 0.05
    assert abs(share_of_the_other_mode("tempering") - 0.5) < 0.125


def test_gibbs_is_tempering_with_one_rung():
    """The plain sampler's states are those of the prior's own kernel."""
    prior = PRIORS["rbm"]()
    chains = PersistentChains(prior, TrainConfig(n_chains=7, n_sweeps=5), torch.Generator().manual_seed(0))
    z = prior.initial_state(7, torch.Generator().manual_seed(0))
    chains.advance(prior, torch.Generator().manual_seed(1))
    assert torch.equal(chains.negative_samples, prior.gibbs(z, 5, torch.Generator().manual_seed(1)))
    assert chains.metrics(prior) == {}


@pytest.mark.parametrize("n_sweeps", [1, 4, 5])
def test_state_is_all_that_is_needed_to_go_on(n_sweeps):
    """After an odd number of exchanges, too: the pairs take turns across steps."""
    prior = PRIORS["ring"]()
    config = TrainConfig(sampler="tempering", n_rungs=5, n_chains=6, n_sweeps=n_sweeps)
    chains, other = (PersistentChains(prior, config, torch.Generator().manual_seed(s)) for s in (0, 1))
    chains.advance(prior, torch.Generator().manual_seed(2))
    other.load_state_dict(chains.state_dict())
    for state in (chains, other):
        state.advance(prior, torch.Generator().manual_seed(3))
    assert torch.equal(chains.z, other.z)
    assert chains.n_exchanges == 2 * len(range(0, n_sweeps, 2))
    assert 0 < chains.metrics(prior)["lowest_exchange_rate"] <= 1


def test_exchange_rates_are_those_of_enumeration():
    """The mean of min(1, e^a) over equilibrium pairs; 20000 pairs scatter by at most 0.0036, five are allowed."""
    prior = PRIORS["ring"]()
    config = TrainConfig(sampler="tempering", n_rungs=2, n_chains=20_000, n_sweeps=1)
    generator = torch.Generator().manual_seed(4)
    chains = PersistentChains(prior, config, generator)
    for rung, beta in enumerate((0.0, 1.0)):
        chosen = torch.multinomial(exact(prior, beta), config.n_chains, replacement=True, generator=generator)
        chains.z[rung] = all_states(N)[chosen]
    f0, f1 = (prior.free_energy(all_states(N), beta).detach() for beta in (0.0, 1.0))
    change = f1 - f0
    acceptance = (change[None, :] - change[:, None]).clamp(max=0).exp()
    expected = float(exact(prior, 0.0) @ acceptance @ exact(prior, 1.0))
    assert abs(chains.metrics(prior)["lowest_exchange_rate"] - expected) < 5 * 0.5 / np.sqrt(20_000)

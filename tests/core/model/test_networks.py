"""L1 batch norm by its formula (App. H.2), and networks of several inputs."""

import ctypes
import resource
from functools import partial

import pytest
import torch

from dvae_core.config import ModelConfig
from dvae_core.io.memory import freed_memory_kept
from dvae_core.model.dvae import DVAE
from dvae_core.model.hierarchy import Gaussian
from dvae_core.model.networks import MLP, L1BatchNorm


def test_training_normalises_by_the_mean_absolute_deviation():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 3 + 7
    y = L1BatchNorm(4, eps=0.0)(x)
    assert torch.allclose(y.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(y.abs().mean(0), torch.ones(4), atol=1e-5)


@pytest.mark.parametrize("raw", [-1e4, 0.0, 1e4])
def test_bounds_hold_whatever_the_parameters(raw):
    """2 <= s <= 3 and -s <= o <= s, enforced."""
    norm = L1BatchNorm(3, bounded=True)
    with torch.no_grad():
        norm.raw_scale.fill_(raw)
        norm.raw_offset.fill_(-raw)
    assert ((norm.scale >= 2) & (norm.scale <= 3)).all()
    assert (norm.offset.abs() <= norm.scale).all()


def test_evaluation_uses_running_statistics_and_leaves_them():
    norm = L1BatchNorm(2)
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(1)) * 2 + 5
    for _ in range(200):
        norm(x)
    norm.eval()
    before = norm.running_mean.clone()
    assert torch.allclose(norm(x[:1]), (x[:1] - x.mean(0)) / (x - x.mean(0)).abs().mean(0), atol=1e-2)
    assert torch.equal(norm.running_mean, before)


def test_uses_share_scale_and_offset_but_not_statistics():
    norm = L1BatchNorm(2, n_uses=2)
    generator = torch.Generator().manual_seed(3)
    inputs = [torch.randn((500, 2), generator=generator) * size + size for size in (1.0, 5.0)]
    for _ in range(200):
        trained = [norm(x, use) for use, x in enumerate(inputs)]
    norm.eval()
    for use, x in enumerate(inputs):
        assert torch.allclose(norm(x, use), trained[use], atol=1e-2)
    assert not torch.allclose(norm(inputs[1], 0), trained[1], atol=1)
    assert sum(p.numel() for p in norm.parameters()) == 4


def test_hidden_layers_are_linear_then_normalised_then_rectified():
    """Section 5, with the output layer linear; by the formulas of App. H.2."""
    network = MLP((4,), (6, 5), 3)
    h = x = torch.randn((30, 4), generator=torch.Generator().manual_seed(4))
    for linear, norm in zip(network.linears[:2], network.norms, strict=True):
        h = h @ linear.weight.T + linear.bias
        y = h - h.mean(0)
        h = (y / (y.abs().mean(0) + norm.eps) * norm.scale + norm.offset).clamp_min(0)
    expected = h @ network.linears[2].weight.T + network.linears[2].bias
    assert torch.allclose(network(x), expected, atol=1e-5)


def test_one_group_is_a_factorial_posterior():
    """No unit's probability depends on another's draw; with two groups, the later units' do."""
    x, rho = torch.ones((1, 3)), torch.rand((50, 8), generator=torch.Generator().manual_seed(5))
    for n_groups, factorial in ((1, True), (2, False)):
        model = DVAE(ModelConfig(n_left=4, n_right=4, n_groups=n_groups, encoder_hidden=(9,)), 3).eval()
        logits = model.posterior(x, rho).logits
        assert torch.equal(logits, logits[:1].expand_as(logits)) == factorial


def test_inputs_broadcast_as_if_repeated():
    """One image with many samples gives what the image repeated would."""
    network = MLP((5, 3), (7, 7), 4).eval()
    x, zeta = torch.randn(2, 5), torch.randn(6, 2, 3)
    together = network(x, zeta)
    repeated = network(x.expand(6, 2, 5), zeta)
    assert together.shape == (6, 2, 4)
    assert torch.allclose(together, repeated, atol=1e-6)


def test_an_input_without_features_is_left_out():
    assert MLP((5, 0), (), 2)(torch.randn(3, 5), torch.empty(3, 0)).shape == (3, 2)


def test_gaussian_agrees_with_torch_distributions():
    generator = torch.Generator().manual_seed(2)
    p, q = (Gaussian(*torch.randn(2, 10, 3, generator=generator).double()) for _ in range(2))
    normal_p, normal_q = (torch.distributions.Normal(g.mean, g.log_std.exp()) for g in (p, q))
    value = torch.randn(10, 3, generator=generator).double()
    assert torch.allclose(p.log_prob(value), normal_p.log_prob(value).sum(-1))
    assert torch.allclose(q.kl(p), torch.distributions.kl_divergence(normal_q, normal_p).sum(-1))


def by_autograd(network, *inputs):
    """Return the output of a network in training by the formulas, for autograd to differentiate."""
    h = torch.cat(inputs, -1)
    for i, linear in enumerate(network.linears):
        h = h @ linear.weight.T + linear.bias
        norm = network.norms[i] if i < len(network.norms) else network.output_norm
        y = h - h.flatten(0, -2).mean(0)
        h = y / (y.flatten(0, -2).abs().mean(0) + norm.eps) * norm.scale + norm.offset
        h = h.relu() if i < len(network.norms) else h
    return h


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-4)])
@pytest.mark.parametrize("leading", [(30,), (5, 6)])
def test_derivatives_in_closed_form_are_those_of_autograd(dtype, tolerance, leading):
    generator = torch.Generator().manual_seed(6)
    network = MLP((7, 3), (6, 5), 4, bounded_norm=True).to(dtype)
    x, target = (torch.randn((*leading, n), generator=generator, dtype=dtype) for n in (7, 4))
    zeta = torch.randn((*leading, 3), generator=generator, dtype=dtype, requires_grad=True)
    arguments = [*network.parameters(), zeta]
    outputs = [forward(x, zeta) for forward in (network, partial(by_autograd, network))]
    found, expected = (torch.autograd.grad(((output - target) ** 2).sum(), arguments) for output in outputs)
    assert torch.allclose(*outputs, rtol=tolerance, atol=tolerance)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=tolerance, atol=tolerance * float(expected[-1].abs().max()) * 30)


def test_a_loss_that_ignores_part_of_the_output_has_its_gradient():
    """Gradients that are expanded or partly zero reach the closed forms as they are."""
    network = MLP((7, 3), (6,), 4, bounded_norm=True).double()
    x, zeta = torch.randn(20, 7, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)
    arguments = list(network.parameters())
    outputs = (network(x, zeta), by_autograd(network, x, zeta))
    found, expected = (torch.autograd.grad(output[:, 1].sum(), arguments) for output in outputs)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-11)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_freed_memory_is_kept_from_step_to_step():
    """Every page would be cleared again in every round: 2 000 faults in each."""

    def faults_of_a_round():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(4):
            torch.ones(1 << 19)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    with freed_memory_kept():
        faults_of_a_round()
        # In a process that ran other tests, the heap may still grow by one block in one round.
        assert sorted(faults_of_a_round() for _ in range(5))[2] < 100

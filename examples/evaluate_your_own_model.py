"""Estimate the test log-likelihood of your own model, with a Boltzmann machine in its prior.

    python examples/evaluate_your_own_model.py

The model here is a sigmoid belief network over an RBM: p(x, z) = p(z) Π_i p(x_i | z). It is so small that its
exact log-likelihood can be computed and compared with the estimate.
"""

from itertools import product

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from dvae_core import load_data
from dvae_eval import BipartiteMachine, LikelihoodConfig, estimate_log_likelihood, estimate_log_z

N_LEFT, N_RIGHT = 4, 4


def log_bernoulli(values: Tensor, logits: Tensor) -> Tensor:
    """Return log p(values) of independent binary variables, summed over the last axis."""
    return logsigmoid((2 * values - 1) * logits).sum(-1)


class MyModel(nn.Module):
    """A model with the two methods `sample_latents` and `log_joint`; it need not be a torch module."""

    def __init__(self, n_pixels: int) -> None:
        super().__init__()
        n_units = N_LEFT + N_RIGHT
        self.W = nn.Parameter(torch.randn(N_LEFT, N_RIGHT))
        self.b = nn.Parameter(torch.randn(n_units))
        self.decoder = nn.Linear(n_units, n_pixels)
        self.encoder = nn.Linear(n_pixels, n_units)

    def sample_latents(self, x: Tensor, n_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return draws of z from q(z | x), and log q(z | x) of each, shape (n_samples,)."""
        logits = self.encoder(x.float()).expand(n_samples, -1)
        z = torch.bernoulli(logits.sigmoid(), generator=generator)
        return z, log_bernoulli(z, logits)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x, z) + log Z, shape (n_samples,): the prior enters by its energy, without its log Z."""
        left, right = z[:, :N_LEFT], z[:, N_LEFT:]
        minus_energy = ((left @ self.W) * right).sum(-1) + z @ self.b
        return minus_energy + log_bernoulli(x.float(), self.decoder(z))

    def prior(self) -> BipartiteMachine:
        """Return the Boltzmann machine of the prior, whose log Z `log_joint` leaves out."""
        b = self.b.detach().numpy()
        return BipartiteMachine.from_arrays(self.W.detach().numpy(), b[:N_LEFT], b[N_LEFT:])


@torch.no_grad()
def exact_log_likelihood(model: MyModel, images: np.ndarray, log_z: float) -> float:
    """Return the mean of log Σ_z p(x, z) over the images, by enumeration of z, in nats."""
    z = torch.tensor(list(product((0.0, 1.0), repeat=N_LEFT + N_RIGHT)))
    joint = torch.stack([model.log_joint(torch.from_numpy(x), z) for x in images])
    return float(torch.logsumexp(joint, 1).mean()) - log_z


def main() -> None:
    torch.manual_seed(0)
    images = load_data("bars-and-stripes-3x3").fixed("test")
    model = MyModel(images.shape[1])

    log_z = estimate_log_z(model.prior(), seed=0)
    config = LikelihoodConfig(n_samples=10_000, limit=20)
    result = estimate_log_likelihood(model, images, log_z, config, prior=model.prior())

    print(result)
    print(f"exact {exact_log_likelihood(model, images[result.per_image['index']], log_z.log_z):.4f}")
    print(f"gap of the bound: about {result.gap:.2g} nats; trustworthy: {result.trustworthy}")
    for reason in result.reasons:
        print(reason)


if __name__ == "__main__":
    main()

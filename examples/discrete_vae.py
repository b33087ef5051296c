"""A discrete VAE in sixty lines of code: the library's parts, with the training loop in the open.

    python examples/discrete_vae.py

The images are 4 x 4 bars and stripes. An encoder proposes 12 binary units z, whose prior is a restricted Boltzmann
machine (RBM); smoothing turns z into ζ, through which gradients pass; a decoder turns ζ into pixels. The model is
small enough for an exact log Z and an exact log p(x), which is compared with the best that any model can reach.
"""

import torch
from torch import Tensor

from dvae_core import DVAE, ModelConfig, load_data

N_STEPS = 3000
SIZES = {"n_left": 6, "n_right": 6, "encoder_hidden": (64,), "decoder_hidden": (64,), "sharpness": 5.0}


def build(images: Tensor) -> DVAE:
    """Return an untrained model without continuous layers, whose units are independent given the image."""
    model = DVAE(ModelConfig(n_groups=1, n_layers=0, **SIZES), n_pixels=images.shape[1])
    model.initialise(torch.Generator().manual_seed(0), images.mean(0))
    return model


def bound_plus_log_z(model: DVAE, x: Tensor) -> Tensor:
    """Return log p(x|ζ) - E_q[log q(z|x)] - E_q[E(z)] of each image: its evidence lower bound plus log Z, nats."""
    rho = torch.rand(len(x), model.prior.n_units)
    sample = model.posterior(
        x, rho
    )  # z and ζ from uniform noise, by the inverse CDF of spike-and-exponential (Eq. 9)
    reconstruction = model.log_p_x(x, sample.zeta, [])
    # Units are independent under q and none is coupled to itself, so the mean energy is the energy of the means.
    mean_energy = model.prior.energy(sample.logits.sigmoid())
    return reconstruction - sample.negative_entropy - mean_energy


@torch.no_grad()
def log_z_and_log_p(model: DVAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the exact log Z, and the exact log p(x) of each image for ζ = z (a smoothing without width), nats."""
    n_units = model.prior.n_units
    z = ((torch.arange(2**n_units)[:, None] >> torch.arange(n_units)) & 1).float()  # all states, (2^n, n)
    log_z = torch.logsumexp(-model.prior.energy(z), 0)
    log_joint = torch.stack([model.log_p_x(image, z, []) - model.prior.energy(z) for image in x])
    return log_z, torch.logsumexp(log_joint, 1) - log_z


def train(model: DVAE, images: Tensor, n_steps: int) -> list[float]:
    """Raise the bound by Adam, and return its mean over all images at 11 steps of the training."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(1)
    chains = model.prior.initial_state(200, generator)  # persistent Markov chains: samples of the prior
    bounds = []
    for step in range(n_steps + 1):
        if step % (n_steps // 10) == 0:
            model.eval()
            with torch.no_grad():
                log_z, _ = log_z_and_log_p(model, images[:1])
                bounds.append(float(bound_plus_log_z(model, images).mean() - log_z))
            model.train()
            print(f"step {step:5d}   bound {bounds[-1]:8.3f} nats per image")
        x = images[torch.randint(len(images), (100,))]
        chains = model.prior.gibbs(chains, 5, generator)  # block Gibbs: right side given left, left given right
        # -log Z has the gradient of the mean energy over samples of the prior (the negative phase, Eq. 11).
        gain = bound_plus_log_z(model, x).mean() + model.prior.energy(chains).mean()
        optimizer.zero_grad()
        (-gain).backward()
        optimizer.step()
    model.eval()
    return bounds


def main() -> None:
    """Train a model and compare it with what is known about the images."""
    torch.manual_seed(0)
    images = torch.from_numpy(load_data("bars-and-stripes").fixed("train")).float()
    model = build(images)
    train(model, images, N_STEPS)
    patterns, counts = images.unique(dim=0, return_counts=True)
    p = counts / len(images)
    log_z, log_p = log_z_and_log_p(model, patterns)
    print(f"log Z = {log_z:.3f} nats, exact")
    print(f"log p(x), exact         {(p * log_p).sum():8.3f} nats per image")
    print(f"best that can be        {(p * p.log()).sum():8.3f}  (minus the entropy of the images)")
    print(f"independent pixels      {-torch.distributions.Bernoulli(images.mean(0)).entropy().sum():8.3f}")


if __name__ == "__main__":
    main()

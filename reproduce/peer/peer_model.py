"""A discrete VAE of D-Wave's dwave-pytorch-plugin as a model that `dvae_eval` can evaluate.

The plugin's prior is a Boltzmann machine of spins s in {-1,+1}, p(s) = exp(-H(s)) / Z, with the Hamiltonian H(s) =
h's + Σ_(i,j) J_ij s_i s_j. In its posterior every spin is +1 with probability σ(logit), independently of the
others: the hard Gumbel-softmax of two logits (l, 0) is exactly this draw. The decoder returns the logits of
p(x|s).

The plugin is not needed here: a trained model is a file of plain tensors, with the plugin's names below `grbm`, so
that `dvae-eval logz` reads the same file and estimates log Z in its convention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from dvae_core.errors import DataError
from dvae_core.io.files import atomic_write
from dvae_core.io.torch_files import read_torch

__all__ = ["Decoder", "PeerModel", "encoder", "load_peer", "save_peer"]

PRIOR = ("_linear", "_quadratic", "_edge_idx_i", "_edge_idx_j")


class Clip(nn.Module):
    """Keep logits within ± limit, as the plugin's example does."""

    limit: Tensor

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.register_buffer("limit", torch.tensor(limit))

    def forward(self, logits: Tensor) -> Tensor:
        """Return the clipped logits, of the same shape."""
        return logits.clamp(-self.limit, self.limit)


def network(widths: Sequence[int]) -> list[nn.Module]:
    """Return linear layers of these widths; the hidden ones with batch norm and leaky ReLU, as in the example."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.LeakyReLU()]
    return layers[:-2]


def encoder(widths: Sequence[int], limit: float) -> nn.Sequential:
    """Return the network from x, shape (n_images, n_pixels), to the logits of the spins, clipped to ± limit."""
    return nn.Sequential(*network(widths), Clip(limit))


class Decoder(nn.Module):
    """The network from spins, shape (..., n_units), to the logits of the pixels, shape (..., n_pixels)."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.network = nn.Sequential(*network(widths))

    def forward(self, spins: Tensor) -> Tensor:
        """Return the logits; batch norm needs a single leading axis, and the plugin passes two."""
        logits: Tensor = self.network(spins.flatten(0, -2))
        return logits.unflatten(0, spins.shape[:-1])


class SpinMachine(nn.Module):
    """The Hamiltonian H(s) = h's + Σ_(i,j) J_ij s_i s_j, with the plugin's names for its parts."""

    _linear: Tensor
    _quadratic: Tensor
    _edge_idx_i: Tensor
    _edge_idx_j: Tensor

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name in PRIOR:
            self.register_buffer(name, tensors[name].detach().clone())

    def forward(self, spins: Tensor) -> Tensor:
        """Return H of spins of shape (..., n_units), float64, shape (...), nats."""
        s = spins.double()
        pairs = s[..., self._edge_idx_i] * s[..., self._edge_idx_j]
        return s @ self._linear.double() + pairs @ self._quadratic.double()


class PeerModel(nn.Module):
    """Encoder, decoder and machine of spins with the methods of `dvae_eval.likelihood.protocol`."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, prior: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.encoder, self.decoder, self.grbm = encoder, decoder, SpinMachine(prior)

    def sample_latents(self, x: Tensor, n_samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return spins drawn from q(s | x), shape (n_samples, n_units), and log q(s | x), shape (n_samples,)."""
        logits = self.encoder(x.float()[None]).expand(n_samples, -1)
        spins = 2 * torch.bernoulli(logits.sigmoid(), generator=generator) - 1
        return spins, logsigmoid(spins * logits).double().sum(-1)

    def log_joint(self, x: Tensor, latents: Tensor) -> Tensor:
        """Return log p(x | s) - H(s), shape (n_samples,): log p(x, s) + log Z of the spins."""
        logits = self.decoder(latents)
        losses = binary_cross_entropy_with_logits(logits, x.float().expand_as(logits), reduction="none")
        return -self.grbm(latents) - losses.double().sum(-1)


def save_peer(path: Path, model: PeerModel) -> None:
    """Write the tensors of a model to `path`, whole or not at all."""
    with atomic_write(path) as file:
        torch.save(model.state_dict(), file)


def load_peer(path: Path) -> PeerModel:
    """Return the model that `save_peer` wrote, in evaluation mode; its sizes follow from the tensors' shapes.

    Raises
    ------
    DataError
        If the file is damaged, or no such model.
    """
    tensors = read_torch(path)
    try:
        prior = {name: tensors[f"grbm.{name}"] for name in PRIOR}
        model = PeerModel(encoder(_widths(tensors, "encoder."), 0.0), Decoder(_widths(tensors, "decoder.")), prior)
        model.load_state_dict(tensors)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
        raise DataError(f"{path}: no model of train_peer.py; train one") from error
    return model.eval().requires_grad_(False)


def _widths(tensors: Mapping[str, Tensor], part: str) -> list[int]:
    """Return the widths of the linear layers of a part, from its input to its output."""
    weights = [t for name, t in tensors.items() if name.startswith(part) and t.ndim == 2]
    return [weights[0].shape[1], *(weight.shape[0] for weight in weights)]
